"""Attention of RT-DETR: the encoder layer AIFI and the deformable decoder.

Deformable DETR, https://arxiv.org/abs/2010.04159; RT-DETR, https://arxiv.org/abs/2304.08069.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn import plans
from ultralytics.nn.accelerate.linear import Linear, linear, linear_over_channels
from ultralytics.nn.modules.argument_checks import require_multiple
from ultralytics.nn.modules.conv import Conv, activation
from ultralytics.nn.registry import register
from ultralytics.utils.errors import ModelConfigError


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Logit of x, which is clamped to [eps, 1 - eps] term by term."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))


class MLP(nn.Module):
    """`num_layers` linear layers with ReLU between them."""

    def __init__(self, input_dim, hidden_dim, output_dim, num_layers):
        super().__init__()
        dims = [input_dim, *[hidden_dim] * (num_layers - 1), output_dim]
        self.num_layers = num_layers
        self.layers = nn.ModuleList(Linear(i, o) for i, o in pairwise(dims))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class SelfAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` of a sequence (B, N, embed_dim) to itself, in a layout that is trained faster on a CPU.

    Queries and keys come from one projection, and nothing is copied between projections and products. Where the last
    queries see each other alone, as those of detection beside those of denoising, they are attended on their own.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0):
        super().__init__(embed_dim, num_heads, dropout=dropout, batch_first=True)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        **options: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """As `nn.MultiheadAttention.forward`, which is called for all that the layers below do not ask for."""
        plain = query is key and query.ndim == 3 and (attn_mask is None or attn_mask.ndim == 2)
        if not plain or key_padding_mask is not None or need_weights or options:
            return super().forward(query, key, value, key_padding_mask, need_weights, attn_mask, **options)
        both = 2 * self.embed_dim  # rows of the projections of queries and keys; those of values follow
        weight, bias = self.in_proj_weight, self.in_proj_bias
        q, k = self._heads(linear(query, weight[:both], bias[:both])).chunk(2, 1)
        v = self._heads(linear(value, weight[both:], bias[both:]))
        start = 0 if attn_mask is None else first_apart(attn_mask)
        if start:
            first = self._attend(q[:, :, :start], k, v, attn_mask[:start])
            apart = self._attend(q[:, :, start:], k[:, :, start:], v[:, :, start:])
            attended = torch.cat((first, apart), 1)
        else:
            attended = self._attend(q, k, v, attn_mask)
        return linear(attended.flatten(2), self.out_proj.weight, self.out_proj.bias), None  # as torch: no call of it

    def _heads(self, x: Tensor) -> Tensor:
        """(B, N, heads * channels) -> (B, heads, N, channels)."""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, heads, channels); in `mask` (N, keys) True means: may not attend."""
        mask = ~mask if mask is not None and mask.dtype is torch.bool else mask  # torch's function takes the opposite
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, mask, dropout).transpose(1, 2)


def first_apart(mask: Tensor) -> int:
    """First of the queries at the end of a mask (N, N) that see all of each other and nothing before; 0 without such.

    0 also off the CPU, where looking would wait for the device, and under a compiler, which cannot follow it.
    """
    if mask.dtype is not torch.bool or mask.device.type != "cpu" or torch.compiler.is_compiling():
        return 0
    start = int(mask[-1].sum())
    apart = mask[start:, :start].all() and not mask[start:, start:].any()
    return start if apart and start < len(mask) else 0


class TransformerEncoderLayer(nn.Module):
    """Self-attention and a feed-forward network of width `cm`, each with a residual and a normalisation.

    Arranged as in https://arxiv.org/abs/1706.03762, with `normalize_before` as in https://arxiv.org/abs/2002.04745.
    """

    def __init__(self, c1, cm=2048, num_heads=8, dropout=0.0, act=nn.GELU(), normalize_before=False):  # noqa: B008
        super().__init__()
        require_multiple(f"num_heads={num_heads}", num_heads, channels=c1)
        self.ma = SelfAttention(c1, num_heads, dropout)
        self.fc1, self.fc2 = Linear(c1, cm), Linear(cm, c1)
        self.norm1, self.norm2 = nn.LayerNorm(c1), nn.LayerNorm(c1)
        self.dropout, self.dropout1, self.dropout2 = (nn.Dropout(dropout) for _ in range(3))
        self.act, self.normalize_before = activation(act), normalize_before

    def forward(self, tokens: Tensor, pos: Tensor | None = None) -> Tensor:  # both (B, positions, c1)
        before, after = self.normalize_before, not self.normalize_before
        x = self.norm1(tokens) if before else tokens
        query = x if pos is None else x + pos
        tokens = tokens + self.dropout1(self.ma(query, query, x, need_weights=False)[0])
        tokens = self.norm1(tokens) if after else tokens
        x = self.norm2(tokens) if before else tokens
        tokens = tokens + self.dropout2(self.fc2(self.dropout(self.act(self.fc1(x)))))
        return self.norm2(tokens) if after else tokens


