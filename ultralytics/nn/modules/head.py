"""RT-DETR's decoder as the last layer of a model. https://arxiv.org/abs/2304.08069"""

import inspect
import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.cfg.options import Options
from ultralytics.nn.head_protocol import SCORES, STRETCH
from ultralytics.nn.modules.argument_checks import require_multiple, require_whole
from ultralytics.nn.modules.deformable import DeformableTransformerDecoder, DeformableTransformerDecoderLayer
from ultralytics.nn.modules.denoising import get_cdn_group
from ultralytics.nn.modules.detect import Detect, v10Detect  # noqa: F401 - published under this path
from ultralytics.nn.modules.one_to_many import OneToManyHead, grid
from ultralytics.nn.modules.transformer import MLP
from ultralytics.nn.plans import LayerSpec, RowContext
from ultralytics.nn.registry import register
from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.overrides import replaced
from ultralytics.utils.public import public_names
from ultralytics.utils.torch_utils import without_autocast

DECODER_SETTINGS = {"num_queries": "nq", "num_denoising": "nd"}  # top-level YAML key: constructor argument


def _decoder(ctx: RowContext, nc: int, *args: Any) -> LayerSpec:
    """Plan a row `[nc, hd, nq, ...]`; top-level settings of the model file replace arguments."""
    ctx.require_once()
    if len(args) > 3 and isinstance(args[2], (list, tuple)):  # strides and number of maps, of the first releases
        args = (*args[:2], *args[4:])
    names = list(inspect.signature(RTDETRDecoder).parameters)[2:]  # after nc and ch
    if len(args) > len(names):
        raise ModelConfigError(f"it takes nc and up to {len(names)} more ({', '.join(names)}), got {len(args)} more")
    settings = {arg: value for key, arg in DECODER_SETTINGS.items() if (value := ctx.settings.get(key)) is not None}
    return LayerSpec((nc, ctx.inputs), nc, kwargs=dict(zip(names, args, strict=False)) | settings)


def gather_rows(x: Tensor, index: Tensor) -> Tensor:
    """Gather rows of x (B, S, C) at `index` (B, n): (B, n, C)."""
    return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


