"""Decoder for inference in which the only projection of whole maps is the one to the encoder's scores."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.accelerate.graph import LayerGraph
from ultralytics.nn.modules.deformable import MSDeformAttn, deformable_sampling
from ultralytics.nn.modules.head import RTDETRDecoder, gather_rows

ROWS = 1600  # positions whose features are computed at a time: intermediate results stay small
Shapes = list[tuple[int, int]]


def fold_decoder(graph: LayerGraph) -> int:
    """Replace the head by `FoldedDecoder` if it is exactly `RTDETRDecoder`; return the number of replacements."""
    head = graph.layers[-1]
    if type(head) is not RTDETRDecoder:
        return 0
    graph.replace(head, FoldedDecoder(head), graph.sources[head])
    return 1


class FoldedDecoder(RTDETRDecoder):
    """`RTDETRDecoder` in eval with the input projections p folded into the layers that read p(x).

    Both readers are linear. enc_output(p(x)) becomes one projection. Deformable attention projects sums of samples
    instead of every position: a few hundred queries instead of thousands of positions.
    """

    def __init__(self, head: RTDETRDecoder) -> None:
        nn.Module.__init__(self)
        vars(self).update(vars(head))  # all parts and settings
        projections = [projection[0] for projection in self.input_proj]
        linear, norm = self.enc_output
        self.encode = nn.ModuleList(compose(linear, projection) for projection in projections)
        self.enc_bias, self.enc_norm = linear.bias, norm
        for layer in self.decoder.layers:
            layer.cross_attn = SampledAttention(layer.cross_attn, projections)
        del self.input_proj, self.enc_output

    def _get_encoder_input(self, x: list[Tensor]) -> tuple[list[Tensor], Shapes]:
        """Return each map as a table (B, h * w, C), and its (h, w)."""
        for layer in self.decoder.layers:
            layer.cross_attn.gathers = not self.export
        shapes = [(level.shape[2], level.shape[3]) for level in x]
        return [level.to(self.enc_bias.dtype).flatten(2).transpose(1, 2).contiguous() for level in x], shapes

    def _select_queries(self, memory: list[Tensor], shapes: Shapes) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        anchors, valid = self._generate_anchors(shapes, dtype=self.enc_bias.dtype, device=self.enc_bias.device)

        # features and scores in parts that fit into the cache; positions with an invalid anchor count as zeros
        features = [
            self.enc_norm(encode(rows))
            for encode, table in zip(self.encode, memory, strict=True)
            for rows in ((table,) if self.export else table.split(ROWS, 1))
        ]  # (B, rows, hd) each
        blank = self.enc_norm(self.enc_bias).view(1, 1, -1)
        scores = torch.cat([self.enc_score_head(part) for part in features], 1)  # (B, S, nc)
        scores = torch.where(valid, scores, self.enc_score_head(blank))

        # top-k positions
        best = scores.amax(-1).topk(min(self.num_queries, scores.shape[1]), dim=1).indices  # (B, nq)
        features, scores, anchors = (
            gather_rows(x, best) for x in (torch.cat(features, 1), scores, anchors.expand(best.shape[0], -1, -1))
        )
        return self._initial_queries(torch.where(anchors[..., :1].isfinite(), features, blank), scores, anchors)


class SampledAttention(nn.Module):
    """Multi-scale deformable attention that reads the maps before the input projections, 1x1 convolutions."""

    sampling_points = MSDeformAttn.sampling_points
    gathers = True  # False for exporters: they have operators for projecting all values and sampling them

    def __init__(self, attention: MSDeformAttn, projections: Sequence[nn.Conv2d]) -> None:
        super().__init__()
        self.n_heads, self.n_levels, self.n_points = attention.n_heads, attention.n_levels, attention.n_points
        self.sampling_offsets, self.attention_weights = attention.sampling_offsets, attention.attention_weights
        self.output_proj = attention.output_proj
        self.values = nn.ModuleList(compose(attention.value_proj, projection) for projection in projections)

    def forward(self, query: Tensor, refer_bbox: Tensor, value: list[Tensor], value_shapes: Shapes) -> Tensor:
        """Attend as `MSDeformAttn` does; `value` is a table (B, h * w, C) of each level."""
        locations, weights = self.sampling_points(query, refer_bbox)
        if not self.gathers:
            maps = [
                project(table).transpose(1, 2).reshape(-1, project.out_features // self.n_heads, h, w)
                for project, table, (h, w) in zip(self.values, value, value_shapes, strict=True)
            ]  # (B * heads, C / heads, h, w) each
            return self.output_proj(deformable_sampling(maps, locations, weights))
        total = 0
        corners = bilinear_corners(locations, weights, value_shapes)
        for project, table, rows, shares in zip(self.values, value, *corners, strict=True):
            total = total + self._read(project, table, rows, shares)
        heads, _, channels = total.shape  # (heads, B * queries, C / heads)
        return self.output_proj(total.transpose(0, 1).reshape(*query.shape[:2], heads * channels))

    def _read(self, project: nn.Linear, table: Tensor, rows: Tensor, shares: Tensor) -> Tensor:
        """Sum samples of one level and project the sums: (heads, B * queries, C / heads)."""
        batch, positions, channels = table.shape
        first = torch.arange(0, batch * positions, positions, device=table.device).view(-1, 1, 1, 1)
        bags = (rows + first).flatten(0, 2)  # (B * queries * heads, points * 4)
        shares = shares.flatten(0, 2)
        sums = F.embedding_bag(bags, table.flatten(0, 1), per_sample_weights=shares, mode="sum")
        sums = sums.view(-1, self.n_heads, channels).transpose(0, 1)  # (heads, B * queries, C)
        weight = project.weight.view(self.n_heads, -1, channels).transpose(1, 2)  # (heads, C, C / heads)
        inside = shares.sum(1).view(-1, self.n_heads).t().unsqueeze(2)  # points outside a map read zeros, no bias
        return torch.baddbmm(inside * project.bias.view(self.n_heads, 1, -1), sums, weight)


def bilinear_corners(
    locations: Tensor, weights: Tensor, shapes: Shapes
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Compute the positions around each sampling point and their shares, as `grid_sample` with zero padding.

    Takes locations (B, queries, heads, levels, points, 2), weights (B, queries, heads, levels, points) and (h, w) of
    each level. Returns for each level the row y * w + x of each corner, (B, queries, heads, points * 4), and its share.
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
def compose(after: nn.Linear, before: nn.Conv2d) -> nn.Linear:
    """Compute one linear layer for `after(before(x))`, `before` a 1x1 convolution with bias, in float64."""
    weight, point = after.weight.double(), before.weight.flatten(1).double()
    linear = nn.Linear(point.shape[1], weight.shape[0]).to(after.weight)
    linear.weight.copy_(weight @ point)
    linear.bias.copy_(weight @ before.bias.double() + after.bias.double())
    return linear.requires_grad_(False)
