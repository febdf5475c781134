"""Layers that a model YAML may name, under the names of the published package."""

from ultralytics.nn.modules.block import *  # noqa: F403
from ultralytics.nn.modules.conv import *  # noqa: F403
from ultralytics.nn.modules.detect import Detect, v10Detect
from ultralytics.nn.modules.head import RTDETRDecoder
from ultralytics.nn.modules.library_backbones import TimmBackbone, TorchVisionBackbone
from ultralytics.nn.modules.transformer import *  # noqa: F403
from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)
