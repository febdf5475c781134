"""Contrastive denoising queries of DINO (https://arxiv.org/abs/2203.03605), as RT-DETR trains with them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ultralytics.nn.modules.transformer import inverse_sigmoid
from ultralytics.utils.ops import xywh2xyxy, xyxy2xywh


def get_cdn_group(
    targets: dict[str, Any],
    num_classes: int,
    num_queries: int,
    class_embed: Tensor,
    num_dn: int = 100,
    cls_noise_ratio: float = 0.5,
    box_noise_scale: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]] | None:
    """Noisy copies of the labels which the decoder learns to restore (positives) or to reject (negatives).

    The queries of an image are `groups` groups, each of `width` positives followed by `width` negatives, where
    `width` is the largest number of boxes of an image, at most `num_dn`: a busier image keeps a random subset, so
    that there are never more than 2 * num_dn queries.

    Args:
        targets: cls (N,) long, bboxes (N, 4) cx, cy, w, h in 0..1, gt_groups: boxes of each image, summing to N.
        num_classes: number of classes.
        num_queries: queries of the decoder that follow the denoising ones.
        class_embed: (num_classes, C), embedding of each class.
        num_dn: wanted number of positives; 0 turns denoising off.
        cls_noise_ratio: half of this share of the labels is replaced by a random class.
        box_noise_scale: 1 moves a positive's corners by up to half the box's sides, a negative's by half to whole.

    Returns:
        None where there is nothing to restore, else content (B, D, C), boxes as logits (B, D, 4), attention mask
        (D + num_queries, D + num_queries) with True = may not attend, and a dict with `dn_pos_idx` (positions of the
        positives of each image), `dn_gt_idx` (the box each of these stands for, an index into all N),
        `dn_num_group` and `dn_num_split`.
    """
    counts = targets["gt_groups"]
    if num_dn <= 0 or max(counts, default=0) == 0:
        return None
    device = targets["bboxes"].device
    chosen = _choose_boxes(counts, num_dn, device)
    width = max(len(rows) for rows in chosen)
    groups = max(num_dn // width, 1)
    total = 2 * groups * width

    gt = torch.cat(chosen)  # (M,) rows of the boxes that are kept
    image = torch.cat([torch.full_like(rows, i) for i, rows in enumerate(chosen)])
    slot = torch.cat([torch.arange(len(rows), device=device) for rows in chosen])
    place = torch.arange(2 * groups, device=device)[:, None] * width + slot  # (2 * groups, M)
    negative = torch.arange(2 * groups, device=device).remainder(2).bool()[:, None].expand_as(place)

    labels = _flip_labels(targets["cls"][gt].long().expand(2 * groups, -1), num_classes, cls_noise_ratio)
    boxes = _jitter_boxes(targets["bboxes"][gt].expand(2 * groups, -1, 4), negative, box_noise_scale)

    content = class_embed.new_zeros(len(counts), total, class_embed.shape[-1])
    logits = boxes.new_zeros(len(counts), total, 4)
    content[image.expand_as(place), place] = class_embed[labels]
    logits[image.expand_as(place), place] = boxes
    positives = place[::2]  # (groups, M)
    meta = {
        "dn_pos_idx": [positives[:, image == i].flatten() for i in range(len(counts))],
        "dn_gt_idx": [rows.repeat(groups) for rows in chosen],
        "dn_num_group": groups,
        "dn_num_split": [total, num_queries],
    }
    return content, logits, _attention_mask(groups, 2 * width, num_queries, device), meta


def _choose_boxes(counts: list[int], limit: int, device: torch.device) -> list[Tensor]:
    """Rows of each image's boxes among all boxes; a random `limit` of them where an image has more."""
    chosen, first = [], 0
    for count in counts:
        rows = torch.arange(count, device=device)
        if count > limit:
            rows = torch.randperm(count, device=device)[:limit].sort().values
        chosen.append(first + rows)
        first += count
    return chosen


def _flip_labels(labels: Tensor, num_classes: int, ratio: float) -> Tensor:
    """Replace half of `ratio` of the labels by random classes."""
    if ratio <= 0:
        return labels
    flipped = torch.rand(labels.shape, device=labels.device) < ratio * 0.5
    return torch.where(flipped, torch.randint_like(labels, num_classes), labels)


def _jitter_boxes(boxes: Tensor, negative: Tensor, scale: float) -> Tensor:
    """Move the corners of (..., 4) boxes at random; returns logits. Scale 0 gives the boxes as they are."""
    if scale <= 0:
        return boxes
    corners = xywh2xyxy(boxes)
    reach = boxes[..., 2:].repeat(1, 1, 2) * 0.5 * scale
    sign = torch.randint_like(corners, 2) * 2 - 1
    share = torch.rand_like(corners) + negative.unsqueeze(-1)
    return inverse_sigmoid(xyxy2xywh((corners + sign * share * reach).clamp(0, 1)))


def _attention_mask(groups: int, size: int, num_queries: int, device: torch.device) -> Tensor:
    """A group sees itself and the queries; the queries do not see any group. True = may not attend."""
    owner = torch.arange(groups, device=device).repeat_interleave(size)
    owner = torch.cat((owner, owner.new_full((num_queries,), -1)))
    return (owner[:, None] != owner) & (owner != -1)