@register(_decoder)
class RTDETRDecoder(nn.Module):
    """Select the `nq` positions of the maps with the highest class score as queries, and decode each into one box.

    Args:
        nc: number of classes.
        ch: channels of each input map.
        hd: channels of the decoder.
        nq: queries; fewer positions than `nq` all become queries.
        ndp: sampling points per map and head.
        nh, ndl: attention heads, and decoder layers.
        d_ffn: width of the feed-forward networks.
        dropout: share of values that the decoder layers drop in training.
        act: activation of the feed-forward networks, a module or a name such as `relu`.
        eval_idx: the layer whose output is used in eval; negative counts from the end.
        nd: `num_dn` of `get_cdn_group`, 0 for no denoising; None for nq // 3, the usual 100 of 300.
        label_noise_ratio, box_noise_scale: see `get_cdn_group`.
        learnt_init_query: start queries from learned embeddings instead of the selected features.

    Examples:
        >>> head = RTDETRDecoder(nc=80, ch=(64, 64), hd=64, nq=100, ndl=2).eval()
        >>> y, _ = head([torch.rand(1, 64, 20, 20), torch.rand(1, 64, 10, 10)])
        >>> y.shape  # cx, cy, w, h in 0..1, then class probabilities
        torch.Size([1, 100, 84])
    """

    export = False
    takes_targets, layout, resize, augmentable = True, SCORES, STRETCH, False  # see `head_protocol.py`
    dynamic, shapes = True, ()  # read by methods of subclasses that were written for published releases

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
        require_multiple(f"RTDETRDecoder of nc={nc}, nh={nh} heads", nh, hd=hd)
        self.nc, self.hidden_dim, self.nl, self.nhead, self.num_decoder_layers = nc, hd, len(ch), nh, ndl
        self.num_queries, self.num_denoising = nq, nq // 3 if nd is None else nd
        self.label_noise_ratio, self.box_noise_scale = label_noise_ratio, box_noise_scale
        self.learnt_init_query = learnt_init_query

        self.input_proj = nn.ModuleList(nn.Sequential(nn.Conv2d(c, hd, 1, bias=False), nn.BatchNorm2d(hd)) for c in ch)
        layer = DeformableTransformerDecoderLayer(hd, nh, d_ffn, dropout, act, self.nl, ndp)
        self.decoder = DeformableTransformerDecoder(hd, layer, ndl, eval_idx)
        self.denoising_class_embed = nn.Embedding(nc, hd)
        if learnt_init_query:
            self.tgt_embed = nn.Embedding(nq, hd)
        self.query_pos_head = MLP(4, 2 * hd, hd, num_layers=2)
        score, bbox = partial(nn.Linear, hd, nc), partial(MLP, hd, hd, 4, num_layers=3)
        self.enc_output = nn.Sequential(nn.Linear(hd, hd), nn.LayerNorm(hd))
        self.enc_score_head, self.enc_bbox_head = score(), bbox()
        self.dec_score_head = nn.ModuleList(score() for _ in range(ndl))
        self.dec_bbox_head = nn.ModuleList(bbox() for _ in range(ndl))
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """Initialize as the official code does: a prior of 0.01 for every class, boxes equal to their anchors."""
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

    def build_criterion(self, options: Options | None = None) -> nn.Module:
        """Build the loss: with the gains of the run's options in training, else with the paper's."""
        from ultralytics.losses.detr import RTDETRDetectionLoss  # imports scipy and torch's compiler

        loss = replaced("RTDETRDetectionLoss") or RTDETRDetectionLoss
        return loss.from_options(options, self.nc) if options else loss(self.nc, use_vfl=True)

    def set_one_to_many(self, on: bool) -> None:
        """Add or remove the auxiliary training branch `one_to_many`, see `OneToManyHead`."""
        present = getattr(self, "one_to_many", None) is not None
        if on and not present:
            weight = self.enc_score_head.weight
            self.one_to_many = OneToManyHead(self.hidden_dim, self.nc).to(weight.device, weight.dtype)
        elif present and not on:
            del self.one_to_many

    def forward(self, x: list[Tensor], batch: dict[str, Any] | None = None) -> tuple | Tensor:
        """Decode feature maps.

        Args:
            x: one (B, C, h, w) per level.
            batch: labels for the denoising queries in training, with `gt_groups` (see `get_cdn_group`).

        Returns:
            In training: (dec_bboxes, dec_scores, enc_bboxes, enc_scores, dn_meta). Those of the decoder are (ndl, B,
            D + Q, 4 or nc), the D denoising queries first; those of the selected positions (B, Q, 4 or nc). Boxes are
            cx, cy, w, h in 0..1, scores logits. The branch `one_to_many` adds its `DensePrediction`.
            In eval: (y, the same tuple with one decoder layer), y (B, Q, 4 + nc) with boxes and class probabilities.
            Exporting (`export = True`): y alone.
        """
        # project the maps to hd channels; their positions are the decoder's memory
        memory, shapes = self._get_encoder_input(x)  # (B, S, hd), S = sum of h * w

        with without_autocast(x[0].device):  # feed-forward networks and boxes overflow in float16
            # denoising queries
            dn_embed = dn_bbox = attn_mask = dn_meta = None
            if self.training and batch is not None:
                queries, noise = min(self.num_queries, memory.shape[1]), (self.label_noise_ratio, self.box_noise_scale)
                group = (self.nc, queries, self.denoising_class_embed.weight, self.num_denoising, *noise)
                dn_embed, dn_bbox, attn_mask, dn_meta = get_cdn_group(batch, *group)

            # top-k positions as queries, after them
            embed, reference, enc_bboxes, enc_scores = self._get_decoder_input(memory, shapes, dn_embed, dn_bbox)

            # decoder
            heads = (self.dec_bbox_head, self.dec_score_head, self.query_pos_head)
            dec_bboxes, dec_scores = self.decoder(embed, reference, memory, shapes, *heads, attn_mask)

            if self.training:
                if dn_meta is None:  # DDP expects every parameter in the graph; without boxes this one is unused
                    dec_scores = dec_scores + 0 * self.denoising_class_embed.weight.sum()
                branch = getattr(self, "one_to_many", None)
                dense = () if branch is None else (branch(memory, shapes),)
                return (dec_bboxes, dec_scores, enc_bboxes, enc_scores, dn_meta, *dense)
            y = torch.cat((dec_bboxes[-1], dec_scores[-1].sigmoid()), -1)  # (B, queries, 4 + nc)
            return y if self.export else (y, (dec_bboxes, dec_scores, enc_bboxes, enc_scores, dn_meta))

    def _get_encoder_input(self, x: list[Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
        """Project the maps and concatenate their positions: (B, S, hd), and (h, w) of each map."""
        maps = [project(level) for project, level in zip(self.input_proj, x, strict=True)]
        shapes = [(level.shape[2], level.shape[3]) for level in maps]  # one by one, which a tracer follows
        memory = torch.cat([level.flatten(2) for level in maps], 2).transpose(1, 2)
        return memory.to(self.enc_score_head.weight.dtype), shapes

    def _get_decoder_input(
        self, feats: Tensor, shapes: list[tuple[int, int]], dn_embed: Tensor | None = None,
        dn_bbox: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """Select queries and put the denoising queries before them; return what `_initial_queries` returns."""
        embed, reference, enc_bboxes, enc_scores = self._select_queries(feats, shapes)
        if dn_embed is not None and dn_bbox is not None:
            embed = torch.cat((dn_embed.to(embed.dtype), embed), 1)  # (B, D + nq, hd)
            reference = torch.cat((dn_bbox.to(reference.dtype), reference), 1)  # (B, D + nq, 4)
        return embed, reference, enc_bboxes, enc_scores

    def _select_queries(self, memory: Tensor, shapes: list[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Select the positions with the highest class score; return what `_initial_queries` returns."""
        anchors, valid = self._generate_anchors(shapes, dtype=memory.dtype, device=memory.device)
        features = self.enc_output(valid * memory)  # (B, S, hd)
        scores = self.enc_score_head(features)  # (B, S, nc)

        # top-k positions by their best class
        best = scores.amax(-1).topk(min(self.num_queries, memory.shape[1]), dim=1).indices  # (B, nq)
        anchors = anchors.expand(memory.shape[0], -1, -1)
        return self._initial_queries(*(gather_rows(x, best) for x in (features, scores, anchors)))

    def _initial_queries(self, features: Tensor, scores: Tensor, anchors: Tensor) -> tuple[Tensor, ...]:
        """Return content (B, nq, hd), box logits (B, nq, 4), boxes in 0..1 and class logits of selected positions."""
        reference = self.enc_bbox_head(features) + anchors
        enc_bboxes = reference.sigmoid()
        if self.training:  # the encoder learns from its own boxes and scores
            features, reference = features.detach(), reference.detach()
        if self.learnt_init_query:
            features = self.tgt_embed.weight[: features.shape[1]].expand(features.shape[0], -1, -1)
        return features, reference, enc_bboxes, scores

    @staticmethod
    def _generate_anchors(
        shapes: list[tuple[int, int]], grid_size: float = 0.05, dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu", eps: float = 0.01,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return a box of side grid_size * 2^level at each position, logits (1, S, 4), and which are valid (1, S, 1).

        Anchors within `eps` of the border are not valid; their logits are infinite.
        """
        centers = grid(shapes, torch.device(device))
        sides = [centers.new_full((h * w, 2), grid_size * 2.0**level) for level, (h, w) in enumerate(shapes)]
        anchors = torch.cat((centers, torch.cat(sides)), 1)[None]
        valid = ((anchors > eps) & (anchors < 1 - eps)).all(-1, keepdim=True)
        logits = torch.log(anchors / (1 - anchors)).masked_fill(~valid, float("inf"))
        return logits.to(dtype), valid


__getattr__ = public_names(__name__)
