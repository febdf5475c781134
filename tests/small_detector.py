"""Small detectors with the kinds of layers that exports have trouble with, filled so that their boxes differ."""

from pathlib import Path

import torch
import yaml

from ultralytics.models import Model

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


YOLO_CONTENT = {
    **{key: CONTENT[key] for key in ("nc", "names", "backbone")},
    "head": [
        [-1, 1, "SPPF", [32, 5]],
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 3], 1, "Concat", [1]],
        [-1, 1, "C2f", [32]],
        [[2, 8, 5], 1, "Detect", ["nc"]],
    ],
}


def write_weights(folder: Path, content: dict = CONTENT) -> Path:
    """Weights of a detector, the same every time."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    torch.manual_seed(0)
    model = Model(folder / "small.yaml", verbose=False)
    with torch.no_grad():
        for name, value in model.model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif "cv3." in name and name.endswith(".2.bias"):
                value.fill_(-1.0)  # scores of all sizes
            elif value.is_floating_point():
                value.add_(torch.randn_like(value) * (0.3 if value.ndim < 2 else 0.1))
    model.save(folder / "small.pt")
    return folder / "small.pt"
