"""Transformer layers: RT-DETR's encoder layer AIFI, and those of published model files.

Attention Is All You Need, https://arxiv.org/abs/1706.03762; RT-DETR, https://arxiv.org/abs/2304.08069.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from ultralytics.nn import plans
from ultralytics.nn.modules.argument_checks import activation, require_multiple, require_same
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.deformable import (  # noqa: F401 - published under this path
    DeformableTransformerDecoder,
    DeformableTransformerDecoderLayer,
    MSDeformAttn,
    inverse_sigmoid,
)
from ultralytics.nn.registry import register
from ultralytics.utils.errors import ModelConfigError


class MLP(nn.Module):
    """`num_layers` linear layers with an activation between them.

    At the end with `residual` the input is added, then the layer `out_norm` is applied, with `sigmoid` that function.
    """

    def __init__(
        self, input_dim, hidden_dim, output_dim, num_layers, act=nn.ReLU, sigmoid=False, residual=False, out_norm=None
    ):
        super().__init__()
        if residual:
            require_same("MLP with residual", input_dim=input_dim, output_dim=output_dim)
        self.num_layers, self.act, self.sigmoid = num_layers, activation(act), sigmoid
        self.residual, self.out_norm = residual, out_norm or nn.Identity()
        dims = [input_dim, *[hidden_dim] * (num_layers - 1), output_dim]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(dims))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self.layers[:-1]:
            y = self.act(layer(y))
        y = self.layers[-1](y)
        x = self.out_norm(x + y if self.residual else y)
        return x.sigmoid() if self.sigmoid else x


class TransformerEncoderLayer(nn.Module):
    """Self-attention and a feed-forward network of width `cm`, each with a residual and a layer norm.

    Post-norm (https://arxiv.org/abs/1706.03762), with `normalize_before` pre-norm (https://arxiv.org/abs/2002.04745).
    """

    def __init__(self, c1, cm=2048, num_heads=8, dropout=0.0, act=nn.GELU(), normalize_before=False):  # noqa: B008
        super().__init__()
        require_multiple(f"num_heads={num_heads}", num_heads, channels=c1)
        self.ma = nn.MultiheadAttention(c1, num_heads, dropout, batch_first=True)
        self.fc1, self.fc2 = nn.Linear(c1, cm), nn.Linear(cm, c1)
        self.norm1, self.norm2 = nn.LayerNorm(c1), nn.LayerNorm(c1)
        self.dropout, self.dropout1, self.dropout2 = (nn.Dropout(dropout) for _ in range(3))
        self.act, self.normalize_before = activation(act), normalize_before

    with_pos_embed = staticmethod(DeformableTransformerDecoderLayer.with_pos_embed)

    def _attend(self, x: Tensor, mask: Tensor | None, padding: Tensor | None, pos: Tensor | None) -> Tensor:
        q = k = self.with_pos_embed(x, pos)
        return self.dropout1(self.ma(q, k, x, key_padding_mask=padding, need_weights=False, attn_mask=mask)[0])

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.dropout2(self.fc2(self.dropout(self.act(self.fc1(x)))))

    def forward_post(
        self, src: Tensor, src_mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None,
        pos: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Run the layer with norms after the residuals."""
        src = self.norm1(src + self._attend(src, src_mask, src_key_padding_mask, pos))
        return self.norm2(src + self._feed_forward(src))

    def forward_pre(
        self, src: Tensor, src_mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None,
        pos: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Run the layer with norms before attention and feed-forward network."""
        src = src + self._attend(self.norm1(src), src_mask, src_key_padding_mask, pos)
        return src + self._feed_forward(self.norm2(src))

    def forward(
        self,
        src: Tensor,  # (B, positions, c1), as `pos`
        src_mask: Tensor | None = None,  # (positions, positions), True = may not attend
        src_key_padding_mask: Tensor | None = None,  # (B, positions), True = is not attended to
        pos: Tensor | None = None,
    ) -> Tensor:
        run = self.forward_pre if self.normalize_before else self.forward_post
        return run(src, src_mask, src_key_padding_mask, pos)


@register(plans.channel_preserving)
class AIFI(TransformerEncoderLayer):
    """Attention-based intra-scale feature interaction: an encoder layer over the positions of one map.

    Examples:
        >>> AIFI(256)(torch.rand(1, 256, 20, 20)).shape
        torch.Size([1, 256, 20, 20])
    """

    def forward(self, x: Tensor) -> Tensor:
        _, c, h, w = x.shape
        pos = self.build_2d_sincos_position_embedding(w, h, c, device=x.device).to(x.dtype)
        tokens = super().forward(x.flatten(2).transpose(1, 2), pos=pos)  # (B, C, H, W) -> (B, H*W, C)
        return tokens.transpose(1, 2).reshape(-1, c, h, w)  # -> (B, C, H, W)

    @staticmethod
    def build_2d_sincos_position_embedding(
        w: int, h: int, embed_dim: int = 256, temperature: float = 10000.0, device: torch.device | str = "cpu",
        like: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Build the fixed sine and cosine embedding (1, h * w, embed_dim), row by row like the tokens.

        The first half of the channels encodes the row and the second half the column, as in Ultralytics 8.4. Earlier
        releases numbered the positions column by column, which is the same on square maps only.
        """
        if embed_dim % 4:
            raise ModelConfigError(f"AIFI: channels must be a multiple of 4, got {embed_dim}")
        device = device if like is None else like.device
        frequency = torch.arange(embed_dim // 4, dtype=torch.float32, device=device) / (embed_dim // 4)
        frequency = 1.0 / temperature**frequency
        rows = torch.arange(h, dtype=torch.float32, device=device).repeat_interleave(w)[:, None] * frequency
        columns = torch.arange(w, dtype=torch.float32, device=device).repeat(h)[:, None] * frequency
        return torch.cat((rows.sin(), rows.cos(), columns.sin(), columns.cos()), 1)[None]


class TransformerLayer(nn.Module):
    """Self-attention and two linear layers, each with a residual, without layer norms (arXiv:2010.11929)."""

    def __init__(self, c, num_heads):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(c, c, bias=False) for _ in range(3))
        self.ma = nn.MultiheadAttention(embed_dim=c, num_heads=num_heads)
        self.fc1, self.fc2 = nn.Linear(c, c, bias=False), nn.Linear(c, c, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (positions, B, c)
        x = x + self.ma(self.q(x), self.k(x), self.v(x), need_weights=False)[0]
        return x + self.fc2(self.fc1(x))


class TransformerBlock(nn.Module):
    """`num_layers` transformer layers over the positions of a map, with a learned linear position embedding."""

    def __init__(self, c1, c2, num_heads, num_layers):
        super().__init__()
        self.conv = Conv(c1, c2) if c1 != c2 else None
        self.linear = nn.Linear(c2, c2)
        self.tr = nn.Sequential(*(TransformerLayer(c2, num_heads) for _ in range(num_layers)))

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
        self.lin1, self.lin2 = nn.Linear(embedding_dim, mlp_dim), nn.Linear(mlp_dim, embedding_dim)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.act(self.lin1(x)))


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of each position of a map (B, C, H, W)."""

    def __init__(self, num_channels, eps=1e-6):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(num_channels)), nn.Parameter(torch.zeros(num_channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * x + self.bias[:, None, None]
