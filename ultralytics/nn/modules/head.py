"""RT-DETR's decoder as the last layer of a model. https://arxiv.org/abs/2304.08069"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.nn.accelerate.linear import Linear
from ultralytics.nn.modules.argument_checks import require_whole
from ultralytics.nn.modules.conv import fold_batchnorm
from ultralytics.nn.modules.denoising import get_cdn_group
from ultralytics.nn.modules.one_to_many import OneToManyHead
from ultralytics.nn.modules.transformer import (
    MLP,
    DeformableTransformerDecoder,
    DeformableTransformerDecoderLayer,
)
from ultralytics.nn.plans import LayerSpec, RowContext
from ultralytics.nn.registry import register
from ultralytics.utils.errors import ModelConfigError


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Switches mixed precision off where it is on."""
    enabled = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if enabled else nullcontext()


DECODER_SETTINGS = {"num_queries": "nq", "num_denoising": "nd"}  # top-level YAML key: constructor argument


DECODER_ARGUMENTS = (
    "hd",
    "nq",
    "ndp",
    "nh",
    "ndl",
    "d_ffn",
    "dropout",
    "act",
    "eval_idx",
    "nd",
    "label_noise_ratio",
    "box_noise_scale",
    "learnt_init_query",
)  # fmt: skip - of a row, behind nc


def _decoder(ctx: RowContext, nc: int, *args: Any) -> LayerSpec:
    ctx.require_once()
    if len(args) > len(DECODER_ARGUMENTS):
        raise ModelConfigError(
            f"it takes nc and up to {len(DECODER_ARGUMENTS)} more ({', '.join(DECODER_ARGUMENTS)}), "
            f"got {len(args)} more"
        )
    kwargs = dict(zip(DECODER_ARGUMENTS, args, strict=False))
    kwargs.update(
        {arg: ctx.settings[key] for key, arg in DECODER_SETTINGS.items() if ctx.settings.get(key) is not None}
    )
    return LayerSpec((nc, ctx.inputs), nc, kwargs=kwargs)


