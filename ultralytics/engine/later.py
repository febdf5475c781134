"""A class attribute that names another class, which is imported when it is first asked for."""

from __future__ import annotations

import importlib


class Later:
    """`trainer_class = Later("ultralytics.models.rtdetr.train:RTDETRTrainer")` is that class, for whoever reads it."""

    def __init__(self, place: str) -> None:
        self.module, _, self.name = place.partition(":")

    def __get__(self, instance: object, owner: type | None = None) -> type:
        return getattr(importlib.import_module(self.module), self.name)
