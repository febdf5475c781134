"""Public import path of the task-aligned assigner."""

from ultralytics.losses.assigner import TaskAlignedAssigner

__all__ = ["TaskAlignedAssigner"]