@register(_decoder)
class RTDETRDecoder(nn.Module):
    """Selects the most promising positions of the maps as queries and decodes each into one box.

    Args:
        nc: number of classes.
        ch: channels of each input map.
        hd: channels of the decoder.
        nq: number of queries; a map with fewer positions gives as many as it has.
        ndp: sampling points per map and head.
        nh: attention heads.
        ndl: decoder layers.
        d_ffn: width of the feed-forward networks.
        dropout: dropout of the decoder.
        act: activation of the feed-forward networks, a module or a name such as `relu`.
        eval_idx: the layer whose output is used in eval; negative counts from the end.
        nd: number of denoising queries while training, 0 for none; None for a third of `nq`, like the usual 100 of 300.
        label_noise_ratio: see `get_cdn_group`.
        box_noise_scale: see `get_cdn_group`.
        learnt_init_query: start queries from learnt embeddings instead of the selected features.
    """

    export = False

    def __init__(
        self,
        nc=80,
        ch=(512, 1024, 2048),
        hd=256,
        nq=300,
        ndp=4,
        nh=8,
        ndl=6,
        d_ffn=1024,
        dropout=0.0,
        act=nn.ReLU(),  # noqa: B008 - ReLU holds no state
        eval_idx=-1,
        nd=None,
        label_noise_ratio=0.5,
        box_noise_scale=1.0,
        learnt_init_query=False,
    ):
        super().__init__()
        require_whole("RTDETRDecoder", nc=nc, hd=hd, nq=nq, ndp=ndp, nh=nh, ndl=ndl, d_ffn=d_ffn)
        self.nc, self.hidden_dim, self.nl = nc, hd, len(ch)
        self.num_queries, self.num_decoder_layers = nq, ndl
        self.num_denoising = nq // 3 if nd is None else nd
        self.label_noise_ratio, self.box_noise_scale = label_noise_ratio, box_noise_scale
        self.learnt_init_query = learnt_init_query

        self.input_proj = nn.ModuleList(nn.Sequential(nn.Conv2d(c, hd, 1, bias=False), nn.BatchNorm2d(hd)) for c in ch)
        layer = DeformableTransformerDecoderLayer(hd, nh, d_ffn, dropout, act, self.nl, ndp)
        self.decoder = DeformableTransformerDecoder(hd, layer, ndl, eval_idx)
        self.denoising_class_embed = nn.Embedding(nc, hd)
        if learnt_init_query:
            self.tgt_embed = nn.Embedding(nq, hd)
        self.query_pos_head = MLP(4, 2 * hd, hd, num_layers=2)
        score, bbox = partial(Linear, hd, nc), partial(MLP, hd, hd, 4, num_layers=3)  # one kind for all layers
        self.enc_output = nn.Sequential(Linear(hd, hd), nn.LayerNorm(hd))
        self.enc_score_head, self.enc_bbox_head = score(), bbox()
        self.dec_score_head = nn.ModuleList(score() for _ in range(ndl))
        self.dec_bbox_head = nn.ModuleList(bbox() for _ in range(ndl))
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """As in the official code: a prior of 0.01 for every class, boxes that start at their anchors."""
        prior = -math.log((1 - 0.01) / 0.01)
        for score in (self.enc_score_head, *self.dec_score_head):
            nn.init.constant_(score.bias, prior)
        for box in (self.enc_bbox_head, *self.dec_bbox_head):
            nn.init.zeros_(box.layers[-1].weight)
            nn.init.zeros_(box.layers[-1].bias)
        nn.init.xavier_uniform_(self.enc_output[0].weight)
        for layer in self.query_pos_head.layers:
            nn.init.xavier_uniform_(layer.weight)
        for projection in self.input_proj:
            nn.init.xavier_uniform_(projection[0].weight)
        if self.learnt_init_query:
            nn.init.xavier_uniform_(self.tgt_embed.weight)

    def set_one_to_many(self, on: bool) -> None:
        """Add the auxiliary branch `one_to_many` for training, see `OneToManyHead`, or take it away."""
        present = getattr(self, "one_to_many", None) is not None
        if on and not present:
            weight = self.enc_score_head.weight
            self.one_to_many = OneToManyHead(self.hidden_dim, self.nc).to(weight.device, weight.dtype)
        elif present and not on:
            del self.one_to_many

    def fold(self) -> None:
        """Fold the normalisations of the input projections into their convolutions, for inference."""
        for projection in self.input_proj:
            if not isinstance(projection[1], nn.Identity):
                projection[0], projection[1] = fold_batchnorm(*projection), nn.Identity()

    def forward(self, x: list[Tensor], batch: dict[str, Any] | None = None) -> tuple:
        """Decode feature maps.

        Args:
            x: one (B, C, h, w) per level.
            batch: labels for the denoising queries while training (see `get_cdn_group`).

        Returns:
            While training: (dec_bboxes, dec_scores, enc_bboxes, enc_scores, dn_meta), the decoder's with a leading
            axis of layers and the denoising queries first; scores are logits. With the one-to-many branch its
            `DensePrediction` stands behind these five.
            In eval: (y, that tuple) with y (B, queries, 4 + nc), cx, cy, w, h in 0..1 and class probabilities.
            Exporting (`export = True`): y alone.
        """
        memory, shapes = self._encoder_input(x)
        with without_autocast(x[0].device):  # feed-forward networks and boxes overflow in float16
            return self._decode(memory, shapes, batch)

    def _decode(self, memory: Tensor, shapes: list[tuple[int, int]], batch: dict[str, Any] | None) -> tuple:
        """What `forward` returns, from the positions of all maps (B, S, hd)."""
        embed, reference, enc_bboxes, enc_scores = self._select_queries(memory, shapes)
        denoising = self._denoising_queries(batch, embed.shape[1]) if self.training and batch is not None else None
        attn_mask = dn_meta = None
        if denoising is not None:
            dn_embed, dn_reference, attn_mask, dn_meta = denoising
            embed = torch.cat((dn_embed.to(embed.dtype), embed), 1)
            reference = torch.cat((dn_reference.to(reference.dtype), reference), 1)
        dec_bboxes, dec_scores = self.decoder(
            embed, reference, memory, shapes, self.dec_bbox_head, self.dec_score_head, self.query_pos_head, attn_mask
        )
        if self.training:
            # Without boxes nothing uses the class embedding; DDP wants every parameter in the graph.
            dec_scores = dec_scores + 0 * self.denoising_class_embed.weight.sum() if dn_meta is None else dec_scores
            branch = getattr(self, "one_to_many", None)
            dense = () if branch is None else (branch(memory, shapes),)
            return (dec_bboxes, dec_scores, enc_bboxes, enc_scores, dn_meta, *dense)
        y = torch.cat((dec_bboxes[-1], dec_scores[-1].sigmoid()), -1)  # (B, queries, 4 + nc)
        return y if self.export else (y, (dec_bboxes, dec_scores, enc_bboxes, enc_scores, dn_meta))

    def _denoising_queries(self, batch: dict[str, Any], queries: int) -> tuple | None:
        noise = {"cls_noise_ratio": self.label_noise_ratio, "box_noise_scale": self.box_noise_scale}
        embed = self.denoising_class_embed.weight
        return get_cdn_group(batch, self.nc, queries, embed, num_dn=self.num_denoising, **noise)

    def _encoder_input(self, x: list[Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
        """Project the maps and lay their positions in a row: (B, S, hd), and (h, w) of each map.

        In memory a channel's positions stay side by side, as in the maps.
        """
        maps = [project(level) for project, level in zip(self.input_proj, x, strict=True)]
        shapes = [(level.shape[2], level.shape[3]) for level in maps]  # one by one, which a tracer follows
        memory = torch.cat([level.flatten(2) for level in maps], 2).transpose(1, 2)
        return memory.to(self.enc_output[0].weight.dtype), shapes

    @staticmethod
    def _anchors(shapes: list[tuple[int, int]], like: Tensor, size: float = 0.05, margin: float = 0.01) -> tuple:
        """A box of side size * 2^level at each position, as logits (1, S, 4), and which of them are usable (1, S, 1).

        Unusable anchors, within `margin` of the border, have infinite logits.
        """
        rows = []
        for level, (h, w) in enumerate(shapes):
            y = (torch.arange(h, dtype=torch.float32, device=like.device) + 0.5) / h
            x = (torch.arange(w, dtype=torch.float32, device=like.device) + 0.5) / w
            centre = torch.stack((x.expand(h, w), y[:, None].expand(h, w)), -1)  # (h, w, 2)
            rows.append(torch.cat((centre, torch.full_like(centre, size * 2.0**level)), -1).flatten(0, 1))
        anchors = torch.cat(rows)[None]
        usable = ((anchors > margin) & (anchors < 1 - margin)).all(-1, keepdim=True)
        logits = torch.log(anchors / (1 - anchors)).masked_fill(~usable, float("inf"))
        return logits.to(like.dtype), usable

    def _position_features(self, memory: Tensor, shapes: list[tuple[int, int]]) -> tuple[list[Tensor], Tensor]:
        """What the encoder says of each position, in one or more parts (B, positions, hd), and of zeros (1, 1, hd)."""
        return [self.enc_output(memory)], self.enc_output(memory.new_zeros(1, 1, self.hidden_dim))

    def _select_queries(self, memory: Tensor, shapes: list[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The positions with the best class score: content, box logits, boxes in 0..1 and class logits.

        A position whose anchor is not usable counts as one of zeros.
        """
        anchors, usable = self._anchors(shapes, self.enc_score_head.weight)
        with torch.no_grad() if self.training else nullcontext():
            features, blank = self._position_features(memory, shapes)
            scores = torch.cat([self.enc_score_head(part) for part in features], 1)  # (B, S, nc)
            scores = torch.where(usable, scores, self.enc_score_head(blank))
        batch, positions, classes = scores.shape
        queries = min(self.num_queries, positions)
        best = scores.amax(-1).topk(queries, dim=1).indices.unsqueeze(-1)  # (B, nq, 1)
        chosen = anchors.expand(batch, -1, -1).gather(1, best.expand(-1, -1, 4))
        usable = chosen[..., :1].isfinite()
        if self.training:  # no other position learns, so these alone are computed for the backward pass
            columns = best.transpose(1, 2).expand(-1, memory.shape[-1], -1)  # (B, hd, nq), as memory lies
            content = self.enc_output(usable * memory.transpose(1, 2).gather(2, columns).transpose(1, 2))
            enc_scores = self.enc_score_head(content)
        else:
            content = torch.where(usable, _rows(features, best), blank)
            enc_scores = scores.gather(1, best.expand(-1, -1, classes))
        reference = self.enc_bbox_head(content) + chosen
        enc_bboxes = reference.sigmoid()
        if self.learnt_init_query:
            content = self.tgt_embed.weight[: content.shape[1]].expand(batch, -1, -1)
        elif self.training:
            content = content.detach()
        return content, reference.detach() if self.training else reference, enc_bboxes, enc_scores


def _rows(parts: list[Tensor], index: Tensor) -> Tensor:
    """Rows (B, n, C) at `index` (B, n, 1) of the parts (B, S, C) of a table, which lie one after the other."""
    rows, first = None, 0
    for part in parts:
        own = index - first
        found = part.gather(1, own.clamp(0, part.shape[1] - 1).expand(-1, -1, part.shape[2]))
        rows = found if rows is None else torch.where(own < 0, rows, found)
        first = first + part.shape[1]
    return rows
