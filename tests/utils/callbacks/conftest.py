"""Short runs that a service follows."""

from __future__ import annotations

import pytest

from tests.engine.fakes import TinyTrainer, tiny_options
from ultralytics.utils.plotting import plot_results


def draw(trainer):
    plot_results(trainer.files.results)


@pytest.fixture
def follow(tmp_path):
    """Train two epochs with a service following; the run's picture is drawn at its end, as `plots=True` does it."""

    def train(service, callbacks=None, **changes) -> TinyTrainer:
        options = {
            "epochs": 2,
            "imgsz": 64,
            "project": str(tmp_path / "mine"),
            "name": "exp",
            "loggers": service,
            **changes,
        }
        given = {"resume": changes.get("resume"), "epochs": options["epochs"]} if "resume" in changes else None
        trainer = TinyTrainer(tiny_options(tmp_path, **options), overrides=given)
        for event, function in {"on_train_end": draw, **(callbacks or {})}.items():
            trainer.callbacks.add(event, function)
        trainer.train()
        return trainer

    return train
