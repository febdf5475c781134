"""A data set of drawn shapes that is small enough for a test."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from ultralytics.data.synthetic import NAMES, generate_shapes


def write_shapes(folder: Path, train: int, val: int) -> Path:
    """`folder`/shapes.yaml; its images, of 64 pixels, are in `folder`/shapes."""
    root = folder / "shapes"
    generate_shapes(root, images_train=train, images_val=val, size=64, seed=0)
    return write_data(root, "shapes.yaml", NAMES)


def write_data(root: Path, name: str, names: Sequence[str]) -> Path:
    """A data YAML beside the folder `root` of the images, with class names of its own."""
    content = {"path": str(root), "train": "images/train", "val": "images/val", "names": dict(enumerate(names))}
    file = root.parent / name
    file.write_text(yaml.safe_dump(content))
    return file