@register(plans.channel_preserving)
class AIFI(TransformerEncoderLayer):
    """Attention-based intra-scale feature interaction: an encoder layer over the positions of one map."""

    def forward(self, x: Tensor) -> Tensor:
        _, c, h, w = x.shape
        pos = self.build_2d_sincos_position_embedding(w, h, c, device=x.device).to(x.dtype)
        tokens = super().forward(x.flatten(2).transpose(1, 2), pos)  # (B, C, H, W) -> (B, H*W, C)
        return tokens.transpose(1, 2).reshape(-1, c, h, w)  # -> (B, C, H, W)

    @staticmethod
    def build_2d_sincos_position_embedding(
        w: int, h: int, embed_dim: int = 256, temperature: float = 10000.0, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Fixed sine and cosine embedding (1, w * h, embed_dim); embed_dim must be divisible by 4.

        The rows run over w first, as in the released code, while tokens run over h first: on a square map the two
        axes change roles, which a network trained this way relies on.

        Raises:
            ModelConfigError: embed_dim is not divisible by 4.
        """
        if embed_dim % 4:
            raise ModelConfigError(f"AIFI needs a number of channels divisible by 4, got {embed_dim}")
        frequency = torch.arange(embed_dim // 4, dtype=torch.float32, device=device) / (embed_dim // 4)
        frequency = 1.0 / temperature**frequency
        across = torch.arange(w, dtype=torch.float32, device=device).repeat_interleave(h)[:, None] * frequency
        down = torch.arange(h, dtype=torch.float32, device=device).repeat(w)[:, None] * frequency
        return torch.cat((across.sin(), across.cos(), down.sin(), down.cos()), 1)[None]


def deformable_sampling(maps: list[Tensor], locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of bilinear samples from several feature maps.

    Args:
        maps: one (B * heads, channels, h, w) per level.
        locations: (B, queries, heads, levels, points, 2), x and y in 0..1.
        weights: (B, queries, heads, levels, points).

    Returns:
        (B, queries, heads * channels)
    """
    batch, queries, heads, _, _, _ = locations.shape
    # Queries lie innermost, (levels, B * heads, points, Q, 2): grid_sample reads rows of them, and sums add rows.
    grids = (2 * locations - 1).permute(3, 0, 2, 4, 1, 5).flatten(1, 2).contiguous()
    weights = weights.permute(3, 0, 2, 4, 1).flatten(1, 2).unsqueeze(2)  # (levels, B * heads, 1, points, Q)
    total = 0
    for level, grid, weight in zip(maps, grids, weights, strict=True):
        sampled = F.grid_sample(level, grid, mode="bilinear", align_corners=False)  # (B * heads, channels, points, Q)
        total = total + (sampled * weight).sum(2)  # (B * heads, channels, Q)
    return total.view(batch, heads * maps[0].shape[1], queries).transpose(1, 2)


class MSDeformAttn(nn.Module):
    """Multi-scale deformable attention: each query reads `n_points` positions of each map, chosen by itself."""

    def __init__(self, d_model=256, n_levels=4, n_heads=8, n_points=4):
        super().__init__()
        require_multiple("MSDeformAttn", n_heads, d_model=d_model)
        self.d_model, self.n_levels, self.n_heads, self.n_points = d_model, n_levels, n_heads, n_points
        self.sampling_offsets = Linear(d_model, n_heads * n_levels * n_points * 2)
        self.attention_weights = Linear(d_model, n_heads * n_levels * n_points)
        self.value_proj = Linear(d_model, d_model)
        self.output_proj = Linear(d_model, d_model)
        self._reset_parameters()

    @torch.no_grad()
    def _reset_parameters(self) -> None:
        """Start from equal weights on points that lie 1..n_points steps along one direction per head."""
        angle = torch.arange(self.n_heads, dtype=torch.float32) * (2 * math.pi / self.n_heads)
        direction = torch.stack((angle.cos(), angle.sin()), -1)
        direction /= direction.abs().amax(-1, keepdim=True)  # onto the unit square
        steps = torch.arange(1, self.n_points + 1, dtype=torch.float32).view(1, 1, -1, 1)
        offsets = direction.view(-1, 1, 1, 2) * steps
        self.sampling_offsets.weight.zero_()
        self.sampling_offsets.bias.copy_(offsets.expand(-1, self.n_levels, -1, -1).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(self, query: Tensor, refer_bbox: Tensor, value: Tensor, value_shapes: list[tuple[int, int]]) -> Tensor:
        """Attend.

        Args:
            query: (B, queries, d_model).
            refer_bbox: (B, queries, 4), cx, cy, w, h in 0..1; offsets are in units of half its size.
            value: (B, sum of h * w, d_model).
            value_shapes: (h, w) of each map.

        Returns:
            (B, queries, d_model)
        """
        locations, weights = self.sampling_points(query, refer_bbox)
        return self.output_proj(deformable_sampling(self._value_maps(value, value_shapes), locations, weights))

    def _value_maps(self, value: Tensor, shapes: list[tuple[int, int]]) -> list[Tensor]:
        """Project (B, sum of h * w, d_model) to the heads' maps, (B * heads, d_model / heads, h, w) for each level."""
        batch, positions, channels = value.shape
        if self.training:  # `value_proj`, computed in the layout of maps: no copy of them, forward and backward
            weight, bias = self.value_proj.weight, self.value_proj.bias
            projected = linear_over_channels(value.transpose(1, 2), weight, bias)
        else:
            projected = self.value_proj(value).transpose(1, 2)  # (B, d_model, S)
        heads = projected.reshape(batch * self.n_heads, channels // self.n_heads, positions)
        levels = zip(heads.split([h * w for h, w in shapes], -1), shapes, strict=True)
        return [level.reshape(*level.shape[:2], h, w) for level, (h, w) in levels]

    def sampling_points(self, query: Tensor, refer_bbox: Tensor) -> tuple[Tensor, Tensor]:
        """Where each query reads, x and y in 0..1 (B, queries, heads, levels, points, 2), and the weight of each point.

        The weights (B, queries, heads, levels, points) of a head sum to 1.
        """
        batch, queries, _ = query.shape
        each = (batch, queries, self.n_heads, self.n_levels, self.n_points)
        offsets = self.sampling_offsets(query).view(*each, 2)
        weights = self.attention_weights(query).view(*each[:3], each[3] * each[4]).softmax(-1).view(each)
        centre, size = refer_bbox[:, :, None, None, None].split(2, -1)  # each (B, queries, 1, 1, 1, 2)
        return centre + offsets / self.n_points * size * 0.5, weights


class DeformableTransformerDecoderLayer(nn.Module):
    """Self-attention among queries, deformable attention to the maps, feed-forward network; post-normalised."""

    def __init__(self, d_model=256, n_heads=8, d_ffn=1024, dropout=0.0, act=nn.ReLU(), n_levels=4, n_points=4):  # noqa: B008
        super().__init__()
        require_multiple(f"{n_heads} heads", n_heads, channels=d_model)
        self.self_attn = SelfAttention(d_model, n_heads, dropout)
        self.norm1 = nn.LayerNorm(d_model)
        self.cross_attn = MSDeformAttn(d_model, n_levels, n_heads, n_points)
        self.norm2 = nn.LayerNorm(d_model)
        self.linear1, self.linear2 = Linear(d_model, d_ffn), Linear(d_ffn, d_model)
        self.norm3 = nn.LayerNorm(d_model)
        self.act, self.dropout = activation(act), nn.Dropout(dropout)  # one dropout for all: it holds no state

    def forward(
        self,
        embed: Tensor,  # (B, queries, d_model)
        refer_bbox: Tensor,  # (B, queries, 4) in 0..1
        feats: Tensor,  # (B, sum of h * w, d_model)
        shapes: list[tuple[int, int]],
        attn_mask: Tensor | None = None,  # (queries, queries), True = may not attend
        query_pos: Tensor | None = None,  # (B, queries, d_model)
    ) -> Tensor:  # (B, queries, d_model)
        pos = 0 if query_pos is None else query_pos
        q = embed + pos
        attended = self.self_attn(q, q, embed, attn_mask=attn_mask, need_weights=False)[0]
        embed = self.norm1(embed + self.dropout(attended))
        embed = self.norm2(embed + self.dropout(self.cross_attn(embed + pos, refer_bbox, feats, shapes)))
        fed = self.linear2(self.dropout(self.act(self.linear1(embed))))
        return self.norm3(embed + self.dropout(fed))


class DeformableTransformerDecoder(nn.Module):
    """Layers that refine one box per query step by step; eval ends with layer `eval_idx`, negative from the end."""

    def __init__(self, hidden_dim, decoder_layer, num_layers, eval_idx=-1):
        super().__init__()
        if not -num_layers <= eval_idx < num_layers:
            raise ModelConfigError(
                f"eval_idx must be a layer's number, -{num_layers} to {num_layers - 1}, got {eval_idx}"
            )
        layers = [decoder_layer]
        for _ in range(num_layers - 1):
            layers.append(DeformableTransformerDecoderLayer(**decoder_layer_options(decoder_layer)))
        self.layers = nn.ModuleList(layers)
        self.num_layers, self.hidden_dim = num_layers, hidden_dim
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
        """Boxes in 0..1 (layers, B, queries, 4) and class logits (layers, B, queries, nc); in eval of one layer only.

        While training, the gradient of a layer's boxes reaches back one layer and no further ("look forward twice",
        DINO, https://arxiv.org/abs/2203.03605).
        """
        boxes, logits = [], []
        reference = refer_bbox.sigmoid()
        undetached = None
        for i, layer in enumerate(self.layers):
            embed = layer(embed, reference, feats, shapes, attn_mask, pos_mlp(reference))
            delta = bbox_head[i](embed)
            refined = (delta + inverse_sigmoid(reference)).sigmoid()
            if self.training:
                logits.append(score_head[i](embed))
                boxes.append(refined if i == 0 else (delta + inverse_sigmoid(undetached)).sigmoid())
            elif i == self.eval_idx:
                logits.append(score_head[i](embed))
                boxes.append(refined)
                break
            undetached = refined
            reference = refined.detach()
        return torch.stack(boxes), torch.stack(logits)


def decoder_layer_options(layer: DeformableTransformerDecoderLayer) -> dict:
    """Constructor arguments that give another layer like `layer`, with weights of its own."""
    attention = layer.cross_attn
    return {
        "d_model": attention.d_model,
        "n_heads": attention.n_heads,
        "d_ffn": layer.linear1.out_features,
        "dropout": layer.dropout.p,
        "act": layer.act,
        "n_levels": attention.n_levels,
        "n_points": attention.n_points,
    }


class TransformerLayer(nn.Module):
    """Self-attention and two linear layers, each with a residual, without normalisations (arXiv:2010.11929)."""

    def __init__(self, c, num_heads):
        super().__init__()
        self.q, self.k, self.v = (Linear(c, c, bias=False) for _ in range(3))
        self.ma = nn.MultiheadAttention(embed_dim=c, num_heads=num_heads)
        self.fc1, self.fc2 = Linear(c, c, bias=False), Linear(c, c, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (positions, B, c)
        x = x + self.ma(self.q(x), self.k(x), self.v(x), need_weights=False)[0]
        return x + self.fc2(self.fc1(x))


class TransformerBlock(nn.Module):
    """`num_layers` transformer layers over the positions of a map, with a learned linear position embedding."""

    def __init__(self, c1, c2, num_heads, num_layers):
        super().__init__()
        self.conv = Conv(c1, c2) if c1 != c2 else None
        self.linear = Linear(c2, c2)
        self.tr = nn.Sequential(*(TransformerLayer(c2, num_heads) for _ in range(num_layers)))
        self.c2 = c2

    def forward(self, x: Tensor) -> Tensor:
        if self.conv is not None:
            x = self.conv(x)
        size = x.shape[2:]
        tokens = x.flatten(2).permute(2, 0, 1)  # (B, c2, H, W) -> (H*W, B, c2)
        tokens = self.tr(tokens + self.linear(tokens))
        return tokens.permute(1, 2, 0).unflatten(2, size)  # -> (B, c2, H, W)


class MLPBlock(nn.Module):
    """Linear layer, activation, linear layer."""

    def __init__(self, embedding_dim, mlp_dim, act=nn.GELU):
        super().__init__()
        self.lin1, self.lin2 = Linear(embedding_dim, mlp_dim), Linear(mlp_dim, embedding_dim)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.act(self.lin1(x)))


class LayerNorm2d(nn.Module):
    """Normalisation over the channels of each position of a map (B, C, H, W)."""

    def __init__(self, num_channels, eps=1e-6):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(num_channels)), nn.Parameter(torch.zeros(num_channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * x + self.bias[:, None, None]
