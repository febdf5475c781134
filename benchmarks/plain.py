"""EfficientViT-RT-DETR as a tutorial writes it: eager modules one after the other, nothing folded, cached or joined.

What the benchmarks compare our network with. Names of parameters are those of the published checkpoints, so that
`load_state_dict` takes ours. Papers: https://arxiv.org/abs/2305.07027, https://arxiv.org/abs/2304.08069.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.denoising import get_cdn_group
from ultralytics.nn.modules.head import RTDETRDecoder
from ultralytics.nn.tasks import RTDETRDetectionModel

SIZES = {  # channels, blocks and heads of the stages; kernels of the queries of head 0, 1, ...
    "m0": ((64, 128, 192), (1, 2, 3), (4, 4, 4), (7, 5, 3, 3)),
    "m1": ((128, 144, 192), (1, 2, 3), (2, 3, 3), (7, 5, 3, 3)),
    "m2": ((128, 192, 224), (1, 2, 3), (4, 3, 2), (7, 5, 3, 3)),
    "m3": ((128, 240, 320), (1, 2, 3), (4, 3, 4), (5, 5, 5, 5)),
    "m4": ((128, 256, 384), (1, 2, 3), (4, 4, 4), (7, 5, 3, 3)),
    "m5": ((192, 288, 384), (1, 3, 4), (3, 3, 4), (7, 5, 3, 3)),
}
KEY_DIM, WINDOW = 16, 7
HIDDEN, HEADS, LEVELS, POINTS, LAYERS, QUERIES, DENOISING = 256, 8, 3, 4, 3, 300, 100


# Backbone -------------------------------------------------------------------------------------------------------------


class ConvNorm(nn.Sequential):
    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, groups: int = 1):
        super().__init__()
        self.add_module("c", nn.Conv2d(c1, c2, k, s, k // 2, groups=groups, bias=False))
        self.add_module("bn", nn.BatchNorm2d(c2, eps=1e-3, momentum=0.03))


class Residual(nn.Module):
    def __init__(self, m: nn.Module):
        super().__init__()
        self.m = m

    def forward(self, x: Tensor) -> Tensor:
        return x + self.m(x)


class FeedForward(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.pw1, self.act, self.pw2 = ConvNorm(dim, 2 * dim), nn.ReLU(), ConvNorm(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.pw2(self.act(self.pw1(x)))


class SqueezeExcite(nn.Module):
    def __init__(self, c: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(c, hidden, 1), nn.Conv2d(hidden, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


class PatchMerging(nn.Module):
    def __init__(self, dim: int, out: int):
        super().__init__()
        wide = 4 * dim
        self.conv1, self.conv2, self.conv3 = ConvNorm(dim, wide), ConvNorm(wide, wide, 3, 2, wide), ConvNorm(wide, out)
        self.act, self.se = nn.ReLU(), SqueezeExcite(wide, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.se(self.act(self.conv2(self.act(self.conv1(x))))))


class GroupAttention(nn.Module):
    """Cascaded group attention in a window: head after head, each on its own slice of the channels."""

    def __init__(self, dim: int, heads: int, kernels: tuple[int, ...]):
        super().__init__()
        self.dim = dim // heads
        self.qkvs = nn.ModuleList(ConvNorm(self.dim, 2 * KEY_DIM + self.dim) for _ in range(heads))
        self.dws = nn.ModuleList(ConvNorm(KEY_DIM, KEY_DIM, k, groups=KEY_DIM) for k in kernels[:heads])
        self.proj = nn.Sequential(nn.ReLU(), ConvNorm(dim, dim))
        self.attention_biases = nn.Parameter(torch.zeros(heads, WINDOW * WINDOW))
        places = [(row, column) for row in range(WINDOW) for column in range(WINDOW)]
        table = [[abs(a - c) * WINDOW + abs(b - d) for c, d in places] for a, b in places]
        self.register_buffer("attention_bias_idxs", torch.tensor(table))

    def train(self, mode: bool = True) -> GroupAttention:
        super().train(mode)  # the one thing that is kept between calls: the biases, in eval
        self.kept = None if mode else self.attention_biases.detach()[:, self.attention_bias_idxs]
        return self

    def forward(self, x: Tensor) -> Tensor:  # (B, dim, h, w)
        batch, _, h, w = x.shape
        slices, outputs = x.chunk(len(self.qkvs), 1), []
        biases = self.attention_biases[:, self.attention_bias_idxs] if self.training else self.kept
        for i, qkv in enumerate(self.qkvs):
            own = slices[i] if i == 0 else slices[i] + outputs[-1]
            q, k, v = qkv(own).split([KEY_DIM, KEY_DIM, self.dim], 1)
            q, k, v = self.dws[i](q).flatten(2), k.flatten(2), v.flatten(2)  # (B, C, h * w)
            attention = (q.transpose(1, 2) @ k) * KEY_DIM**-0.5 + biases[i]
            outputs.append((v @ attention.softmax(-1).transpose(1, 2)).view(batch, self.dim, h, w))
        return self.proj(torch.cat(outputs, 1))


class WindowAttention(nn.Module):
    def __init__(self, dim: int, heads: int, kernels: tuple[int, ...]):
        super().__init__()
        self.attn = GroupAttention(dim, heads, kernels)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W), cut into windows and put together again
        batch, c, height, width = x.shape
        if height == WINDOW and width == WINDOW:
            return self.attn(x)
        x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))  # (B, H, W, C)
        rows, columns = x.shape[1] // WINDOW, x.shape[2] // WINDOW
        x = x.view(batch, rows, WINDOW, columns, WINDOW, c).transpose(2, 3)
        x = self.attn(x.reshape(-1, WINDOW, WINDOW, c).permute(0, 3, 1, 2))
        x = x.permute(0, 2, 3, 1).view(batch, rows, columns, WINDOW, WINDOW, c).transpose(2, 3)
        x = x.reshape(batch, rows * WINDOW, columns * WINDOW, c)[:, :height, :width]
        return x.permute(0, 3, 1, 2).contiguous()


class Block(nn.Sequential):
    def __init__(self, dim: int, heads: int, kernels: tuple[int, ...]):
        super().__init__()
        self.add_module("dw0", Residual(ConvNorm(dim, dim, 3, groups=dim)))
        self.add_module("ffn0", Residual(FeedForward(dim)))
        self.add_module("mixer", Residual(WindowAttention(dim, heads, kernels)))
        self.add_module("dw1", Residual(ConvNorm(dim, dim, 3, groups=dim)))
        self.add_module("ffn1", Residual(FeedForward(dim)))


class Backbone(nn.Module):
    def __init__(self, size: str):
        super().__init__()
        dims, depths, heads, kernels = SIZES[size]
        stem = [3, *(dims[0] // share for share in (8, 4, 2, 1))]
        layers = []
        for (c1, c2), stride in zip(pairwise(stem), (2, 2, 2, 1), strict=True):
            layers += [ConvNorm(c1, c2, 3, stride), nn.ReLU()]
        self.patch_embed = nn.Sequential(*layers[:-1])
        for i, dim in enumerate(dims):
            blocks = [Block(dim, heads[i], kernels) for _ in range(depths[i])]
            setattr(self, f"blocks{i + 1}", nn.Sequential(*(self.between(dims[i - 1], dim) if i else []), *blocks))

    @staticmethod
    def between(dim: int, out: int) -> list[nn.Module]:
        sides = [nn.Sequential(Residual(ConvNorm(c, c, 3, groups=c)), Residual(FeedForward(c))) for c in (dim, out)]
        return [sides[0], PatchMerging(dim, out), sides[1]]

    def forward(self, x: Tensor) -> list[Tensor]:  # strides 8, 16, 32
        x = self.patch_embed(x)
        first = self.blocks1(x)
        second = self.blocks2(first)
        return [first, second, self.blocks3(second)]


# Hybrid encoder -------------------------------------------------------------------------------------------------------


class Conv(nn.Module):
    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, act: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2, bias=False)
        self.bn = nn.BatchNorm2d(c2, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class RepConv(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.conv1, self.conv2, self.act = Conv(c, c, 3, act=False), Conv(c, c, act=False), nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv1(x) + self.conv2(x))


class RepC3(nn.Module):
    def __init__(self, c1: int, c2: int, n: int = 3):
        super().__init__()
        self.cv1, self.cv2, self.cv3 = Conv(c1, c2 // 2), Conv(c1, c2 // 2), Conv(c2 // 2, c2)
        self.m = nn.Sequential(*(RepConv(c2 // 2) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(self.m(self.cv1(x)) + self.cv2(x))


class EncoderLayer(nn.Module):
    """Self-attention over the positions of the smallest map."""

    def __init__(self, c: int, hidden: int):
        super().__init__()
        self.ma = nn.MultiheadAttention(c, HEADS, batch_first=True)
        self.fc1, self.fc2 = nn.Linear(c, hidden), nn.Linear(hidden, c)
        self.norm1, self.norm2 = nn.LayerNorm(c), nn.LayerNorm(c)

    def forward(self, x: Tensor) -> Tensor:
        _, c, h, w = x.shape
        tokens = x.flatten(2).permute(0, 2, 1)  # (B, h * w, C)
        q = tokens + self.positions(w, h, c).to(tokens)
        tokens = self.norm1(tokens + self.ma(q, q, tokens)[0])
        tokens = self.norm2(tokens + self.fc2(F.gelu(self.fc1(tokens))))
        return tokens.permute(0, 2, 1).reshape(-1, c, h, w)

    @staticmethod
    def positions(w: int, h: int, c: int) -> Tensor:
        """(1, h * w, C) in the order of the tokens, the row encoded first, as in Ultralytics 8.4."""
        y, x = torch.meshgrid(torch.arange(h).float(), torch.arange(w).float(), indexing="ij")
        rates = 1 / 10000 ** (torch.arange(c // 4).float() / (c // 4))
        x, y = x.flatten()[:, None] * rates, y.flatten()[:, None] * rates
        return torch.cat([y.sin(), y.cos(), x.sin(), x.cos()], 1)[None]


# Decoder --------------------------------------------------------------------------------------------------------------


class Perceptron(nn.Module):
    def __init__(self, *widths: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(x) if i == len(self.layers) - 1 else F.relu(layer(x))
        return x


class DeformableAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.sampling_offsets = nn.Linear(HIDDEN, HEADS * LEVELS * POINTS * 2)
        self.attention_weights = nn.Linear(HIDDEN, HEADS * LEVELS * POINTS)
        self.value_proj, self.output_proj = nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, HIDDEN)

    def forward(self, query: Tensor, boxes: Tensor, memory: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        batch, count, _ = query.shape
        value = self.value_proj(memory).view(batch, -1, HEADS, HIDDEN // HEADS)
        offsets = self.sampling_offsets(query).view(batch, count, HEADS, LEVELS, POINTS, 2)
        weights = self.attention_weights(query).view(batch, count, HEADS, LEVELS * POINTS).softmax(-1)
        boxes = boxes[:, :, None, None, None]
        grid = 2 * (boxes[..., :2] + offsets / POINTS * boxes[..., 2:] * 0.5) - 1  # (B, Q, heads, levels, points, 2)
        sampled = []
        for i, (level, (h, w)) in enumerate(zip(value.split([h * w for h, w in shapes], 1), shapes, strict=True)):
            image = level.flatten(2).transpose(1, 2).reshape(batch * HEADS, -1, h, w)
            where = grid[:, :, :, i].transpose(1, 2).flatten(0, 1)  # (B * heads, Q, points, 2)
            sampled.append(F.grid_sample(image, where, align_corners=False))  # (B * heads, C, Q, points)
        weights = weights.transpose(1, 2).reshape(batch * HEADS, 1, count, LEVELS * POINTS)
        mixed = (torch.cat(sampled, -1) * weights).sum(-1).view(batch, HIDDEN, count)
        return self.output_proj(mixed.transpose(1, 2).contiguous())


class DecoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.self_attn, self.cross_attn = nn.MultiheadAttention(HIDDEN, HEADS, batch_first=True), DeformableAttention()
        self.linear1, self.linear2 = nn.Linear(HIDDEN, 4 * HIDDEN), nn.Linear(4 * HIDDEN, HIDDEN)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN)

    def forward(self, x: Tensor, boxes: Tensor, memory: Tensor, shapes: list, mask: Tensor | None, pos: Tensor):
        q = x + pos
        x = self.norm1(x + self.self_attn(q, q, x, attn_mask=mask)[0])
        x = self.norm2(x + self.cross_attn(x + pos, boxes, memory, shapes))
        return self.norm3(x + self.linear2(F.relu(self.linear1(x))))


def logit(x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=1e-5) / (1 - x).clamp(min=1e-5))


class Decoder(nn.Module):
    export = False  # whether predictions are returned alone
    takes_targets, build_criterion = True, RTDETRDecoder.build_criterion

    def __init__(self, nc: int, queries: int = QUERIES, denoising: int = DENOISING):
        super().__init__()
        self.nc, self.queries, self.denoising = nc, queries, denoising
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(HIDDEN, HIDDEN, 1, bias=False), nn.BatchNorm2d(HIDDEN, eps=1e-3, momentum=0.03))
            for _ in range(LEVELS)
        )
        self.decoder = nn.ModuleDict({"layers": nn.ModuleList(DecoderLayer() for _ in range(LAYERS))})
        self.denoising_class_embed = nn.Embedding(nc, HIDDEN)
        self.query_pos_head = Perceptron(4, 2 * HIDDEN, HIDDEN)
        self.enc_output = nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.LayerNorm(HIDDEN))
        self.enc_score_head, self.enc_bbox_head = nn.Linear(HIDDEN, nc), Perceptron(HIDDEN, HIDDEN, HIDDEN, 4)
        self.dec_score_head = nn.ModuleList(nn.Linear(HIDDEN, nc) for _ in range(LAYERS))
        self.dec_bbox_head = nn.ModuleList(Perceptron(HIDDEN, HIDDEN, HIDDEN, 4) for _ in range(LAYERS))

    def forward(self, maps: list[Tensor], batch: dict[str, Any] | None = None) -> tuple:
        maps = [project(x) for project, x in zip(self.input_proj, maps, strict=True)]
        shapes = [(x.shape[2], x.shape[3]) for x in maps]
        memory = torch.cat([x.flatten(2).permute(0, 2, 1) for x in maps], 1)  # (B, positions, C)
        content = logits = mask = meta = None
        if self.training and batch is not None:
            weight, count = self.denoising_class_embed.weight, min(self.queries, memory.shape[1])
            content, logits, mask, meta = get_cdn_group(batch, self.nc, count, weight, self.denoising)
        x, reference, enc_boxes, enc_scores = self.select(memory, shapes)
        if content is not None and logits is not None:
            x, reference = torch.cat([content, x], 1), torch.cat([logits, reference], 1)
        boxes, scores = self.decode(x, reference.sigmoid(), memory, shapes, mask)
        extras = (boxes, scores, enc_boxes, enc_scores, meta)
        if self.training:
            return extras
        y = torch.cat([boxes[-1], scores[-1].sigmoid()], -1)
        return y if self.export else (y, extras)

    def select(self, memory: Tensor, shapes: list[tuple[int, int]]) -> tuple[Tensor, ...]:
        """The positions with the best scores become queries."""
        anchors, valid = self.anchors(shapes, memory)
        features = self.enc_output(valid * memory)
        scores = self.enc_score_head(features)
        best = scores.max(-1).values.topk(min(self.queries, scores.shape[1]), dim=1).indices
        rows = torch.arange(len(memory))[:, None]
        content = features[rows, best]
        reference = self.enc_bbox_head(content) + anchors[0][best]
        boxes, scores = reference.sigmoid(), scores[rows, best]
        return content.detach(), reference.detach(), boxes, scores

    @staticmethod
    def anchors(shapes: list[tuple[int, int]], like: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (1, positions, 4), infinite beside the border, and which positions are not (1, positions, 1)."""
        levels = []
        for i, (h, w) in enumerate(shapes):
            y, x = torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij")
            side = torch.full_like(x, 0.05 * 2**i)
            levels.append(torch.stack([x, y, side, side], -1).view(1, h * w, 4))
        anchors = torch.cat(levels, 1).to(like)
        valid = ((anchors > 0.01) & (anchors < 0.99)).all(-1, keepdim=True)
        return torch.log(anchors / (1 - anchors)).masked_fill(~valid, torch.inf), valid

    def decode(self, x: Tensor, reference: Tensor, memory: Tensor, shapes: list, mask: Tensor | None) -> tuple:
        """Boxes and logits of all layers (layers, B, Q, ...); in eval of the last one."""
        boxes, scores, before = [], [], None
        for i, layer in enumerate(self.decoder["layers"]):
            x = layer(x, reference, memory, shapes, mask, self.query_pos_head(reference))
            delta = self.dec_bbox_head[i](x)
            refined = torch.sigmoid(delta + logit(reference))
            if self.training or i == LAYERS - 1:
                scores.append(self.dec_score_head[i](x))
                boxes.append(refined if before is None or not self.training else torch.sigmoid(delta + logit(before)))
            before, reference = refined, refined.detach()
        return torch.stack(boxes), torch.stack(scores)


