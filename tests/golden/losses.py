"""Reference cases of the RT-DETR loss."""

import json
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parent


def read(name: str) -> tuple[dict, np.lib.npyio.NpzFile]:
    """Read the recipe and the numbers of a reference."""
    return json.loads((GOLDEN / f"{name}.json").read_text()), np.load(GOLDEN / f"{name}.npz")


LOSS, LOSS_NUMBERS = read("rtdetr_loss_8.4.190")


def labels(source: dict, counts: list[int]) -> dict:
    """Return the labels of a case as a batch of the criterion."""
    return {
        "cls": torch.from_numpy(source["cls"]).long().view(-1),
        "bboxes": torch.from_numpy(source["bboxes"]),
        "gt_groups": list(counts),
    }
