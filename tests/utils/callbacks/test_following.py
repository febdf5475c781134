"""The protocol between a run and the services that follow it, with a service that keeps what it is told."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest

from tests.engine.fakes import TinyModel, TinyTrainer, tiny_options
from ultralytics.engine.train_state import TrainingInterrupted
from ultralytics.utils import dist
from ultralytics.utils.callbacks import logger_base as following
from ultralytics.utils.callbacks.logger_base import LOGGERS, RunLogger
from ultralytics.utils.errors import MissingPackageError, UserError


class Diary(RunLogger):
    """Writes everything down; fails where `broken` says so."""

    name = "wandb"

    def __init__(self) -> None:
        self.facts, self.values, self.result, self.pictures, self.weights, self.outcome = None, {}, {}, [], None, None
        self.broken, self.calls = set(), []

    def _called(self, what: str) -> None:
        self.calls.append(what)
        if what in self.broken:
            raise ConnectionError("no route to host")

    def start(self, run):
        self._called("start")
        self.facts = run
        return run.run_id or "run-7"

    def log_values(self, values, epoch):
        self._called("values")
        self.values[epoch] = values

    def log_result(self, values):
        self._called("result")
        self.result = values

    def log_pictures(self, files):
        self._called("pictures")
        self.pictures = [file.name for file in files]

    def log_weights(self, file):
        self._called("weights")
        self.weights = file

    def close(self, outcome):
        self._called("close")
        self.outcome = outcome


@pytest.fixture
def diary(monkeypatch):
    kept = Diary()
    monkeypatch.setattr(following, "make_logger", lambda name: kept)
    return kept


def test_a_run_is_told_from_its_options_to_its_weights(follow, diary):
    trainer = follow("wandb", plots=False)
    facts = diary.facts
    assert (facts.name, facts.project, facts.folder, facts.epoch, facts.run_id) == (
        "exp", "mine", trainer.save_dir, 0, None,
    )  # fmt: skip
    assert facts.options["lr0"] == 0.01 and facts.options["loggers"] == ["wandb"]
    assert facts.size["parameters"] == sum(parameter.numel() for parameter in trainer.model.parameters())
    assert list(diary.values) == [1, 2]
    assert list(diary.values[2]) == [
        "time", "train/a_loss", "train/b_loss", "metrics/mAP50-95(B)", "val/a_loss", "val/b_loss",
        "lr/pg0", "lr/pg1", "lr/pg2", "lr/pg3", "train/imgsz",
    ]  # fmt: skip
    assert diary.values[1]["metrics/mAP50-95(B)"] == 0.1 and diary.values[1]["train/imgsz"] == 64
    assert diary.result == {"metrics/mAP50-95(B)": 0.1}  # of the validation at the end
    assert diary.pictures == ["results.png"]
    assert diary.weights == trainer.best and diary.outcome == "finished"
    assert json.loads((trainer.save_dir / "loggers.json").read_text()) == {"wandb": "run-7"}


def test_the_image_size_is_the_mean_over_the_batches_of_the_epoch(follow, diary):
    sides = []
    follow(
        "wandb", {"on_train_batch_end": lambda t: sides.append(t.batch["img"].shape[-1])}, imgsz=128, multi_scale=True
    )
    assert diary.values[2]["train/imgsz"] == pytest.approx(sum(sides[3:]) / 3)


def test_a_model_that_can_be_counted_is_told_with_its_operations(follow, diary, caplog):
    class Countable(TinyModel):
        def forward(self, batch):
            return super().forward(batch) if isinstance(batch, dict) else self.model(batch)

    follow("wandb")
    assert "GFLOPs" not in diary.facts.size  # which is not zero: it is not known
    assert "operations could not be counted" in caplog.text
    trainer = type("Counted", (TinyTrainer,), {"build_model": lambda self: Countable()})
    built = trainer(tiny_options(diary.facts.folder.parent, epochs=1, loggers="wandb", imgsz=64))
    built.train()
    # The first convolution: 62 x 62 positions, 3 x 3 x 3 weights for each of 4 outputs, 2 operations a weight.
    assert diary.facts.size["GFLOPs"] * 1e9 > 62 * 62 * 27 * 4 * 2


def test_a_resumed_run_goes_on_under_its_name(follow, diary):
    trainer = follow("wandb")
    follow(None, resume=str(trainer.last), epochs=3)
    assert diary.calls.count("start") == 2  # the option of the run is kept
    assert (diary.facts.run_id, diary.facts.epoch) == ("run-7", 2)
    assert list(diary.values) == [1, 2, 3]


def test_a_new_run_in_the_same_folder_is_a_new_one(follow, diary):
    follow("wandb")
    diary.name = "mlflow"
    trainer = follow("mlflow", exist_ok=True)
    assert diary.facts.run_id is None
    assert json.loads((trainer.save_dir / "loggers.json").read_text()) == {"mlflow": "run-7"}
    given = {"resume": str(trainer.last), "epochs": 3, "loggers": ["wandb", "mlflow"]}
    TinyTrainer(tiny_options(trainer.save_dir.parent, **given), overrides=given).train()
    assert diary.calls.count("start") == 4 and diary.facts.run_id == "run-7"


def test_a_service_that_fails_is_told_once_and_gets_the_rest_later(follow, diary, caplog):
    def network(trainer):
        diary.broken = {"values"} if 2 <= trainer.epoch <= 4 else set()

    with caplog.at_level("WARNING", logger="ultralytics"):
        trainer = follow("wandb", {"on_train_epoch_start": network}, epochs=7)
    assert trainer.epoch == 7
    messages = [record.message for record in caplog.records if "loggers=wandb" in record.message]
    assert len(messages) == 1
    assert "log_values failed: ConnectionError: no route to host. The training goes on;" in messages[0]
    assert list(diary.values) == [1, 2, 3, 4, 5, 6, 7]
    # Epoch 3 fails; 4 is left alone; 5 fails; 6 and 7 are left alone; the end of the run sends all.
    assert diary.calls.count("values") == 2 + 1 + 1 + 5


@pytest.mark.parametrize("part", ["result", "pictures", "weights", "close"])
def test_a_failure_at_the_end_leaves_the_result(follow, diary, caplog, part):
    diary.broken = {part}
    trainer = follow("wandb")
    assert trainer.epoch == 2 and f"{part} failed: ConnectionError" in caplog.text
    assert diary.calls[-4:] == ["result", "pictures", "weights", "close"]


def test_a_service_that_cannot_be_reached_at_the_start_ends_a_new_run(follow, diary):
    diary.broken = {"start"}
    with pytest.raises(UserError, match=r"loggers=wandb: the run cannot be opened there: ConnectionError: no route"):
        follow("wandb")
    assert diary.calls == ["start"]


def test_and_a_resumed_run_goes_on_without_it(follow, diary, caplog):
    trainer = follow("wandb")
    diary.broken, diary.calls = {"start"}, []
    resumed = follow(None, resume=str(trainer.last), epochs=3)
    assert resumed.epoch == 3 and diary.calls == ["start"]
    assert "The training goes on without it" in caplog.text


def test_an_interrupted_and_a_failed_run_are_closed_as_such(follow, diary):
    def press_ctrl_c(trainer):
        os.kill(os.getpid(), signal.SIGINT)

    def fail(trainer):
        raise ZeroDivisionError

    with pytest.raises(TrainingInterrupted):
        follow("wandb", {"on_train_epoch_end": press_ctrl_c})
    assert diary.outcome == "interrupted"
    with pytest.raises(ZeroDivisionError):
        follow("wandb", {"on_train_epoch_end": fail})
    assert diary.outcome == "failed"


def test_only_the_main_process_tells(monkeypatch, diary):
    class Second:
        args = type("Args", (), {"loggers": ["wandb"]})
        callbacks = None  # nothing is attached

    monkeypatch.setattr(dist, "rank", lambda: 1)
    with following.followed(Second()):
        assert diary.calls == []
    assert diary.outcome is None


def test_numbers_that_are_none_are_left_out(follow, diary, monkeypatch):
    monkeypatch.setattr(TinyTrainer, "planned", (float("nan"),))
    follow("wandb")
    assert "metrics/mAP50-95(B)" not in diary.values[1] and "val/a_loss" in diary.values[1]


@pytest.mark.parametrize("name", list(LOGGERS))
def test_without_its_package_nothing_is_trained(monkeypatch, follow, tmp_path, name):
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    with pytest.raises(MissingPackageError, match=f'loggers={name} needs .* pip install "{name}>='):
        follow(name)
    assert not list(tmp_path.iterdir())


def test_importing_the_loggers_imports_no_service():
    before = set(sys.modules)
    for module, cls in LOGGERS.values():
        assert issubclass(getattr(__import__(module, fromlist=[cls]), cls), RunLogger)
    assert not {"tensorboard", "wandb", "mlflow", "clearml"} & (set(sys.modules) - before)
