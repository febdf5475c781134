"""`yolo contract`: whether a module keeps to what training, saving and exporting a model ask of it."""

from ultralytics.nn.contract.report import Report, Result
from ultralytics.nn.contract.run import CHECKS, check_module, command
