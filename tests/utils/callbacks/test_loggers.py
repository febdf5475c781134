"""Loggers: what a run sends, failures, and each tracker: against a fake package, or the real one if installed."""

import os
import signal
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from tests.engine.fakes import TinyTrainer, tiny_options
from ultralytics.engine.train_state import TrainingInterrupted
from ultralytics.utils.callbacks import Callbacks, loggers
from ultralytics.utils.errors import MissingPackageError
from ultralytics.utils.plotting import plot_results


@pytest.fixture
def train(tmp_path):
    """Train two epochs with a logger; results.png is drawn at the end, as `plots=True` does."""

    def run(service: str | None, callbacks: dict | None = None, **changes) -> TinyTrainer:
        options = {"epochs": 2, "imgsz": 64, "project": str(tmp_path / "mine"), "name": "exp", "loggers": service}
        resume = {"resume": changes.get("resume"), "epochs": changes.get("epochs")} if "resume" in changes else None
        trainer = TinyTrainer(tiny_options(tmp_path, **{**options, **changes}), overrides=resume)
        trainer.add_callback("on_train_end", lambda trainer: plot_results(trainer.files.results))
        for event, function in (callbacks or {}).items():
            trainer.add_callback(event, function)
        trainer.train()
        return trainer

    return run


class Recorder(loggers.LoggerCallback):
    """Record all calls; raise in the methods named in `broken`."""

    name = "wandb"

    def __init__(self) -> None:
        self.is_open = self.has_warned = False
        self.calls, self.broken = [], set()

    def _record(self, method: str, *arguments) -> None:
        self.calls.append((method, *arguments))
        if method in self.broken:
            raise ConnectionError("no route to host.")

    def start(self, trainer, project):
        self._record("start", trainer, project)

    def log_metrics(self, values, epoch):
        self._record("log_metrics", values, epoch)

    def log_summary(self, values):
        self._record("log_summary", values)

    def log_files(self, images, weights):
        self._record("log_files", [image.name for image in images], weights)

    def close(self, outcome):
        self._record("close", outcome)


@pytest.fixture
def recorder(monkeypatch):
    logger = Recorder()
    monkeypatch.setattr(loggers, "LOGGERS", {"wandb": lambda: logger})
    return logger


def test_run_is_logged_from_options_to_weights(train, recorder):
    trainer = train("wandb", imgsz=128)
    (_, _, project), size, (_, first, _), (_, second, epoch), *result, close = recorder.calls
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    assert project == "mine" and size == ("log_summary", {"model/parameters": parameters})
    assert epoch == 2 and list(second) == [
        "time", "train/a_loss", "train/b_loss", "metrics/mAP50-95(B)", "val/a_loss", "val/b_loss",
        "lr/pg0", "lr/pg1", "lr/pg2", "lr/pg3",
    ]  # fmt: skip
    assert first["metrics/mAP50-95(B)"] == 0.1
    assert result == [("log_summary", {"best/metrics/mAP50-95(B)": 0.1}), ("log_files", ["results.png"], trainer.best)]
    assert close == ("close", "finished")


@pytest.mark.parametrize(
    ("broken", "calls"),
    [
        (["log_metrics", "log_files"], "start log_summary log_metrics log_metrics log_summary log_files close"),
        (["start"], "start"),
    ],
)
def test_failures_are_logged_once_and_training_continues(train, recorder, caplog, broken, calls):
    recorder.broken = set(broken)
    assert train("wandb").finished_epochs == 2
    (message,) = [record.message for record in caplog.records if "loggers=wandb" in record.message]
    assert f"{broken[0]} failed: ConnectionError: no route to host. Training" in message
    assert [method for method, *_ in recorder.calls] == calls.split()


def test_outcome_of_interrupted_and_failed_runs(train, recorder):
    with pytest.raises(TrainingInterrupted):
        train("wandb", {"on_train_epoch_end": lambda trainer: os.kill(os.getpid(), signal.SIGINT)})
    assert recorder.calls[-1] == ("close", "interrupted")
    with pytest.raises(ZeroDivisionError):
        train("wandb", {"on_train_epoch_end": lambda trainer: 1 / 0})
    assert recorder.calls[-1] == ("close", "failed")


def test_other_ranks_do_not_log(monkeypatch, recorder):
    monkeypatch.setattr(loggers.dist, "rank", lambda: 1)
    with loggers.run_loggers(["wandb"], Callbacks()):
        pass
    assert recorder.calls == []


@pytest.mark.parametrize("name", list(loggers.LOGGERS))
def test_missing_package_stops_before_training(monkeypatch, train, tmp_path, name):
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    with pytest.raises(MissingPackageError, match=f'loggers={name} needs .* pip install "{name}>='):
        train(name)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def fake(monkeypatch):
    """Return a function that replaces a tracker's package by a mock."""

    def install(name: str) -> MagicMock:
        package = MagicMock(Image=str)
        monkeypatch.setitem(sys.modules, name, package)
        for variable in ("WANDB_PROJECT", "WANDB_NAME", "WANDB_DIR", "MLFLOW_EXPERIMENT_NAME"):
            monkeypatch.delenv(variable, raising=False)
        return package

    return install


