"""Rewrite of the decoder: no projection of whole maps is left but the one to the encoder's scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.accelerate.graph import LayerGraph
from ultralytics.nn.accelerate.linear import Linear
from ultralytics.nn.modules.head import RTDETRDecoder, without_autocast
from ultralytics.nn.modules.transformer import MSDeformAttn, deformable_sampling

ROWS = 1600  # positions whose features are computed at a time: what comes in between stays small
Shapes = list[tuple[int, int]]


class FoldDecoder:
    """Replaces `RTDETRDecoder` by `FoldedDecoder`."""

    def __call__(self, graph: LayerGraph) -> None:
        head = graph.layers[-1]
        if type(head) is RTDETRDecoder:
            graph.replace(head, FoldedDecoder(head), graph.sources[head])


class FoldedDecoder(RTDETRDecoder):
    """`RTDETRDecoder` in eval, with its projections of each map x put together.

    Both what reads the projected map p(x) is linear: enc_output(p(x)), which becomes one projection, and the values of
    deformable attention. There a sum of samples is projected instead of every position, which is the same: a few
    hundred queries read, of thousands of positions.
    """

    def __init__(self, head: RTDETRDecoder) -> None:
        nn.Module.__init__(self)
        vars(self).update(vars(head))  # takes over all parts and settings
        projections = [projection[0] for projection in self.input_proj]
        linear, norm = self.enc_output
        self.encode = nn.ModuleList(composed(linear, projection) for projection in projections)
        self.enc_bias, self.enc_norm = linear.bias, norm
        for layer in self.decoder.layers:
            layer.cross_attn = SampledAttention(layer.cross_attn, projections)
        del self.input_proj, self.enc_output
        self.known: tuple[Any, tuple[Tensor, Tensor]] | None = None  # anchors of the last shapes

    def forward(self, x: list[Tensor], batch: None = None) -> tuple | Tensor:
        """As `RTDETRDecoder.forward` in eval."""
        for layer in self.decoder.layers:
            layer.cross_attn.gathers = not self.export
        shapes = [(level.shape[2], level.shape[3]) for level in x]
        with without_autocast(x[0].device):
            x = [level.to(self.enc_bias.dtype) for level in x]
            return self._decode(x if self.export else [as_table(level) for level in x], shapes, None)

    def _position_features(self, memory: list[Tensor], shapes: Shapes) -> tuple[list[Tensor], Tensor]:
        tables = [as_table(level) for level in memory] if self.export else memory
        parts = [
            self.enc_norm(encode(rows))
            for encode, table in zip(self.encode, tables, strict=True)
            for rows in ((table,) if self.export else table.split(ROWS, 1))
        ]
        return parts, self.enc_norm(self.enc_bias).view(1, 1, -1)

    def _anchors(self, shapes: Shapes, like: Tensor) -> tuple[Tensor, Tensor]:
        if self.export:  # a tracer follows the sizes
            return super()._anchors(shapes, like)
        key = (tuple(shapes), like.dtype, like.device)
        if self.known is None or self.known[0] != key:
            self.known = (key, super()._anchors(shapes, like))
        return self.known[1]


class SampledAttention(nn.Module):
    """Multi-scale deformable attention on the maps in front of the input projections.

    Args:
        attention: the attention whose place it takes.
        projections: input projection of each level, a 1x1 convolution with bias.
    """

    sampling_points = MSDeformAttn.sampling_points
    gathers = True  # else the values are projected first, which exporters have operators for

    def __init__(self, attention: MSDeformAttn, projections: Sequence[nn.Conv2d]) -> None:
        super().__init__()
        self.n_heads, self.n_levels, self.n_points = attention.n_heads, attention.n_levels, attention.n_points
        self.sampling_offsets, self.attention_weights = attention.sampling_offsets, attention.attention_weights
        self.output_proj = attention.output_proj
        self.values = nn.ModuleList(composed(attention.value_proj, projection) for projection in projections)

    def forward(self, query: Tensor, refer_bbox: Tensor, value: list[Tensor], value_shapes: Shapes) -> Tensor:
        """As `MSDeformAttn.forward`, with `value` a table (B, h * w, C) of each level, or its map (B, C, h, w)."""
        locations, weights = self.sampling_points(query, refer_bbox)
        if not self.gathers:
            maps = [as_convolution(project, level) for project, level in zip(self.values, value, strict=True)]
            maps = [
                level.reshape(-1, level.shape[1] // self.n_heads, h, w)  # (B, C, h, w) -> (B * heads, C / heads, h, w)
                for level, (h, w) in zip(maps, value_shapes, strict=True)
            ]
            return self.output_proj(deformable_sampling(maps, locations, weights))
        total = 0
        corners = bilinear_corners(locations, weights, value_shapes)
        for project, table, rows, shares in zip(self.values, value, *corners, strict=True):
            total = total + self._read(project, table, rows, shares)
        heads, _, channels = total.shape  # (heads, B * queries, C / heads)
        return self.output_proj(total.transpose(0, 1).reshape(*query.shape[:2], heads * channels))

    def _read(self, project: nn.Linear, table: Tensor, rows: Tensor, shares: Tensor) -> Tensor:
        """What the queries read of one level, projected: (heads, B * queries, C / heads)."""
        batch, positions, channels = table.shape
        first = torch.arange(0, batch * positions, positions, device=table.device).view(-1, 1, 1, 1)
        bags = (rows + first).flatten(0, 2)  # (B * queries * heads, points * 4)
        shares = shares.flatten(0, 2)
        sums = F.embedding_bag(bags, table.flatten(0, 1), per_sample_weights=shares, mode="sum")
        sums = sums.view(-1, self.n_heads, channels).transpose(0, 1)  # (heads, B * queries, C)
        weight = project.weight.view(self.n_heads, -1, channels).transpose(1, 2)  # (heads, C, C / heads)
        inside = shares.sum(1).view(-1, self.n_heads).t().unsqueeze(2)  # points outside a map read zeros, no bias
        return torch.baddbmm(inside * project.bias.view(self.n_heads, 1, -1), sums, weight)


def as_table(level: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C), each position a row."""
    return level.flatten(2).transpose(1, 2).contiguous()


