"""ClearML: what the package is told (a fake one: the real one wants a server)."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import ClassVar

import pytest


class Reports:
    def __init__(self):
        self.values, self.scalars, self.pictures = {}, [], []

    def report_single_value(self, name, value):
        self.values[name] = value

    def report_scalar(self, title, series, value, iteration):
        self.scalars.append((title, series, value, iteration))

    def report_image(self, title, series, local_path):
        self.pictures.append((title, series, local_path))


class Task:
    made: ClassVar[list[Task]] = []

    @classmethod
    def init(cls, **given):
        cls.made.append(cls())
        cls.made[-1].given = given
        return cls.made[-1]

    def __init__(self):
        self.id, self.reports, self.weights, self.ended = "task9", Reports(), None, []

    def get_logger(self):
        return self.reports

    def connect(self, options, name):
        self.options = (name, options)

    def upload_artifact(self, name, artifact_object):
        self.weights = artifact_object

    def mark_failed(self, status_reason, force):
        self.ended.append(status_reason)

    def close(self):
        self.ended.append("closed")


@pytest.fixture
def tasks(monkeypatch):
    monkeypatch.setattr(Task, "made", [])
    monkeypatch.setitem(sys.modules, "clearml", SimpleNamespace(Task=Task))
    return Task.made


def test_what_is_told(follow, tasks):
    trainer = follow("clearml")
    (task,) = tasks
    assert (task.given["project_name"], task.given["task_name"]) == ("mine", "exp")
    assert task.given["reuse_last_task_id"] is False and task.options[0] == "options"
    assert task.options[1]["lr0"] == 0.01
    assert ("metrics", "mAP50-95(B)", 0.2, 2) in task.reports.scalars
    assert ("time", "time") in {scalar[:2] for scalar in task.reports.scalars}
    assert {"model/parameters", "best/metrics/mAP50-95(B)"} <= set(task.reports.values)
    assert task.reports.pictures == [("pictures", "results", str(trainer.save_dir / "results.png"))]
    assert task.weights == trainer.best and task.ended == ["closed"]


def test_a_resumed_run_is_the_same_task(follow, tasks):
    trainer = follow("clearml")
    follow(None, resume=str(trainer.last), epochs=3)
    assert tasks[1].given["reuse_last_task_id"] == "task9"
    assert tasks[1].given["continue_last_task"] == 0  # epochs are not counted on from the last one


def test_a_failed_run_is_marked(follow, tasks):
    def fail(trainer):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        follow("clearml", {"on_train_epoch_end": fail})
    assert tasks[0].ended == ["the training ended with an error", "closed"]
