"""Faster training of the decoder: split self-attention, and gradients of the selected queries only."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.accelerate.linear import linear
from ultralytics.nn.modules.head import RTDETRDecoder, gather_rows


class SplitSelfAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` of a sequence (B, N, embed_dim) to itself, without copies between the products.

    Queries and keys come from one projection. If the mask separates the last queries (those of detection) from all
    before them (those of denoising), both are attended separately.
    """

    plain, label = nn.MultiheadAttention, "self-attentions split"

    @staticmethod
    def applies(module: nn.MultiheadAttention) -> bool:
        """Check for the usual form: batch first, with biases, nothing appended to the keys."""
        usual = module.batch_first and module._qkv_same_embed_dim and module.in_proj_bias is not None
        return usual and module.bias_k is None and not module.add_zero_attn

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None,
        need_weights: bool = True, attn_mask: Tensor | None = None, **options: bool,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """Compute `nn.MultiheadAttention.forward`, which is called for everything else than self-attention."""
        plain = query is key and query.ndim == 3 and (attn_mask is None or attn_mask.ndim == 2)
        if not plain or key_padding_mask is not None or need_weights or options:
            return super().forward(query, key, value, key_padding_mask, need_weights, attn_mask, **options)

        # projections; the rows of queries and keys come first, those of values last
        rows = 2 * self.embed_dim
        weight, bias = self.in_proj_weight, self.in_proj_bias
        q, k = self._split_heads(linear(query, weight[:rows], bias[:rows])).chunk(2, 1)
        v = self._split_heads(linear(value, weight[rows:], bias[rows:]))

        # attention
        start = 0 if attn_mask is None else first_separate(attn_mask)
        if start:
            first = self._attend(q[:, :, :start], k, v, attn_mask[:start])
            separate = self._attend(q[:, :, start:], k[:, :, start:], v[:, :, start:])
            attended = torch.cat((first, separate), 1)
        else:
            attended = self._attend(q, k, v, attn_mask)
        return linear(attended.flatten(2), self.out_proj.weight, self.out_proj.bias), None

    def _split_heads(self, x: Tensor) -> Tensor:
        """(B, N, heads * channels) -> (B, heads, N, channels)."""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return (B, N, heads, channels); `mask` (N, keys) is True where a query may not attend."""
        mask = ~mask if mask is not None and mask.dtype is torch.bool else mask  # torch's function takes the opposite
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, mask, dropout).transpose(1, 2)


def first_separate(mask: Tensor) -> int:
    """Find the last queries of a mask (N, N) that see all of each other and nothing before; 0 if there are none.

    Returns 0 off the CPU as well, where reading the mask would wait for the device, and under a compiler.
    """
    if mask.dtype is not torch.bool or mask.device.type != "cpu" or torch.compiler.is_compiling():
        return 0
    start = int(mask[-1].sum())
    separate = mask[start:, :start].all() and not mask[start:, start:].any()
    return start if separate and start < len(mask) else 0


class SelectedGradientDecoder(RTDETRDecoder):
    """`RTDETRDecoder` that in training projects all positions without gradients, and the selected ones once more.

    In eval it is `RTDETRDecoder`.
    """

    plain, label = RTDETRDecoder, "query selection with gradients of selected positions only"

    def _select_queries(self, memory: Tensor, shapes: list[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if not self.training:
            return super()._select_queries(memory, shapes)
        anchors, valid = self._generate_anchors(shapes, dtype=memory.dtype, device=memory.device)

        # scores of all positions; positions with an invalid anchor count as zeros
        with torch.no_grad():
            blank = self.enc_score_head(self.enc_output(memory.new_zeros(1, 1, self.hidden_dim)))
            scores = torch.where(valid, self.enc_score_head(self.enc_output(memory)), blank)  # (B, S, nc)

        # top-k positions
        best = scores.amax(-1).topk(min(self.num_queries, memory.shape[1]), dim=1).indices  # (B, nq)
        anchors = gather_rows(anchors.expand(memory.shape[0], -1, -1), best)
        columns = best.unsqueeze(1).expand(-1, memory.shape[-1], -1)  # (B, hd, nq), the memory's own layout
        rows = memory.transpose(1, 2).gather(2, columns).transpose(1, 2)  # (B, nq, hd)

        # the same with gradients
        features = self.enc_output(anchors[..., :1].isfinite() * rows)
        return self._initial_queries(features, self.enc_score_head(features), anchors)
