"""Weights & Biases: what the package is told (a fake one), and that the real one takes it, offline."""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace

import pytest

from ultralytics.utils.errors import UserError


class Run:
    def __init__(self, **given):
        self.given, self.id = given, given["id"] or "abc123"
        self.summary, self.logged, self.artifacts, self.exit_code = {}, [], [], None

    def log(self, values, step=None):
        self.logged.append((step, values))

    def log_artifact(self, artifact, aliases):
        self.artifacts.append((artifact, aliases))

    def finish(self, exit_code):
        self.exit_code = exit_code


class Artifact:
    def __init__(self, name, type):
        self.name, self.type, self.files = name, type, []

    def add_file(self, file):
        self.files.append(file)


@pytest.fixture
def wandb(monkeypatch):
    """A package that keeps its runs."""
    runs = []

    def init(**given):
        runs.append(Run(**given))
        return runs[-1]

    fake = SimpleNamespace(init=init, Image=lambda file: f"picture {file}", Artifact=Artifact, runs=runs)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for name in ("WANDB_PROJECT", "WANDB_NAME", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    return fake


def test_what_is_told(follow, wandb):
    trainer = follow("wandb")
    (run,) = wandb.runs
    assert (run.given["project"], run.given["name"], run.given["resume"]) == ("mine", "exp", None)
    assert run.given["dir"] == str(trainer.save_dir) and run.given["config"]["lr0"] == 0.01
    assert run.summary["model/parameters"] > 0 and run.summary["best/metrics/mAP50-95(B)"] == 0.1
    assert [step for step, _ in run.logged] == [1, 2, None]
    assert run.logged[1][1]["metrics/mAP50-95(B)"] == 0.2
    assert run.logged[2][1] == {"pictures/results": f"picture {trainer.save_dir / 'results.png'}"}
    ((artifact, aliases),) = run.artifacts
    assert (artifact.type, artifact.files, aliases) == ("model", [str(trainer.best)], ["best"])
    assert run.exit_code == 0


def test_its_variables_go_first(follow, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    follow("wandb", epochs=1)
    assert wandb.runs[0].given["project"] == "theirs"


def test_a_resumed_run_is_the_same_run(follow, wandb):
    trainer = follow("wandb")
    follow(None, resume=str(trainer.last), epochs=3)
    second = wandb.runs[1]
    assert (second.given["id"], second.given["resume"]) == ("abc123", "allow")
    assert [step for step, _ in second.logged] == [3, None]


def test_not_logged_in_is_told_before_training(follow, wandb, monkeypatch):
    def refuse(**given):
        raise RuntimeError("api_key not configured (no-tty)")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(UserError, match="loggers=wandb: the run cannot be opened there: RuntimeError: api_key"):
        follow("wandb")


def test_the_real_package_offline(follow, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_PROJECT", "WANDB_NAME", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    trainer = follow("wandb")
    name = json.loads((trainer.save_dir / "loggers.json").read_text())["wandb"]
    (record,) = (trainer.save_dir / "wandb").glob(f"offline-run-*/run-{name}.wandb")
    patience = time.monotonic() + 20  # a process of its own writes it
    while b"best/metrics/mAP50-95(B)" not in record.read_bytes() and time.monotonic() < patience:
        time.sleep(0.1)
    assert b"best/metrics/mAP50-95(B)" in record.read_bytes()
    follow(None, resume=str(trainer.last), epochs=3)
    assert len(list((trainer.save_dir / "wandb").glob(f"offline-run-*/run-{name}.wandb"))) == 2
