"""Studies of hyperparameters: space, pruning, resume, failures, files. Trials are arithmetic; one test trains."""

import csv
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from ultralytics import RTDETR, YOLO
from ultralytics.cfg import get_cfg
from ultralytics.engine.tuner import Tuner
from ultralytics.models.rtdetr.predict import FAMILY
from ultralytics.models.tuning import search_space
from ultralytics.models.yolo.detector import FAMILY as YOLO_FAMILY
from ultralytics.utils.errors import DataError, MissingPackageError, OptionError, UserError

optuna = pytest.importorskip("optuna")
SPACE = {"lr0": (1e-5, 1e-2), "mosaic": (0.0, 1.0)}
TRAIN = get_cfg(overrides={"mode": "train"})


class Arithmetic(RTDETR):
    """Its runs take no time: fitness is mosaic, reached over the epochs."""

    runs: list = []  # noqa: RUF012
    fails = interrupted = ()  # numbers of runs

    def train(self, trainer=None, **options):
        number = len(self.runs)
        self.runs.append(options)
        if number in self.interrupted:
            raise KeyboardInterrupt
        if number in self.fails:
            raise RuntimeError(f"run {number} diverged")
        for epoch in range(options["epochs"]):
            fitness = options["mosaic"] * (epoch + 1) / options["epochs"]
            seen = {"fitness": fitness, "epoch": epoch, "epochs": options["epochs"], "finished_epochs": epoch + 1}
            self.callbacks.run("on_fit_epoch_end", SimpleNamespace(**seen))
        return SimpleNamespace(fitness=options["mosaic"])


@pytest.fixture
def model(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(Arithmetic, "runs", [])
    monkeypatch.chdir(tmp_path)
    return Arithmetic(tiny)


def results(folder):
    with open(folder / "tune_results.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_study_finds_the_best_prunes_and_writes_its_files(model, tmp_path):
    best = model.tune(data="d.yaml", epochs=6, iterations=12, space=SPACE, lr0=0.001, project="runs")
    folder = tmp_path / "runs" / "tune"
    assert yaml.safe_load((folder / "best_hyperparameters.yaml").read_text()) == best
    rows = results(folder)
    assert len(rows) == 12 and float(rows[0]["lr0"]) == 0.001 and float(rows[0]["mosaic"]) == 1.0 == best["mosaic"]
    assert {row["state"] for row in rows} == {"complete", "pruned"}
    assert all(int(row["epochs"]) == 6 for row in rows if row["state"] == "complete")
    assert all(2 < int(row["epochs"]) < 6 for row in rows if row["state"] == "pruned")
    assert [run["name"] for run in model.runs] == [f"trial{i}" for i in range(12)]
    assert all(run["plots"] is False and run["data"] == "d.yaml" for run in model.runs)
    page = (folder / "study.html").read_text()
    assert page.count("<tr>") == 13 and "pruned" in page
    assert (folder / "tune_scatter_plots.png").read_bytes()[1:4] == b"PNG"


def test_failed_trials_do_not_stop_the_study(model, tmp_path, caplog):
    model.fails = Arithmetic.fails = (0, 2)
    try:
        model.tune(data="d.yaml", epochs=2, iterations=4, space=SPACE)
    finally:
        Arithmetic.fails = ()
    rows = results(tmp_path / "runs" / "detect" / "tune")
    assert [row["state"] for row in rows] == ["fail", "complete", "fail", "complete"]
    assert rows[2]["error"] == "run 2 diverged" and "trial 2 failed: run 2 diverged" in caplog.text


def test_interrupted_study_is_resumed_from_its_storage(model, monkeypatch, tmp_path):
    monkeypatch.setattr(Arithmetic, "interrupted", (2,))
    with pytest.raises(KeyboardInterrupt):
        model.tune(data="d.yaml", epochs=2, iterations=5, space=SPACE)
    resumed = Tuner({"model": None, "resume": True}, model=Arithmetic(model.source))
    assert resumed.options.epochs == 2 and set(resumed.space) == {"lr0", "mosaic"}
    resumed(iterations=5)
    rows = results(tmp_path / "runs" / "detect" / "tune")
    assert [row["state"] for row in rows] == ["complete", "complete", "fail", *["complete"] * 3]
    assert [rows[3][name] for name in SPACE] == [rows[2][name] for name in SPACE]  # the interrupted one, again
    assert len({row["lr0"] for row in rows}) == 5
    count = len(model.runs)
    model.tune(resume="runs/detect/tune", iterations=5)
    assert len(model.runs) == count
    with pytest.raises(UserError, match=r"there is no study\.db in nowhere/tune; write resume=FOLDER"):
        model.tune(resume=True, project="nowhere")


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        ({"lr": (0.1, 0.2)}, {}, "unknown option 'lr'; use 'lr0'"),
        ({"lr1": (0.1, 0.2)}, {}, "unknown option 'lr1'; did you mean 'lr0'"),
        ({"box": (1.0, 2.0)}, {}, "space: option 'box' is not supported by RT-DETR: it is a loss weight of YOLO"),
        ({"mosaic": (0, 2)}, {}, r"mosaic: expected a number in \[0, 1\], got 2"),
        ({"mosaic": (0.5, 0.1)}, {}, "expected .low, high. with low < high, got .0.5, 0.1."),
        ({"momentum": (0.7, 0.98, 0.3)}, {}, "momentum: expected .low, high. with low < high"),
        ({"conf": (0.1, 0.2), "source": ["a", "b"]}, {}, "space: source is no option of training"),
        ({"mosaic": 0.5}, {}, "mosaic: expected .low, high. or a list of choices, got 0.5"),
        ("queries", {}, r"queries has no limited range; write \{queries: \[low, high\]\}"),
        ("lr0, mosaic", {"augmentation": "official"}, "space: mosaic has no effect with augmentation=official"),
        ("lr0", {"optimizer": "auto"}, "space: lr0 has no effect with optimizer=auto; give optimizer=AdamW"),
        ({}, {}, "space: is empty"),
    ],
)
def test_spaces_that_are_refused(space, options, message):
    with pytest.raises(OptionError, match=message):
        search_space(space, get_cfg(overrides={**options, "mode": "train"}), FAMILY)


