"""Public import path of the data YAML reader."""

from pathlib import Path

from ultralytics.data.dataset_yaml import DatasetConfig, check_det_dataset, label_file, load_dataset_config
from ultralytics.utils.public import public_names

__all__ = ["DatasetConfig", "check_det_dataset", "img2label_paths", "load_dataset_config"]


def img2label_paths(img_paths: list[str]) -> list[str]:
    """Return the label file of each image: the last folder `images` becomes `labels`, the suffix `.txt`."""
    return [str(label_file(Path(path))) for path in img_paths]


__getattr__ = public_names(__name__)