# Detector -------------------------------------------------------------------------------------------------------------


class PlainRTDETR(nn.Module):
    """Layers numbered as in the model file; `forward` returns what RTDETRDetectionModel does.

    Args:
        size: m0 to m5.
        nc: number of classes.
        queries, denoising: object queries, and those spent on denoising while training.
    """

    loss, init_criterion = RTDETRDetectionModel.loss, RTDETRDetectionModel.init_criterion  # the same on both sides

    def __init__(self, size: str = "m0", nc: int = 80, queries: int = QUERIES, denoising: int = DENOISING):
        super().__init__()
        c3, c4, c5 = SIZES[size][0]
        up, join = nn.Upsample(scale_factor=2), nn.Identity()
        self.model = nn.ModuleList(
            [
                *(Backbone(size), Conv(c5, 256, act=False), EncoderLayer(256, 1024), Conv(256, 256)),  # 0 to 3
                *(up, Conv(c4, 256, act=False), join, RepC3(512, 256), Conv(256, 256)),  # 4 to 8
                *(up, Conv(c3, 256, act=False), join, RepC3(512, 256)),  # 9 to 12
                *(Conv(256, 256, 3, 2), join, RepC3(512, 256)),  # 13 to 15
                *(Conv(256, 256, 3, 2), join, RepC3(512, 256), Decoder(nc, queries, denoising)),  # 16 to 19
            ]
        )
        self.nc, self.criterion, self.args = nc, None, None

    def forward(self, x: Tensor | dict[str, Any]) -> tuple:
        return self.loss(x) if isinstance(x, dict) else self.predict(x)

    def predict(self, x: Tensor, batch: dict[str, Any] | None = None) -> tuple:
        m = self.model
        p3, p4, p5 = m[0](x)
        y5 = m[3](m[2](m[1](p5)))
        y4 = m[8](m[7](torch.cat([m[4](y5), m[5](p4)], 1)))
        f3 = m[12](torch.cat([m[9](y4), m[10](p3)], 1))
        f4 = m[15](torch.cat([m[13](f3), y4], 1))
        f5 = m[18](torch.cat([m[16](f4), y5], 1))
        return m[19]([f3, f4, f5], batch)


@torch.no_grad()
def both(size: str, nc: int = 80) -> tuple[RTDETRDetectionModel, PlainRTDETR]:
    """Our network, not yet fused, and the plain one, in eval and with the same weights.

    They are drawn so that maps are neither zero nor without limit, as in a trained network: branches that start at zero
    do not, and normalisations have the statistics of an image.
    """
    torch.manual_seed(0)
    ours, plain = RTDETRDetectionModel(f"rtdetr-efficientvit-{size}.yaml", nc=nc), PlainRTDETR(size, nc)
    for parameter in ours.parameters():
        if not parameter.any():
            parameter.normal_(0, 0.05)
    norms = [module for module in ours.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    ours.train()(torch.rand(2, 3, 256, 256))
    for norm in norms:
        norm.momentum = 0.03
    plain.load_state_dict(ours.state_dict())
    return ours.eval(), plain.eval()
