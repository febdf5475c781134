"""The official RT-DETR (ResNet-vd) written out a second time under its own parameter names, for inference.

It serves to prove the key map of `ultralytics.nn.weights`: architecture and names are those of rtdetr_pytorch in
https://github.com/lyuwenyu/RT-DETR, the words are this file's, and nothing of the package is used. Every
normalisation has torch's epsilon, 1e-5.
"""

from __future__ import annotations

import math
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Size:
    """What differs between the official models."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool
    hidden: int = 256  # channels of the encoder
    feed_forward: int = 1024  # of the encoder
    expansion: float = 1.0  # of the fusion blocks
    layers: int = 6  # of the decoder


SIZES = {
    "r18": Size((2, 2, 2, 2), False, expansion=0.5, layers=3),
    "r34": Size((3, 4, 6, 3), False, expansion=0.5, layers=4),
    "r50": Size((3, 4, 6, 3), True),
    "r101": Size((3, 4, 23, 3), True, hidden=384, feed_forward=2048),
}


class ConvNorm(nn.Module):
    def __init__(self, c1: int, c2: int, k: int, s: int = 1, act: nn.Module | None = None):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2, bias=False)
        self.norm = nn.BatchNorm2d(c2)
        self.act = act or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


class ResidualBlock(nn.Module):
    """A block of ResNet-vd, basic or with a bottleneck."""

    def __init__(self, c1: int, c2: int, s: int, first: bool, bottleneck: bool):
        super().__init__()
        relu, out = nn.ReLU(), 4 * c2 if bottleneck else c2
        if bottleneck:
            self.branch2a, self.branch2b = ConvNorm(c1, c2, 1, 1, relu), ConvNorm(c2, c2, 3, s, relu)
            self.branch2c = ConvNorm(c2, out, 1)
        else:
            self.branch2a, self.branch2b = ConvNorm(c1, c2, 3, s, relu), ConvNorm(c2, c2, 3)
        if first and s == 2:
            pool = nn.AvgPool2d(2, 2, 0, ceil_mode=True)
            self.short = nn.Sequential(OrderedDict(pool=pool, conv=ConvNorm(c1, out, 1)))
        elif first:
            self.short = ConvNorm(c1, out, 1)
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        out = self.branch2b(self.branch2a(x))
        if hasattr(self, "branch2c"):
            out = self.branch2c(out)
        return F.relu(out + (self.short(x) if self.first else x))


class Stage(nn.Module):
    def __init__(self, blocks: list[nn.Module]):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Backbone(nn.Module):
    """ResNet-vd; maps at strides 8, 16 and 32."""

    def __init__(self, size: Size):
        super().__init__()
        relu = nn.ReLU()
        convs = (ConvNorm(3, 32, 3, 2, relu), ConvNorm(32, 32, 3, 1, relu), ConvNorm(32, 64, 3, 1, relu))
        self.conv1 = nn.Sequential(OrderedDict((f"conv1_{n}", conv) for n, conv in enumerate(convs, 1)))
        self.res_layers, channels = nn.ModuleList(), 64
        for n, (count, width) in enumerate(zip(size.blocks, (64, 128, 256, 512), strict=True)):
            blocks = []
            for i in range(count):
                blocks.append(ResidualBlock(channels, width, 2 if n and not i else 1, i == 0, size.bottleneck))
                channels = 4 * width if size.bottleneck else width
            self.res_layers.append(Stage(blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.max_pool2d(self.conv1(x), 3, 2, 1)
        maps = []
        for stage in self.res_layers:
            x = stage(x)
            maps.append(x)
        return maps[1:]


class RepVgg(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.conv1, self.conv2 = ConvNorm(c, c, 3), ConvNorm(c, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.conv1(x) + self.conv2(x))


class Fusion(nn.Module):
    """CSP block of three RepVGG blocks."""

    def __init__(self, c1: int, c2: int, expansion: float):
        super().__init__()
        hidden, silu = int(c2 * expansion), nn.SiLU()
        self.conv1, self.conv2 = ConvNorm(c1, hidden, 1, 1, silu), ConvNorm(c1, hidden, 1, 1, silu)
        self.bottlenecks = nn.Sequential(*(RepVgg(hidden) for _ in range(3)))
        self.conv3 = ConvNorm(hidden, c2, 1, 1, silu) if hidden != c2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.bottlenecks(self.conv1(x)) + self.conv2(x))


class EncoderLayer(nn.Module):
    """Attention over the positions of a map, post-normalised."""

    def __init__(self, c: int, feed_forward: int):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(c, 8, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(c, feed_forward), nn.Linear(feed_forward, c)
        self.norm1, self.norm2 = nn.LayerNorm(c), nn.LayerNorm(c)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        q = x + position
        x = self.norm1(x + self.self_attn(q, q, x)[0])
        return self.norm2(x + self.linear2(F.gelu(self.linear1(x))))


def sine_position(w: int, h: int, c: int) -> Tensor:
    """(1, w * h, c); its rows run over w first, as in the official code, though the tokens run over h first."""
    x, y = torch.meshgrid(torch.arange(w).float(), torch.arange(h).float(), indexing="ij")
    omega = 1.0 / 10000 ** (torch.arange(c // 4).float() / (c // 4))
    x, y = x.flatten()[:, None] * omega, y.flatten()[:, None] * omega
    return torch.cat((x.sin(), x.cos(), y.sin(), y.cos()), 1)[None]


class Encoder(nn.Module):
    """Hybrid encoder: attention on the coarsest map, then fusion from coarse to fine and back."""

    def __init__(self, channels: tuple[int, int, int], size: Size):
        super().__init__()
        c, silu = size.hidden, nn.SiLU()
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, c, 1, bias=False), nn.BatchNorm2d(c)) for i in channels
        )
        layers = nn.Module()
        layers.layers = nn.ModuleList([EncoderLayer(c, size.feed_forward)])
        self.encoder = nn.ModuleList([layers])
        self.lateral_convs = nn.ModuleList(ConvNorm(c, c, 1, 1, silu) for _ in range(2))
        self.fpn_blocks = nn.ModuleList(Fusion(2 * c, c, size.expansion) for _ in range(2))
        self.downsample_convs = nn.ModuleList(ConvNorm(c, c, 3, 2, silu) for _ in range(2))
        self.pan_blocks = nn.ModuleList(Fusion(2 * c, c, size.expansion) for _ in range(2))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [project(m) for project, m in zip(self.input_proj, maps, strict=True)]
        _, c, h, w = maps[2].shape
        tokens = self.encoder[0].layers[0](maps[2].flatten(2).transpose(1, 2), sine_position(w, h, c))
        inner = [tokens.transpose(1, 2).reshape(-1, c, h, w)]
        for n, finer in enumerate((maps[1], maps[0])):
            inner[0] = self.lateral_convs[n](inner[0])
            up = F.interpolate(inner[0], scale_factor=2.0, mode="nearest")
            inner.insert(0, self.fpn_blocks[n](torch.cat((up, finer), 1)))
        outs = [inner[0]]
        for n in range(2):
            down = self.downsample_convs[n](outs[-1])
            outs.append(self.pan_blocks[n](torch.cat((down, inner[n + 1]), 1)))
        return outs


class Perceptron(nn.Module):
    def __init__(self, *widths: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class DeformableAttention(nn.Module):
    def __init__(self, c: int = 256, heads: int = 8, levels: int = 3, points: int = 4):
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(c, heads * levels * points * 2)
        self.attention_weights = nn.Linear(c, heads * levels * points)
        self.value_proj, self.output_proj = nn.Linear(c, c), nn.Linear(c, c)

    def forward(self, query: Tensor, boxes: Tensor, memory: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        b, n, c = query.shape
        value = self.value_proj(memory).view(b, -1, self.heads, c // self.heads)
        offsets = self.sampling_offsets(query).view(b, n, self.heads, self.levels, self.points, 2)
        weights = self.attention_weights(query).view(b, n, self.heads, -1).softmax(-1)
        weights = weights.view(b, n, self.heads, self.levels, self.points)
        where = boxes[:, :, None, None, None, :2] + offsets / self.points * boxes[:, :, None, None, None, 2:] * 0.5
        total, start = 0, 0
        for level, (h, w) in enumerate(shapes):
            image = value[:, start : start + h * w].permute(0, 2, 3, 1).reshape(b * self.heads, -1, h, w)
            grid = (2 * where[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)  # (b * heads, n, points, 2)
            found = F.grid_sample(image, grid, align_corners=False).view(b, self.heads, -1, n, self.points)
            total = total + (found * weights[:, :, :, level].transpose(1, 2)[:, :, None]).sum(-1)
            start += h * w
        return self.output_proj(total.flatten(1, 2).transpose(1, 2))


class DecoderLayer(nn.Module):
    def __init__(self, c: int = 256):
        super().__init__()
        self.self_attn, self.norm1 = nn.MultiheadAttention(c, 8, batch_first=True), nn.LayerNorm(c)
        self.cross_attn, self.norm2 = DeformableAttention(c), nn.LayerNorm(c)
        self.linear1, self.linear2, self.norm3 = nn.Linear(c, 1024), nn.Linear(1024, c), nn.LayerNorm(c)

    def forward(self, x: Tensor, position: Tensor, boxes: Tensor, memory: Tensor, shapes: list) -> Tensor:
        q = x + position
        x = self.norm1(x + self.self_attn(q, q, x)[0])
        x = self.norm2(x + self.cross_attn(x + position, boxes, memory, shapes))
        return self.norm3(x + self.linear2(F.relu(self.linear1(x))))


def logit(x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    return (x.clamp(min=1e-5) / (1 - x).clamp(min=1e-5)).log()


class Decoder(nn.Module):
    """Query selection and the decoder. In eval: class probabilities (B, 300, 80), boxes (B, 300, 4) cx, cy, w, h."""

    def __init__(self, channels: int, layers: int, classes: int = 80, c: int = 256):
        super().__init__()
        self.input_proj = nn.ModuleList(
            nn.Sequential(OrderedDict(conv=nn.Conv2d(channels, c, 1, bias=False), norm=nn.BatchNorm2d(c)))
            for _ in range(3)
        )
        self.decoder = nn.Module()
        self.decoder.layers = nn.ModuleList(DecoderLayer(c) for _ in range(layers))
        self.denoising_class_embed = nn.Embedding(classes + 1, c, padding_idx=classes)  # one more: no object
        self.query_pos_head = Perceptron(4, 2 * c, c)
        self.enc_output = nn.Sequential(nn.Linear(c, c), nn.LayerNorm(c))
        self.enc_score_head, self.enc_bbox_head = nn.Linear(c, classes), Perceptron(c, c, c, 4)
        self.dec_score_head = nn.ModuleList(nn.Linear(c, classes) for _ in range(layers))
        self.dec_bbox_head = nn.ModuleList(Perceptron(c, c, c, 4) for _ in range(layers))

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        maps = [project(m) for project, m in zip(self.input_proj, maps, strict=True)]
        shapes = [tuple(m.shape[2:]) for m in maps]
        memory = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)
        anchors, valid = self.anchors(shapes)
        output = self.enc_output(torch.where(valid, memory, torch.zeros(())))
        scores = self.enc_score_head(output)
        boxes = self.enc_bbox_head(output) + anchors
        chosen = scores.max(-1).values.topk(min(300, scores.shape[1]), 1).indices[..., None]
        reference = boxes.gather(1, chosen.expand(-1, -1, 4)).sigmoid()
        x = output.gather(1, chosen.expand(-1, -1, output.shape[-1]))
        for layer, box_head in zip(self.decoder.layers, self.dec_bbox_head, strict=True):
            x = layer(x, self.query_pos_head(reference), reference, memory, shapes)
            reference = (box_head(x) + logit(reference)).sigmoid()
        return self.dec_score_head[-1](x).sigmoid(), reference

    @staticmethod
    def anchors(shapes: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        rows = []
        for level, (h, w) in enumerate(shapes):
            y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
            side = torch.full((h, w), 0.05 * 2**level)
            rows.append(torch.stack(((x + 0.5) / w, (y + 0.5) / h, side, side), -1).view(-1, 4))
        boxes = torch.cat(rows)[None]
        valid = ((boxes > 0.01) & (boxes < 0.99)).all(-1, keepdim=True)
        return torch.where(valid, (boxes / (1 - boxes)).log(), torch.tensor(math.inf)), valid


class OfficialRTDETR(nn.Module):
    def __init__(self, name: str):
        super().__init__()
        size = SIZES[name]
        widths = (512, 1024, 2048) if size.bottleneck else (128, 256, 512)
        self.backbone = Backbone(size)
        self.encoder = Encoder(widths, size)
        self.decoder = Decoder(size.hidden, size.layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.decoder(self.encoder(self.backbone(x)))


@torch.no_grad()
def fill(model: nn.Module) -> nn.Module:
    """Set every tensor to numbers that follow from its name alone; the signal neither dies out nor explodes."""
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        noise = torch.from_numpy(rng.standard_normal(tuple(tensor.shape), dtype=np.float32))
        if name.endswith("running_var"):
            tensor.copy_(noise.abs() * 0.3 + 0.02)  # small ones, so that a wrong epsilon shows
        elif tensor.ndim == 1:
            is_scale = name.endswith("weight")
            last = name.endswith(("branch2c.norm.weight", "branch2b.norm.weight"))
            tensor.copy_((1 + 0.1 * noise) * (0.2 if last else 0.6) if is_scale else 0.1 * noise)
        else:
            tensor.copy_(noise * (1.0 if tensor.ndim == 4 else 0.8) / math.sqrt(math.prod(tensor.shape[1:])))
    return model.eval()
