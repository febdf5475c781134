"""Reference cases of the losses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

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


def check_gradients(
    parameters: dict[str, nn.Parameter], norms: dict[str, float], numbers: np.lib.npyio.NpzFile
) -> None:
    """Compare the norms of gradients, and 64 values of those that are recorded."""
    for name, norm in norms.items():
        assert parameters[name].grad.norm().item() == pytest.approx(norm, rel=1e-3), name
    for key in (k for k in numbers.files if k.startswith("grad__")):
        ours = parameters[key.removeprefix("grad__")].grad.flatten()
        ours = ours[np.linspace(0, ours.numel() - 1, 64).astype(np.int64)].numpy()
        assert np.abs(ours - numbers[key]).max() <= 1e-3 * np.abs(numbers[key]).max(), key
