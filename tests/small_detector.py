"""A small detector with the kinds of layers that exports have trouble with, filled so that its queries differ."""

from pathlib import Path

import torch
import yaml

from ultralytics import RTDETR

CLASSES = ("cat", "Hund", "鸟")
CONTENT = {
    "nc": 3,
    "names": list(CLASSES),
    "num_queries": 12,
    "backbone": [
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [32, 3, 2]],  # P3
        [-1, 1, "Conv", [32, 3, 2]],  # P4
        [-1, 1, "Conv", [32, 3, 2]],  # P5
    ],
    "head": [
        [-1, 1, "AIFI", [64, 4]],
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 3], 1, "Concat", [1]],
        [-1, 1, "RepC3", [32]],
        [[2, 8, 5], 1, "RTDETRDecoder", ["nc", 32, 12, 4, 4, 2, 64]],
    ],
}


def write_weights(folder: Path) -> Path:
    """Weights of the detector, the same every time."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.yaml").write_text(yaml.safe_dump(CONTENT, allow_unicode=True), encoding="utf-8")
    torch.manual_seed(0)
    model = RTDETR(folder / "small.yaml", verbose=False)
    with torch.no_grad():
        for name, value in model.model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif value.is_floating_point():
                value.add_(torch.randn_like(value) * (0.3 if value.ndim < 2 else 0.1))
    model.save(folder / "small.pt")
    return folder / "small.pt"
