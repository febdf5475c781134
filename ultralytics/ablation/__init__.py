"""Ablation studies: `Study(...)` from Python, `yolo ablate` on the command line."""

from ultralytics.ablation.runner import Study

__all__ = ["Study"]
