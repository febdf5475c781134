"""Neck for inference: 1x1 convolutions move before the upsampling and the concatenation that they read.

With w = [a, b], w * concat(upsample(x), l * y) = upsample(a * x) + (b l) * y: a has a quarter of the positions, and the
lateral convolution l is gone.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.accelerate.graph import LayerGraph
from ultralytics.nn.modules.block import C2, C3, C2f, C3f, RepC3
from ultralytics.nn.modules.conv import Concat, Conv

# 1x1 convolutions at the start of a block; nothing else in it reads its input.
ENTRIES: dict[type[nn.Module], tuple[str, ...]] = {
    RepC3: ("cv1", "cv2"), C3: ("cv1", "cv2"), C3f: ("cv1", "cv2"), C2f: ("cv1",), C2: ("cv1",),
}  # fmt: skip


def merge_pointwise(graph: LayerGraph) -> int:
    """Merge the entries of each CSP block, split over a concatenation where that saves work; return how many blocks."""
    merged = 0
    for block in list(graph.layers):
        # subclasses that only have other inner blocks keep the forward; some blocks choose one in the constructor
        forward = getattr(block.forward, "__func__", None)
        names = next((names for kind, names in ENTRIES.items() if forward is kind.forward), ())
        entries = [getattr(block, name) for name in names]
        if entries and all(map(is_pointwise, entries)) and len({repr(entry.act) for entry in entries}) == 1:
            _merge(graph, block, names)
            merged += 1
    return merged


def is_pointwise(layer: nn.Module) -> bool:
    """Check for a plain 1x1 convolution with a folded batch norm, with or without an activation."""
    if type(layer) is not Conv or not isinstance(layer.bn, nn.Identity):
        return False
    conv = layer.conv
    return conv.kernel_size == conv.stride == (1, 1) and conv.padding == (0, 0) and conv.groups == 1


@dataclass
class Part:
    """One map that the merged convolution reads, and its share of the weights."""

    source: int
    weight: Tensor  # (channels of the merged convolution, channels of the map)
    bias: Tensor | float = 0.0
    scale: int = 1  # factor by which its output is upsampled
    absorbed: tuple[nn.Module, ...] = ()  # layers that it replaces


def _merge(graph: LayerGraph, block: nn.Module, names: tuple[str, ...]) -> None:
    """Replace a block by one merged convolution and the rest of the block, which reads slices of its channels."""
    entries = [getattr(block, name) for name in names]
    weight = torch.cat([entry.conv.weight.double().flatten(1) for entry in entries])  # (channels, c1)
    bias = torch.cat([entry.conv.bias for entry in entries])
    parts = _split_over_concat(graph, graph.sources[block][0], weight)
    for layer in dict.fromkeys(layer for part in parts for layer in part.absorbed):
        graph.remove(layer)
    first = 0
    for name, entry in zip(names, entries, strict=True):
        setattr(block, name, ChannelSlice(first, first + entry.conv.out_channels))
        first += entry.conv.out_channels
    merged = SplitBlock(SplitConvolution(parts, bias, entries[0].act), block)
    graph.replace(block, merged, [part.source for part in parts])


def _split_over_concat(graph: LayerGraph, source: int, weight: Tensor) -> list[Part]:
    """Return the maps that a concatenation reads if splitting it saves work, else the map itself."""
    whole = [Part(source, weight)]
    concat = graph.producer(source)
    if type(concat) is not Concat or concat.d != 1 or not graph.reads_once(source):
        return whole
    sources = graph.sources[concat]
    shares = weight.split([graph.map_shape(s)[0] for s in sources], 1)
    parts = [_absorb(graph, Part(s, share)) for s, share in zip(sources, shares, strict=True)]
    if not any(part.absorbed for part in parts):
        return whole
    parts[0].absorbed += (concat,)
    return sorted(parts, key=lambda part: part.scale)  # the sum starts at the full size


def _absorb(graph: LayerGraph, part: Part) -> Part:
    """Absorb the upsampling and the 1x1 convolutions without activation that produce the map, where possible."""
    layer = graph.producer(part.source)
    if layer is None or not graph.reads_once(part.source):
        return part
    weight, bias, scale = part.weight, part.bias, part.scale
    if type(layer) is nn.Upsample and layer.mode == "nearest" and layer.scale_factor == 2:
        scale *= 2
    elif is_pointwise(layer) and isinstance(layer.act, nn.Identity):
        lateral = layer.conv.weight.double().flatten(1)  # (channels between, channels of the map)
        out, between, before = weight.shape[0], *lateral.shape
        if out * before > between * (out + before):  # one product is more work than two
            return part
        weight, bias = weight @ lateral, bias + weight @ layer.conv.bias.double()
    else:
        return part
    return _absorb(graph, Part(graph.sources[layer][0], weight, bias, scale, (*part.absorbed, layer)))


class SplitConvolution(nn.Module):
    """A 1x1 convolution whose input channels come from several maps, and its activation."""

    def __init__(self, parts: list[Part], bias: Tensor, act: nn.Module) -> None:
        super().__init__()
        self.convs, self.scales, self.act = nn.ModuleList(), [part.scale for part in parts], act
        for n, part in enumerate(parts):
            conv = nn.Conv2d(part.weight.shape[1], part.weight.shape[0], 1, bias=n == 0)
            conv.weight.data = part.weight[:, :, None, None].to(bias.dtype)
            self.convs.append(conv.requires_grad_(False))
        self.convs[0].bias.data = (bias + sum(part.bias for part in parts)).to(bias.dtype)

    def forward(self, maps: list[Tensor]) -> Tensor:
        total, scale = self.convs[0](maps[0]), self.scales[0]
        if scale > 1:
            total = F.interpolate(total, scale_factor=float(scale), mode="nearest")
        for conv, level, scale in zip(self.convs[1:], maps[1:], self.scales[1:], strict=True):
            add_upsampled(total, conv(level), scale)  # in place: no other layer reads the first
        return self.act(total)


def add_upsampled(total: Tensor, y: Tensor, scale: int) -> None:
    """Add y (B, C, h, w), upsampled by `scale` (nearest), to total (B, C, scale * h, scale * w) in place."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling():  # other runtimes have an operator for it
        total += y if scale == 1 else F.interpolate(y, scale_factor=float(scale), mode="nearest")
    else:
        blocks = total.unflatten(3, (-1, scale)).unflatten(2, (-1, scale))  # (B, C, h, scale, w, scale)
        blocks += y[:, :, :, None, :, None]


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
