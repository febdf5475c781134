"""MLflow: what the package is told (a fake one), and that the real one keeps it, in a database of the test."""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest


class Client:
    """Keeps what it is told, for all clients of a test."""

    def __init__(self, told):
        self.told = told

    def get_experiment_by_name(self, name):
        return (
            SimpleNamespace(experiment_id=self.told["experiments"][name]) if name in self.told["experiments"] else None
        )

    def create_experiment(self, name):
        self.told["experiments"][name] = "1"
        return "1"

    def create_run(self, experiment, run_name):
        self.told["runs"].append((experiment, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id=f"run{len(self.told['runs'])}"))

    def update_run(self, run, status):
        self.told["status"].append((run, status))

    def log_batch(self, run, metrics=(), params=()):
        assert len(params) <= 100 and all(len(value) <= 500 for _, value in params)
        self.told["params"].update(dict(params))
        self.told["metrics"] += [(run, key, value, step) for key, value, _, step in metrics]

    def log_artifact(self, run, file, folder):
        self.told["artifacts"].append((run, folder, file))

    def set_terminated(self, run, status):
        self.told["status"].append((run, status))


@pytest.fixture
def told(monkeypatch):
    kept = {"experiments": {}, "runs": [], "status": [], "params": {}, "metrics": [], "artifacts": []}
    fake, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    fake.MlflowClient = lambda: Client(kept)
    entities.Metric, entities.Param = (lambda *values: values), (lambda *values: values)
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return kept


def test_what_is_told(follow, told):
    trainer = follow("mlflow")
    assert told["experiments"] == {"mine": "1"} and told["runs"] == [("1", "exp")]
    assert told["params"]["lr0"] == "0.01" and set(told["params"]) == set(trainer.args.to_dict())
    assert ("run1", "metrics/mAP50-95B", 0.2, 2) in told["metrics"]  # brackets are not allowed there
    assert {(key, step) for _, key, _, step in told["metrics"] if step == 0} == {
        ("model/parameters", 0), ("best/metrics/mAP50-95B", 0),
    }  # fmt: skip
    assert told["artifacts"] == [
        ("run1", "pictures", str(trainer.save_dir / "results.png")), ("run1", "weights", str(trainer.best)),
    ]  # fmt: skip
    assert told["status"] == [("run1", "FINISHED")]


def test_a_resumed_run_is_the_same_run(follow, told):
    trainer = follow("mlflow")
    told["params"].clear()
    follow(None, resume=str(trainer.last), epochs=3)
    assert len(told["runs"]) == 1 and told["params"] == {}
    assert told["status"] == [("run1", "FINISHED"), ("run1", "RUNNING"), ("run1", "FINISHED")]
    assert [step for run, key, _, step in told["metrics"] if key == "train/a_loss"] == [1, 2, 3]


def test_a_second_run_is_in_the_same_experiment(follow, told):
    follow("mlflow", epochs=1)
    follow("mlflow", epochs=1)
    assert told["runs"] == [("1", "exp"), ("1", "exp2")] and told["experiments"] == {"mine": "1"}


def test_the_real_package(follow, monkeypatch, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)  # below it are the artifacts
    trainer = follow("mlflow")
    follow(None, resume=str(trainer.last), epochs=3)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("mine")
    (run,) = client.search_runs([experiment.experiment_id])
    assert json.loads((trainer.save_dir / "loggers.json").read_text()) == {"mlflow": run.info.run_id}
    assert (run.info.run_name, run.info.status, run.data.params["lr0"]) == ("exp", "FINISHED", "0.01")
    history = client.get_metric_history(run.info.run_id, "metrics/mAP50-95B")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert [file.path for file in client.list_artifacts(run.info.run_id, "weights")] == ["weights/best.pt"]
