"""Neck for inference: 1x1 convolutions move before the upsampling and the concatenation that they read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ultralytics.nn.accelerate.graph import LayerGraph
from ultralytics.nn.modules.block import C2, C3, C2f, C3f, RepC3
from ultralytics.nn.modules.conv import Concat, Conv

# 1x1 convolutions at the start of a block; nothing else in it reads its input.
ENTRIES: dict[type[nn.Module], tuple[str, ...]] = {
    RepC3: ("cv1", "cv2"), C3: ("cv1", "cv2"), C3f: ("cv1", "cv2"), C2f: ("cv1",), C2: ("cv1",),
}  # fmt: skip


def merge_pointwise(graph: LayerGraph) -> int:
    """Merge the entries of each CSP block and split the result over a concatenation where that saves work.

    With w = [a, b], w * concat(upsample(x), l * y) = upsample(a * x) + (b l) * y: a has a quarter of the positions, and
    the lateral convolution l is gone. Blocks with another pattern stay as they are. Returns the number of blocks.
    """
    merged = 0
    for block in list(graph.layers):
        entries = [getattr(block, name) for name in entry_names(block)]
        if entries and all(is_pointwise(entry) for entry in entries) and _same_activation(entries):
            _merge(graph, block, entries)
            merged += 1
    return merged


def _merge(graph: LayerGraph, block: nn.Module, entries: list[Conv]) -> None:
    weight = torch.cat([entry.conv.weight.flatten(1) for entry in entries])  # (channels, c1)
    bias = torch.cat([entry.conv.bias for entry in entries])
    (source,) = graph.sources[block]
    parts = _split_over_concat(graph, source, weight)
    for layer in dict.fromkeys(layer for part in parts for layer in part.absorbed):
        graph.remove(layer)
    first = 0
    for name, entry in zip(entry_names(block), entries, strict=True):
        setattr(block, name, ChannelSlice(first, first + entry.conv.out_channels))
        first += entry.conv.out_channels
    merged = SplitBlock(SplitConvolution(parts, bias, entries[0].act), block)
    graph.replace(block, merged, [part.source for part in parts])


def entry_names(block: nn.Module) -> tuple[str, ...]:
    """Return the names of the only convolutions that read the block's input; empty for an unknown class."""
    for kind, names in ENTRIES.items():
        if type(block).forward is kind.forward:  # also those that only have other inner blocks
            return names
    return ()


def is_pointwise(layer: nn.Module) -> bool:
    """Check for a plain 1x1 convolution with a folded batch norm, with or without an activation."""
    if type(layer) is not Conv or not isinstance(layer.bn, nn.Identity):
        return False
    conv = layer.conv
    plain = conv.kernel_size == conv.stride == conv.dilation == (1, 1) and conv.padding == (0, 0) and conv.groups == 1
    return plain and conv.bias is not None


def _same_activation(entries: list[Conv]) -> bool:
    acts = [entry.act for entry in entries]
    return all(repr(act) == repr(acts[0]) and not list(act.parameters()) for act in acts)


@dataclass
class Part:
    """One map that the merged convolution reads, and its share of the weights."""

    source: int
    weight: Tensor  # (channels of the merged convolution, channels of the map)
    scale: int = 1  # factor by which its output is upsampled
    bias: Tensor | None = None
    absorbed: tuple[nn.Module, ...] = ()  # layers that it replaces


def _split_over_concat(graph: LayerGraph, source: int, weight: Tensor) -> list[Part]:
    """Return the maps that a concatenation reads if splitting it saves work, else the map itself."""
    whole = [Part(source, weight)]
    concat = graph.producer(source)
    if type(concat) is not Concat or concat.d != 1 or not graph.reads_once(source):
        return whole
    sources = graph.sources[concat]
    channels = [graph.map_shape(s)[0] for s in sources]
    parts = [_absorb(graph, Part(s, w)) for s, w in zip(sources, weight.split(channels, 1), strict=True)]
    if not any(part.absorbed for part in parts):
        return whole
    parts[0].absorbed += (concat,)
    return sorted(parts, key=lambda part: part.scale)  # the sum starts at the full size