def test_ranges_of_the_schema_and_of_files(tmp_path):
    default = search_space(None, TRAIN, FAMILY)
    assert {"lr0", "loss_giou", "mosaic", "close_mosaic"} < set(default) and "box" not in default
    assert (default["mosaic"].low, default["mosaic"].high, default["lr0"].log) == (0, 1, True)
    assert isinstance(default["close_mosaic"], optuna.distributions.IntDistribution)
    yolo = search_space(None, get_cfg(overrides={"mode": "train"}, family=YOLO_FAMILY), YOLO_FAMILY)
    assert {"box", "cls", "dfl"} < set(yolo) and not {"lr0", "momentum", "loss_cls"} & set(yolo)  # optimizer=auto
    (tmp_path / "space.yaml").write_text("optimizer: [AdamW, SGD]\nloss_iou: [giou, siou]\n")
    assert search_space(str(tmp_path / "space.yaml"), TRAIN, FAMILY)["loss_iou"].choices == ("giou", "siou")
    named = search_space("cos_lr,optimizer, lr0", TRAIN, FAMILY)
    assert (
        named["lr0"].high == 0.01 and named["cos_lr"].choices == (False, True) and "SGD" in named["optimizer"].choices
    )


def test_calls_that_are_refused(model, monkeypatch):
    with pytest.raises(OptionError, match="use_ray=True: studies run with Optuna"):
        model.tune(use_ray=True)
    with pytest.raises(OptionError, match="did you mean 'lr0'"):
        model.tune(data="d.yaml", space="lr00")
    assert not Path("runs").exists()
    with pytest.raises(OptionError, match="a trial runs on one device"):
        model.tune(data="d.yaml", device="0,1")
    with pytest.raises(DataError, match=r"nope\.yaml"):  # before any trial could have succeeded
        RTDETR(model.source).tune(data="nope.yaml", epochs=1, iterations=3, space=SPACE)
    monkeypatch.setattr(Arithmetic, "train", lambda self, *_, **options: SimpleNamespace(fitness=math.nan))
    with pytest.raises(DataError, match="the fitness is nan"):
        model.tune(data="d.yaml", iterations=2, space=SPACE)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingPackageError, match="tune needs the package 'optuna'"):
        model.tune(data="d.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("cls", [RTDETR, YOLO])
def test_study_of_runs(cls, tiny, shapes, tmp_path):
    model = cls(tiny if cls is RTDETR else "yolov8n.yaml", verbose=False)
    options = {"imgsz": 64, "batch": 3, "workers": 0, "device": "cpu", "verbose": False, "optimizer": "SGD"}
    best = model.tune(data=str(shapes), epochs=2, iterations=3, project=str(tmp_path), **options)
    folder = tmp_path / "tune"
    assert "lr0" in best and len(best) > 15 and [row["state"] for row in results(folder)] == ["complete"] * 3
    assert sorted(file.name for file in (folder / "weights").iterdir()) == ["best.pt", "last.pt"]
    assert not list(folder.glob("trial*/weights"))
    arguments = yaml.safe_load((folder / "trial1" / "args.yaml").read_text())
    assert arguments["mosaic"] == pytest.approx(float(results(folder)[1]["mosaic"]))
    cls(str(folder / "weights" / "best.pt")).train(
        data=str(shapes), cfg=str(folder / "best_hyperparameters.yaml"), epochs=1, project=str(tmp_path), plots=False,
        **options,
    )  # fmt: skip
