"""Public import path of the matcher and the denoising queries."""

from ultralytics.losses.matcher import HungarianMatcher
from ultralytics.nn.modules.denoising import get_cdn_group
from ultralytics.nn.modules.transformer import inverse_sigmoid

__all__ = ["HungarianMatcher", "get_cdn_group", "inverse_sigmoid"]
