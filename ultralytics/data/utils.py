"""Public import path of the data YAML reader."""

from ultralytics.data.dataset_yaml import DatasetConfig, check_det_dataset, load_dataset_config
from ultralytics.utils.public import public_names

__all__ = ["DatasetConfig", "check_det_dataset", "load_dataset_config"]
__getattr__ = public_names(__name__)
