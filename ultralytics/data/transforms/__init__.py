"""Transforms of a Sample: each draws its random numbers once and applies them to image and boxes alike."""

from ultralytics.data.transforms.batch import collate, to_network_input
from ultralytics.data.transforms.color import RandomHSV, RandomPhotometricDistort
from ultralytics.data.transforms.crop import RandomIoUCrop, RandomZoomOut, SanitizeBoundingBoxes
from ultralytics.data.transforms.geometry import Fit, RandomFlip, RandomPerspective
from ultralytics.data.transforms.mix import Dense, MixUp, Mosaic
from ultralytics.data.transforms.sample import Compose, Sample, Transform, WhileStrong
