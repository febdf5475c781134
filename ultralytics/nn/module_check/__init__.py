"""`yolo check`: test whether a module works in training, saving, fusing and exporting a model."""

from ultralytics.nn.module_check.run_checks import CHECKS, Report, Result, check_module