def test_wandb(train, fake):
    package = fake("wandb")
    trainer = train("wandb")
    given, run = package.init.call_args.kwargs, package.init.return_value
    assert (given["project"], given["name"], given["dir"]) == ("mine", "exp", str(trainer.save_dir))
    logged = [call.kwargs.get("step") for call in run.log.call_args_list]
    assert logged == [1, 2, None] and run.log.call_args_list[1].args[0]["metrics/mAP50-95(B)"] == 0.2
    assert run.log.call_args.args[0] == {"pictures/results": str(trainer.save_dir / "results.png")}
    package.Artifact.return_value.add_file.assert_called_once_with(str(trainer.best))
    run.finish.assert_called_once_with(exit_code=0)


def test_mlflow(train, fake, monkeypatch):
    package = fake("mlflow")
    entities = SimpleNamespace(Metric=lambda *values: values, Param=lambda *values: values)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    client = package.MlflowClient.return_value
    client.get_experiment_by_name.return_value = None
    trainer = train("mlflow")
    client.create_experiment.assert_called_once_with("mine")
    batches = [call.kwargs for call in client.log_batch.call_args_list]
    params = dict(pair for batch in batches for pair in batch.get("params", ()))
    metrics = {(key, value, step) for batch in batches for key, value, _, step in batch.get("metrics", ())}
    assert params["lr0"] == "0.01" and set(params) == set(trainer.args.to_dict())
    assert max(len(batch.get("params", ())) for batch in batches) <= 100
    assert {("metrics/mAP50-95B", 0.2, 2), ("best/metrics/mAP50-95B", 0.1, 0)} <= metrics
    folders = [call.args[1:] for call in client.log_artifact.call_args_list]
    assert folders == [(str(trainer.save_dir / "results.png"), "pictures"), (str(trainer.best), "weights")]
    assert client.set_terminated.call_args.args[1] == "FINISHED"


def test_clearml(train, fake):
    task = fake("clearml").Task.init
    with pytest.raises(ZeroDivisionError):
        train("clearml", {"on_train_start": lambda trainer: trainer.add_callback("teardown", lambda _: 1 / 0)})
    assert task.call_args.kwargs["project_name"] == "mine" and task.call_args.kwargs["task_name"] == "exp"
    task, report = task.return_value, task.return_value.get_logger.return_value
    report.report_scalar.assert_any_call("metrics", "mAP50-95(B)", 0.2, iteration=2)
    report.report_scalar.assert_any_call("time", "time", pytest.approx(0, abs=60), iteration=1)
    report.report_single_value.assert_any_call("best/metrics/mAP50-95(B)", 0.1)
    task.upload_artifact.assert_called_once()
    task.mark_failed.assert_called_once()
    task.close.assert_called_once_with()


def events(folder):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    return reader.EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def test_tensorboard_event_file(train):
    pytest.importorskip("tensorboard")
    read = events(train("tensorboard").save_dir)
    scalars = {"train/a_loss", "metrics/mAP50-95(B)", "val/b_loss", "lr/pg0", "time", "model/parameters"}
    assert scalars <= set(read.Tags()["scalars"])
    points = [(point.step, pytest.approx(point.value)) for point in read.Scalars("metrics/mAP50-95(B)")]
    assert points == [(1, 0.1), (2, 0.2)]
    assert read.Scalars("best/metrics/mAP50-95(B)")[0].value == pytest.approx(0.1)
    assert "    lr0: 0.01" in read.Tensors("options/text_summary")[0].tensor_proto.string_val[0].decode()
    assert read.Images("results")[0].width > 100


def test_tensorboard_does_not_repeat_epochs_after_resume(train, tmp_path):
    pytest.importorskip("tensorboard")

    def kill(trainer):
        if trainer.epoch == 1:
            raise ConnectionAbortedError  # in place of SIGKILL: no code of the package catches it

    def kill_later(trainer):  # after the epoch was logged, before it was saved
        trainer.add_callback("on_fit_epoch_end", kill)

    with pytest.raises(ConnectionAbortedError):
        train("tensorboard", {"on_train_start": kill_later}, epochs=3)
    folder = tmp_path / "mine" / "exp"
    train(None, resume=str(folder), epochs=3)
    assert [point.step for point in events(folder).Scalars("train/a_loss")] == [1, 2, 3]


@pytest.mark.slow
def test_real_wandb_and_mlflow(train, monkeypatch, tmp_path):
    pytest.importorskip("wandb")
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    assert list((train("wandb,mlflow").save_dir / "wandb").glob("offline-run-*/run-*.wandb"))
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert (run.info.run_name, run.info.status, run.data.params["lr0"]) == ("exp", "FINISHED", "0.01")
    history = client.get_metric_history(run.info.run_id, "metrics/mAP50-95B")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.1), (2, 0.2)]
