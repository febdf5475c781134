"""Public import path of the functions that report a run to Weights & Biases; none without its package."""

from ultralytics.published.networks import logger_callbacks

callbacks = logger_callbacks("wandb")

__all__ = ["callbacks"]
