"""Contrastive denoising queries of DINO (https://arxiv.org/abs/2203.03605), as used by RT-DETR in training."""

from typing import Any

import torch
from torch import Tensor

from ultralytics.nn.modules.deformable import inverse_sigmoid
from ultralytics.utils.ops import xywh2xyxy, xyxy2xywh


def get_cdn_group(
    targets: dict[str, Any] | None, num_classes: int, num_queries: int, class_embed: Tensor, num_dn: int = 100,
    cls_noise_ratio: float = 0.5, box_noise_scale: float = 1.0, training: bool = True,
) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]] | tuple[None, None, None, None]:  # fmt: skip
    """Build noisy copies of the labels that the decoder learns to restore (positives) or to reject (negatives).

    An image has `groups` groups of queries, each with `width` positives followed by `width` negatives. `width` is the
    largest number of boxes in an image, at most `num_dn`; images with more boxes keep a random subset. There are never
    more than 2 * num_dn queries.

    Args:
        targets: cls (N,) or (N, 1), bboxes (N, 4) cx, cy, w, h in 0..1, gt_groups: boxes of each image, summing to N.
        num_queries: queries of the decoder, which follow the denoising queries.
        class_embed: (num_classes, C), embedding of each class.
        num_dn: target number of positives; 0 turns denoising off.
        cls_noise_ratio: half of this share of the labels is replaced by random classes.
        box_noise_scale: 1 moves corners by up to half of the sides (positives), by half to all of them (negatives).

    Returns:
        Four times None if there are no boxes, or denoising is off. Else content (B, D, C), boxes as logits (B, D, 4),
        the attention mask (D + num_queries, D + num_queries) with True = may not attend, and a dict with `dn_pos_idx`
        (query indices of the positives of each image), `dn_gt_idx` (their boxes, indices into all N), `dn_num_group`,
        `dn_num_split`.
    """
    counts = targets["gt_groups"] if targets is not None and training else []
    if num_dn <= 0 or max(counts, default=0) == 0:
        return None, None, None, None
    device = targets["bboxes"].device
    kept = [min(count, num_dn) for count in counts]  # boxes of each image, M in all
    width = max(kept)
    groups = max(num_dn // width, 1)
    total = 2 * groups * width  # D

    # where each kept box goes: its image, and its query in each half group
    gt = _choose_boxes(counts, num_dn, device)  # (M,)
    image = torch.cat([torch.full((n,), i, device=device) for i, n in enumerate(kept)])
    half = torch.arange(2 * groups, device=device)[:, None]
    place = half * width + torch.cat([torch.arange(n, device=device) for n in kept])  # (2 * groups, M)

    # noise
    labels = _flip_labels(targets["cls"].view(-1)[gt].long().expand(2 * groups, -1), num_classes, cls_noise_ratio)
    boxes = _jitter_boxes(targets["bboxes"][gt].expand(2 * groups, -1, 4), half % 2, box_noise_scale)

    # queries; images with fewer boxes are padded with zeros
    content, logits = (x.new_zeros(len(counts), total, x.shape[-1]) for x in (class_embed, boxes))
    content[image.expand_as(place), place] = class_embed[labels]
    logits[image.expand_as(place), place] = boxes
    meta = {
        "dn_pos_idx": [positives.flatten() for positives in place[::2].split(kept, 1)],
        "dn_gt_idx": [boxes.repeat(groups) for boxes in gt.split(kept)],
        "dn_num_group": groups,
        "dn_num_split": [total, num_queries],
    }
    return content, logits, _attention_mask(groups, 2 * width, num_queries, device), meta


def _choose_boxes(counts: list[int], limit: int, device: torch.device) -> Tensor:
    """Return indices of the boxes of all images, at most `limit` random ones of each."""
    chosen, first = [], 0
    for count in counts:
        rows = torch.arange(count, device=device)
        if count > limit:
            rows = torch.randperm(count, device=device)[:limit].sort().values
        chosen.append(first + rows)
        first += count
    return torch.cat(chosen)


def _flip_labels(labels: Tensor, num_classes: int, ratio: float) -> Tensor:
    """Replace half of `ratio` of the labels by random classes."""
    if ratio <= 0:
        return labels
    flipped = torch.rand(labels.shape, device=labels.device) < ratio * 0.5
    return torch.where(flipped, torch.randint_like(labels, num_classes), labels)


def _jitter_boxes(boxes: Tensor, negative: Tensor, scale: float) -> Tensor:
    """Move the corners of boxes (2 * groups, M, 4) at random, return logits; scale 0 returns the boxes unchanged.

    `negative` (2 * groups, 1) is 1 for negatives, 0 for positives.
    """
    if scale <= 0:
        return boxes
    corners = xywh2xyxy(boxes)
    reach = boxes[..., 2:].repeat(1, 1, 2) * 0.5 * scale
    sign = torch.randint_like(corners, 2) * 2 - 1
    share = torch.rand_like(corners) + negative.unsqueeze(-1)
    return inverse_sigmoid(xyxy2xywh((corners + sign * share * reach).clamp(0, 1)))


def _attention_mask(groups: int, size: int, num_queries: int, device: torch.device) -> Tensor:
    """Build the mask (D + queries, D + queries): groups see themselves and the queries, queries see no group."""
    owner = torch.arange(groups, device=device).repeat_interleave(size)
    owner = torch.cat((owner, owner.new_full((num_queries,), -1)))
    return (owner[:, None] != owner) & (owner != -1)
