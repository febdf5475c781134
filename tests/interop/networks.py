"""A network that trains in a second, and weights of it."""

from pathlib import Path

import torch
import yaml

from ultralytics import RTDETR
from ultralytics.data.synthetic import NAMES

NETWORK = {
    "nc": 80,
    "backbone": [[-1, 1, "Conv", [16, 3, 8]], [-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [16, 3, 2]]],
    "head": [[[0, 1, 2], 1, "RTDETRDecoder", ["nc", 32, 10, 2, 4, 2]]],
}


def untrained_weights(folder: Path) -> Path:
    """Write weights with random numbers and the names of the drawn shapes."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**NETWORK, "nc": len(NAMES), "names": list(NAMES)}))
    torch.manual_seed(0)
    model = RTDETR(folder / "tiny.yaml")
    model.save(folder / "tiny.pt")
    return folder / "tiny.pt"
