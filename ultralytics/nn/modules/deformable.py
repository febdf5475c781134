"""Multi-scale deformable attention and the decoder of RT-DETR.

Deformable DETR, https://arxiv.org/abs/2010.04159; RT-DETR, https://arxiv.org/abs/2304.08069.
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.modules.argument_checks import activation, require_multiple
from ultralytics.utils.errors import ModelConfigError


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Return the logit of x, with numerator and denominator clamped to at least `eps`."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))


def deformable_sampling(maps: list[Tensor], locations: Tensor, weights: Tensor) -> Tensor:
    """Compute weighted sums of bilinear samples from several feature maps.

    Args:
        maps: one (B * heads, channels, h, w) per level.
        locations: (B, queries, heads, levels, points, 2), x and y in 0..1.
        weights: (B, queries, heads, levels, points).

    Returns:
        (B, queries, heads * channels)
    """
    batch, queries, heads, _, _, _ = locations.shape
    # Queries are the innermost axis: grid_sample then reads whole rows of them.
    grids = 2 * locations - 1
    grids = grids.permute(3, 0, 2, 4, 1, 5).flatten(1, 2).contiguous()  # (levels, B * heads, points, Q, 2)
    weights = weights.permute(3, 0, 2, 4, 1).flatten(1, 2).unsqueeze(2)  # (levels, B * heads, 1, points, Q)
    total = 0
    for level, grid, weight in zip(maps, grids, weights, strict=True):
        sampled = F.grid_sample(level, grid, mode="bilinear", align_corners=False)  # (B * heads, channels, points, Q)
        total = total + (sampled * weight).sum(2)  # (B * heads, channels, Q)
    return total.view(batch, heads * maps[0].shape[1], queries).transpose(1, 2)


class MSDeformAttn(nn.Module):
    """Multi-scale deformable attention: each query samples `n_points` predicted points of each map."""

    def __init__(self, d_model=256, n_levels=4, n_heads=8, n_points=4):
        super().__init__()
        require_multiple("MSDeformAttn", n_heads, d_model=d_model)
        self.d_model, self.n_levels, self.n_heads, self.n_points = d_model, n_levels, n_heads, n_points
        self.sampling_offsets = nn.Linear(d_model, n_heads * n_levels * n_points * 2)
        self.attention_weights = nn.Linear(d_model, n_heads * n_levels * n_points)
        self.value_proj = nn.Linear(d_model, d_model)
        self.output_proj = nn.Linear(d_model, d_model)
        self._reset_parameters()

    @torch.no_grad()
    def _reset_parameters(self) -> None:
        """Start with equal weights on points at 1..n_points steps along one direction per head."""
        angle = torch.arange(self.n_heads, dtype=torch.float32) * (2 * math.pi / self.n_heads)
        direction = torch.stack((angle.cos(), angle.sin()), -1)
        direction /= direction.abs().amax(-1, keepdim=True)  # onto the unit square
        steps = torch.arange(1, self.n_points + 1, dtype=torch.float32).view(1, 1, -1, 1)
        offsets = direction.view(-1, 1, 1, 2) * steps  # (heads, 1, points, 2)
        self.sampling_offsets.weight.zero_()
        self.sampling_offsets.bias.copy_(offsets.expand(-1, self.n_levels, -1, -1).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Tensor,
        refer_bbox: Tensor,
        value: Tensor,
        value_shapes: list[tuple[int, int]],
        value_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend to the maps.

        Args:
            query: (B, queries, d_model).
            refer_bbox: (B, queries, 4), cx, cy, w, h in 0..1, or (B, queries, levels or 1, 4), one for each level;
                offsets are in units of half its size.
            value: (B, sum of h * w, d_model).
            value_shapes: (h, w) of each map.
            value_mask: (B, sum of h * w), True where values count as zeros.

        Returns:
            (B, queries, d_model)
        """
        # values: one map per head and level
        batch, positions, channels = value.shape
        value = self.value_proj(value).transpose(1, 2)  # (B, C, S)
        value = value if value_mask is None else value.masked_fill(value_mask[:, None], 0.0)
        value = value.reshape(batch * self.n_heads, channels // self.n_heads, positions)
        levels = value.split([h * w for h, w in value_shapes], -1)
        maps = [level.reshape(*level.shape[:2], h, w) for level, (h, w) in zip(levels, value_shapes, strict=True)]

        # weighted sums at the sampling points
        locations, weights = self.sampling_points(query, refer_bbox)
        return self.output_proj(deformable_sampling(maps, locations, weights))

    def sampling_points(self, query: Tensor, refer_bbox: Tensor) -> tuple[Tensor, Tensor]:
        """Predict sampling locations, x and y in 0..1, and the weight of each point.

        Returns:
            Locations (B, queries, heads, levels, points, 2) and weights (B, queries, heads, levels, points), which sum
            to 1 over the points of all levels.
        """
        batch, queries, _ = query.shape
        each = (batch, queries, self.n_heads, self.n_levels, self.n_points)
        offsets = self.sampling_offsets(query).view(*each, 2)
        weights = self.attention_weights(query).view(*each[:3], each[3] * each[4]).softmax(-1).view(each)
        refer_bbox = refer_bbox if refer_bbox.ndim == 4 else refer_bbox.unsqueeze(2)
        center, size = refer_bbox[:, :, None, :, None].split(2, -1)  # each (B, queries, 1, levels or 1, 1, 2)
        return center + offsets / self.n_points * size * 0.5, weights


class DeformableTransformerDecoderLayer(nn.Module):
    """Self-attention among queries, deformable attention to the maps, feed-forward network; post-norm."""

    def __init__(self, d_model=256, n_heads=8, d_ffn=1024, dropout=0.0, act=nn.ReLU(), n_levels=4, n_points=4):  # noqa: B008
        super().__init__()
        # a forward of a fork moves the batch to the second axis, as the published one does
        ours = type(self).forward is DeformableTransformerDecoderLayer.forward
        self.self_attn = nn.MultiheadAttention(d_model, n_heads, dropout, batch_first=ours)
        self.norm1 = nn.LayerNorm(d_model)
        self.cross_attn = MSDeformAttn(d_model, n_levels, n_heads, n_points)
        self.norm2 = nn.LayerNorm(d_model)
        self.linear1, self.linear2 = nn.Linear(d_model, d_ffn), nn.Linear(d_ffn, d_model)
        self.norm3 = nn.LayerNorm(d_model)
        self.act = activation(act)
        self.dropout1, self.dropout2, self.dropout3, self.dropout4 = (nn.Dropout(dropout) for _ in range(4))

    @staticmethod
    def with_pos_embed(tensor: Tensor, pos: Tensor | None = None) -> Tensor:
        """Add an embedding of positions, if there is one."""
        return tensor if pos is None else tensor + pos

    def forward_ffn(self, tgt: Tensor) -> Tensor:
        """Apply the feed-forward network with its residual and norm."""
        hidden = self.linear2(self.dropout3(self.act(self.linear1(tgt))))
        return self.norm3(tgt + self.dropout4(hidden))

    def forward(
        self,
        embed: Tensor,  # (B, queries, d_model)
        refer_bbox: Tensor,  # (B, queries, 4) in 0..1
        feats: Tensor,  # (B, sum of h * w, d_model)
        shapes: list[tuple[int, int]],
        padding_mask: Tensor | None = None,  # (B, sum of h * w), True = may not be sampled
        attn_mask: Tensor | None = None,  # (queries, queries), True = may not attend
        query_pos: Tensor | None = None,  # (B, queries, d_model)
    ) -> Tensor:  # (B, queries, d_model)
        # self-attention
        q = k = self.with_pos_embed(embed, query_pos)
        attended, _ = self.self_attn(q, k, embed, attn_mask=attn_mask, need_weights=False)
        embed = self.norm1(embed + self.dropout1(attended))

        # cross-attention to the maps
        mask = () if padding_mask is None else (padding_mask,)
        attended = self.cross_attn(self.with_pos_embed(embed, query_pos), refer_bbox, feats, shapes, *mask)
        embed = self.norm2(embed + self.dropout2(attended))

        # feed-forward network
        return self.forward_ffn(embed)


class DeformableTransformerDecoder(nn.Module):
    """Refine one box per query layer by layer; eval stops after layer `eval_idx`, negative counts from the end."""

    def __init__(self, hidden_dim, decoder_layer, num_layers, eval_idx=-1):
        super().__init__()
        if not -num_layers <= eval_idx < num_layers:
            raise ModelConfigError(f"eval_idx: expected -{num_layers} to {num_layers - 1}, got {eval_idx}")
        first, self.hidden_dim, self.num_layers = decoder_layer, hidden_dim, num_layers
        if type(first) is DeformableTransformerDecoderLayer:  # each with random weights of its own
            options = {name: getattr(first.cross_attn, name) for name in ("d_model", "n_heads", "n_levels", "n_points")}
            options |= {"d_ffn": first.linear1.out_features, "dropout": first.dropout1.p, "act": first.act}
            others = [DeformableTransformerDecoderLayer(**options) for _ in range(num_layers - 1)]
        else:
            others = [copy.deepcopy(first) for _ in range(num_layers - 1)]
        self.layers = nn.ModuleList([first, *others])
        self.eval_idx = eval_idx if eval_idx >= 0 else num_layers + eval_idx

    def forward(
        self,
        embed: Tensor,  # (B, queries, C)
        refer_bbox: Tensor,  # (B, queries, 4), logits of cx, cy, w, h
        feats: Tensor,  # (B, sum of h * w, C)
        shapes: list[tuple[int, int]],
        bbox_head: nn.ModuleList,
        score_head: nn.ModuleList,
        pos_mlp: nn.Module,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return boxes in 0..1 (layers, B, queries, 4) and class logits (layers, B, queries, nc); in eval of one layer.

        In training, the gradient of a layer's boxes reaches the layer before it and no further ("look forward twice",
        DINO, https://arxiv.org/abs/2203.03605).
        """
        boxes, logits = [], []
        reference = refer_bbox.sigmoid()
        refined_with_grad = None
        for i, layer in enumerate(self.layers):
            embed = layer(embed, reference, feats, shapes, attn_mask=attn_mask, query_pos=pos_mlp(reference))

            # box refinement
            delta = bbox_head[i](embed)
            refined = (delta + inverse_sigmoid(reference)).sigmoid()

            if self.training:
                logits.append(score_head[i](embed))
                boxes.append(refined if i == 0 else (delta + inverse_sigmoid(refined_with_grad)).sigmoid())
            elif i == self.eval_idx:
                logits.append(score_head[i](embed))
                boxes.append(refined)
                break
            refined_with_grad = refined
            reference = refined.detach()
        return torch.stack(boxes), torch.stack(logits)
