"""Convert samples to tensors, and stack them to batches."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from ultralytics.data.transforms.sample import Sample


def to_network_input(sample: Sample) -> dict:
    """Return `img` uint8 (3, H, W) RGB, `bboxes` (n, 4) cx, cy, w, h in 0..1, `cls` (n, 1), and the image's origin."""
    height, width = sample.shape
    x1, y1, x2, y2 = sample.boxes.T
    planes = np.empty((3, height, width), np.uint8)
    for channel in range(3):  # HWC BGR -> CHW RGB
        cv2.extractChannel(sample.image, 2 - channel, planes[channel])
    boxes = np.stack([(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height], axis=1)
    return {
        "img": torch.from_numpy(planes),
        "cls": torch.from_numpy(sample.cls.astype(np.float32)[:, None]),
        "bboxes": torch.from_numpy(boxes.astype(np.float32)),
        "im_file": str(sample.file),
        "ori_shape": sample.ori_shape,
        "resized_shape": (height, width),
        "ratio_pad": (sample.ratio, sample.pad),
        "image_id": sample.image_id,
    }


def collate(items: list[dict]) -> dict:
    """Stack images and concatenate boxes; `batch_idx` (N,) is the image index of each box."""
    batch = {key: [item[key] for item in items] for key in items[0]}
    counts = [len(item["cls"]) for item in items]
    batch["batch_idx"] = torch.from_numpy(np.arange(len(items), dtype=np.float32).repeat(counts))  # (N,)
    batch["img"] = torch.from_numpy(np.stack([image.numpy() for image in batch["img"]]))  # (B, 3, H, W)
    batch["cls"] = torch.cat(batch["cls"])  # (N, 1)
    batch["bboxes"] = torch.cat(batch["bboxes"])  # (N, 4)
    return batch
