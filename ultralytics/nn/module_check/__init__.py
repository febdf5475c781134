"""`yolo contract`: whether a module keeps to what training, saving and exporting a model ask of it."""

from ultralytics.nn.module_check.report_module import Report, Result
from ultralytics.nn.module_check.run_checks import CHECKS, check_module, command
