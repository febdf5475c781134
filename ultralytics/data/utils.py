"""Public import path; data set files are read in `data/dataset_yaml.py`, labels in `data/labels.py`."""

from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