def _absorb(graph: LayerGraph, part: Part) -> Part:
    """Absorb the upsampling and the 1x1 convolution without activation that produce the map, where possible."""
    layer = graph.producer(part.source)
    if layer is None or not graph.reads_once(part.source) or layer.num_slots > 1:
        return part
    (source,) = graph.sources[layer] if len(graph.sources[layer]) == 1 else (None,)
    if source is None:
        return part
    if type(layer) is nn.Upsample and layer.mode == "nearest" and (scale := _whole(layer.scale_factor)):
        return _absorb(graph, Part(source, part.weight, part.scale * scale, part.bias, (*part.absorbed, layer)))
    if is_pointwise(layer) and isinstance(layer.act, nn.Identity):
        lateral = layer.conv.weight.flatten(1).double()  # (channels between, channels of the map)
        out, between, before = part.weight.shape[0], *lateral.shape
        if out * before <= between * (out + before):  # one product is no more work than two
            bias = (part.weight.double() @ layer.conv.bias.double()).to(part.weight)
            bias = bias if part.bias is None else bias + part.bias
            weight = (part.weight.double() @ lateral).to(part.weight)
            return _absorb(graph, Part(source, weight, part.scale, bias, (*part.absorbed, layer)))
    return part


def _whole(scale: float | tuple | None) -> int:
    """Return an integer scale factor of both sides, 0 for any other."""
    return int(scale) if isinstance(scale, (int, float)) and scale == int(scale) else 0


class SplitConvolution(nn.Module):
    """A 1x1 convolution whose input channels come from several maps, and its activation."""

    def __init__(self, parts: list[Part], bias: Tensor, act: nn.Module) -> None:
        super().__init__()
        self.convs, self.scales, self.act = nn.ModuleList(), [part.scale for part in parts], act
        for n, part in enumerate(parts):
            bias_of_part = torch.zeros_like(bias) if part.bias is None else part.bias
            self.convs.append(_pointwise(part.weight, bias_of_part if n else bias + bias_of_part))

    def forward(self, maps: list[Tensor]) -> Tensor:
        total, scale = self.convs[0](maps[0]), self.scales[0]
        if scale > 1:
            total = nn.functional.interpolate(total, scale_factor=float(scale), mode="nearest")
        for conv, level, scale in zip(self.convs[1:], maps[1:], self.scales[1:], strict=True):
            add_upsampled(total, conv(level), scale)  # in place: no other layer reads the first
        return self.act(total)


def add_upsampled(total: Tensor, y: Tensor, scale: int) -> None:
    """Add y (B, C, h, w), upsampled by `scale` (nearest), to total (B, C, scale * h, scale * w) in place."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling():  # other runtimes have an operator for it
        total += y if scale == 1 else nn.functional.interpolate(y, scale_factor=float(scale), mode="nearest")
    else:
        height, width = y.shape[2:]
        blocks = total.unflatten(3, (width, scale)).unflatten(2, (height, scale))  # (B, C, h, scale, w, scale)
        blocks += y[:, :, :, None, :, None]


@torch.no_grad()
def _pointwise(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1).to(weight)
    conv.weight.copy_(weight[:, :, None, None])
    conv.bias.copy_(bias)
    return conv.requires_grad_(False)


class ChannelSlice(nn.Module):
    """Channels first to last - 1 of a map."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__()
        self.first, self.last = first, last

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.first : self.last]


class SplitBlock(nn.Module):
    """A block after its merged entries, which were replaced by slices of channels."""

    def __init__(self, entry: SplitConvolution, block: nn.Module) -> None:
        super().__init__()
        self.entry, self.block = entry, block

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.block(self.entry(maps))