def as_convolution(linear: nn.Linear, level: Tensor) -> Tensor:
    """`linear` at every position of a map (B, C, h, w)."""
    return F.conv2d(level, linear.weight[:, :, None, None], linear.bias)


def bilinear_corners(
    locations: Tensor, weights: Tensor, shapes: Shapes
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Positions around each sampling point and their shares, as `grid_sample` reads with zeros outside the map.

    Args:
        locations: (B, queries, heads, levels, points, 2), x and y in 0..1.
        weights: (B, queries, heads, levels, points).
        shapes: (h, w) of each level.

    Returns:
        For each level the row y * w + x of each corner, (B, queries, heads, points * 4), and as many shares.
    """
    size = locations.new_tensor([(w, h) for h, w in shapes]).unsqueeze(1)  # (levels, 1, 2)
    at = locations * size - 0.5
    first = at.floor()
    corner = torch.stack((first, first + 1), -1)  # (..., x and y, 2)
    share = torch.stack((1 - (at - first), at - first), -1)
    inside = corner.clamp(torch.zeros_like(size).unsqueeze(-1), size.unsqueeze(-1) - 1)
    share = share * (inside == corner)
    (x, y), (share_x, share_y) = inside.unbind(-2), share.unbind(-2)  # each (..., levels, points, 2)
    rows = y.unsqueeze(-1) * size[:, :, :1].unsqueeze(-1) + x.unsqueeze(-2)  # (..., 2, 2)
    shares = weights[..., None, None] * share_y.unsqueeze(-1) * share_x.unsqueeze(-2)
    return rows.long().flatten(4).unbind(3), shares.flatten(4).unbind(3)


@torch.no_grad()
def composed(after: nn.Linear, before: nn.Conv2d) -> Linear:
    """One linear map for `after(before(x))`, `before` a 1x1 convolution with bias. Computed in float64."""
    weight, point = after.weight.double(), before.weight.flatten(1).double()
    linear = Linear(point.shape[1], weight.shape[0]).to(after.weight)
    linear.weight.copy_(weight @ point)
    linear.bias.copy_(weight @ before.bias.double() + after.bias.double())
    return linear.requires_grad_(False)
