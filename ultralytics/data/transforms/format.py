"""From a sample to the tensors of a batch."""

from __future__ import annotations

import numpy as np
import torch

from ultralytics.data.transforms.sample import Sample


def to_network_input(sample: Sample) -> dict:
    """`img` uint8 (3, H, W) RGB, `bboxes` (n, 4) cx, cy, w, h in 0..1 of it, `cls` (n, 1), and where it came from."""
    height, width = sample.shape
    x1, y1, x2, y2 = sample.boxes.T
    boxes = np.stack([(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height], axis=1)
    return {
        "img": torch.from_numpy(np.ascontiguousarray(sample.image[..., ::-1].transpose(2, 0, 1))),  # HWC BGR -> CHW RGB
        "cls": torch.from_numpy(sample.cls.astype(np.float32)[:, None]),
        "bboxes": torch.from_numpy(boxes.astype(np.float32)),
        "im_file": str(sample.file),
        "ori_shape": sample.ori_shape,
        "resized_shape": (height, width),
        "ratio_pad": (sample.ratio, sample.pad),
        "image_id": sample.image_id,
    }


def collate(items: list[dict]) -> dict:
    """Stack images, join boxes; `batch_idx` (N,) says which image of the batch a box belongs to."""
    batch = {key: [item[key] for item in items] for key in items[0]}
    batch["batch_idx"] = torch.repeat_interleave(
        torch.arange(len(items), dtype=torch.float32), torch.tensor([len(item["cls"]) for item in items])
    )
    batch["img"] = torch.stack(batch["img"])  # (B, 3, H, W)
    batch["cls"] = torch.cat(batch["cls"])  # (N, 1)
    batch["bboxes"] = torch.cat(batch["bboxes"])  # (N, 4)
    return batch
