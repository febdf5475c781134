"""Rewrite of the neck: 1x1 convolutions move before the upsampling and the concatenation that they read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ultralytics.nn.accelerate.graph import LayerGraph
from ultralytics.nn.modules.block import C2, C3, C2f, C3f, RepC3
from ultralytics.nn.modules.conv import Concat, Conv

# The 1x1 convolutions with which a block begins: nothing else of it reads its input.
ENTRIES: dict[type[nn.Module], tuple[str, ...]] = {
    RepC3: ("cv1", "cv2"), C3: ("cv1", "cv2"), C3f: ("cv1", "cv2"), C2f: ("cv1",), C2: ("cv1",),
}  # fmt: skip


class JoinEntries:
    """Makes the entries of each CSP block one convolution, and takes it apart over a concatenation where that pays.

    With w = [a, b], w * concat(upsample(x), l * y) = upsample(a * x) + (b l) * y: a has a quarter of the positions, and
    the lateral convolution l is gone. Blocks of which the pattern does not hold stay as they are.
    """

    def __call__(self, graph: LayerGraph) -> None:
        for block in list(graph.layers):
            entries = [getattr(block, name) for name in entry_names(block)]
            if entries and all(is_pointwise(entry) for entry in entries) and _alike(entries):
                self._rewrite(graph, block, entries)

    def _rewrite(self, graph: LayerGraph, block: nn.Module, entries: list[Conv]) -> None:
        weight = torch.cat([entry.conv.weight.flatten(1) for entry in entries])  # (channels, c1)
        bias = torch.cat([entry.conv.bias for entry in entries])
        (source,) = graph.sources[block]
        parts = _parts(graph, source, weight)
        for layer in dict.fromkeys(layer for part in parts for layer in part.absorbed):
            graph.remove(layer)
        joined = EntryOverParts(parts, bias, entries[0].act)
        first = 0
        for name, entry in zip(entry_names(block), entries, strict=True):
            setattr(block, name, Channels(first, first + entry.conv.out_channels))
            first += entry.conv.out_channels
        graph.replace(block, BlockOverParts(joined, block), [part.source for part in parts])


def entry_names(block: nn.Module) -> tuple[str, ...]:
    """Names of the convolutions that alone read the block's input; none for a class that is not known."""
    for kind, names in ENTRIES.items():
        if type(block).forward is kind.forward:  # also those that only have other inner blocks
            return names
    return ()


def is_pointwise(layer: nn.Module) -> bool:
    """Whether it is a plain 1x1 convolution with a folded normalisation, and maybe an activation."""
    if type(layer) is not Conv or not isinstance(layer.bn, nn.Identity):
        return False
    conv = layer.conv
    plain = conv.kernel_size == conv.stride == conv.dilation == (1, 1) and conv.padding == (0, 0) and conv.groups == 1
    return plain and conv.bias is not None


def _alike(entries: list[Conv]) -> bool:
    """Whether one activation serves all."""
    acts = [entry.act for entry in entries]
    return all(repr(act) == repr(acts[0]) and not list(act.parameters()) for act in acts)


@dataclass
class Part:
    """A map of which a share of the joint convolution reads."""

    source: int
    weight: Tensor  # (channels of the joint convolution, channels of the map)
    scale: int = 1  # its output is enlarged as often
    bias: Tensor | None = None
    absorbed: tuple[nn.Module, ...] = ()  # layers that it stands for


def _parts(graph: LayerGraph, source: int, weight: Tensor) -> list[Part]:
    """The maps behind a concatenation, if taking it apart saves work; else the map itself."""
    whole = [Part(source, weight)]
    concat = graph.producer(source)
    if type(concat) is not Concat or concat.d != 1 or not graph.reads_once(source):
        return whole
    sources = graph.sources[concat]
    channels = [graph.map_shape(s)[1] for s in sources]
    parts = [_behind(graph, Part(s, w)) for s, w in zip(sources, weight.split(channels, 1), strict=True)]
    if not any(part.absorbed for part in parts):
        return whole
    parts[0].absorbed += (concat,)
    return sorted(parts, key=lambda part: part.scale)  # the sum starts at the full size


def _behind(graph: LayerGraph, part: Part) -> Part:
    """The part with the upsampling and the linear 1x1 convolution that give its map taken in, where they can be."""
    layer = graph.producer(part.source)
    if layer is None or not graph.reads_once(part.source) or layer.num_slots > 1:
        return part
    (source,) = graph.sources[layer] if len(graph.sources[layer]) == 1 else (None,)
    if source is None:
        return part
    if type(layer) is nn.Upsample and layer.mode == "nearest" and (scale := _whole(layer.scale_factor)):
        return _behind(graph, Part(source, part.weight, part.scale * scale, part.bias, (*part.absorbed, layer)))
    if is_pointwise(layer) and isinstance(layer.act, nn.Identity):
        lateral = layer.conv.weight.flatten(1).double()  # (channels between, channels of the map)
        out, between, before = part.weight.shape[0], *lateral.shape
        if out * before <= between * (out + before):  # one product is no more work than two
            bias = (part.weight.double() @ layer.conv.bias.double()).to(part.weight)
            bias = bias if part.bias is None else bias + part.bias
            weight = (part.weight.double() @ lateral).to(part.weight)
            return _behind(graph, Part(source, weight, part.scale, bias, (*part.absorbed, layer)))
    return part


def _whole(scale: float | tuple | None) -> int:
    """A whole scale factor of both sides; 0 for any other."""
    return int(scale) if isinstance(scale, (int, float)) and scale == int(scale) else 0


class EntryOverParts(nn.Module):
    """One 1x1 convolution whose input is spread over several maps, and its activation."""

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
            add_upsampled(total, conv(level), scale)  # into the buffer of the first, which nobody else has
        return nn.functional.silu(total, inplace=True) if type(self.act) is nn.SiLU else self.act(total)


def add_upsampled(total: Tensor, y: Tensor, scale: int) -> None:
    """Add the map y (B, C, h, w) to total (B, C, scale * h, scale * w), each value to its scale x scale positions."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling():  # a graph that runs elsewhere has operators for it
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


class Channels(nn.Module):
    """Channels first to last - 1 of a map."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__()
        self.first, self.last = first, last

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.first : self.last]


class BlockOverParts(nn.Module):
    """A block whose entries were joined: they only pick their channels."""

    def __init__(self, entry: EntryOverParts, block: nn.Module) -> None:
        super().__init__()
        self.entry, self.block = entry, block

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.block(self.entry(maps))
