"""A run that is killed (SIGKILL) and resumed ends bit-exactly like an uninterrupted one; a damaged last.pt."""

import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tests.engine.fakes import results
from tests.shapes import write_shapes
from ultralytics import RTDETR, cli
from ultralytics.engine.checkpoint import load_checkpoint
from ultralytics.engine.train_state import TrainingInterrupted
from ultralytics.utils.errors import OptionError, WeightsError
from ultralytics.utils.files import os as files

ROOT = Path(__file__).parents[2]

# Run as a script, this file trains and kills itself: `python test_survival.py DATA FOLDER EVENT NUMBER WORKERS`.
OPTIONS = {
    "imgsz": 64, "batch": 2, "nbs": 4, "epochs": 3, "queries": 10, "denoising": 4, "device": "cpu", "name": "exp",
    "save_minutes": 0, "plots": False, "warmup_iters": 2, "close_mosaic": 2, "save_optimizer": True,
}  # fmt: skip


def train(data: str, folder: str, workers: int, callbacks: dict | None = None, **more) -> None:
    model = RTDETR("rtdetr-efficientvit-m0.yaml")
    for event, function in (callbacks or {}).items():
        model.add_callback(event, function)
    model.train(data=data, project=folder, workers=workers, **OPTIONS, **more)


def killing(number: int, group: bool = False):
    """Return a function that kills the process at its `number`-th call; with `group`, SIGTERM to the process group."""
    calls = [0]

    def count(*_):
        calls[0] += 1
        if calls[0] == number and group:
            os.killpg(os.getpgrp(), signal.SIGTERM)
        elif calls[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return count


def train_until_killed(data: str, folder: str, event: str, number: str, workers: str) -> None:
    kill = killing(int(number), group=event == "group")
    if event == "group":  # like `timeout` and clusters, also to the data workers
        train(data, folder, int(workers), {"on_train_batch_end": kill})
    elif event in ("fsync", "replace"):  # while a checkpoint is written, and before it is renamed
        real = getattr(files, event)
        setattr(files, event, lambda *paths: (kill(), real(*paths)))
        train(data, folder, int(workers))
    else:
        train(data, folder, int(workers), {event: kill})


@pytest.fixture(scope="module")
def whole(shapes, tmp_path_factory) -> Path:
    """Return the folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    train(str(shapes), str(folder), workers=0)
    return folder / "exp"


# Three batches an epoch, two updates; last.pt is written at the start, after each update and after each epoch.
@pytest.mark.parametrize(
    ("event", "number", "workers"),
    [
        ("on_train_batch_end", 5, 0),
        ("replace", 6, 2),
        ("group", 4, 2),
        pytest.param("on_train_batch_end", 3, 2, marks=pytest.mark.slow),
        pytest.param("on_val_batch_end", 3, 0, marks=pytest.mark.slow),
        pytest.param("on_fit_epoch_end", 2, 0, marks=pytest.mark.slow),
        pytest.param("on_model_save", 1, 0, marks=pytest.mark.slow),
        pytest.param("fsync", 9, 0, marks=pytest.mark.slow),
        pytest.param("replace", 10, 0, marks=pytest.mark.slow),
    ],
)
def test_resume_after_a_kill_is_bit_exact(shapes, whole, tmp_path, event, number, workers):
    command = [sys.executable, __file__, str(shapes), str(tmp_path), event, str(number), str(workers)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=300, start_new_session=True
    )
    if event == "group":
        assert "Training interrupted in epoch 2" in killed.stderr and "DataLoader worker" not in killed.stderr
    else:
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    run = tmp_path / "exp"
    RTDETR(run / "weights" / "last.pt").train(resume=True, workers=workers)
    expected, state = (load_checkpoint(folder / "weights" / "last.pt") for folder in (whole, run))
    for part in ("model", "ema"):
        assert all(torch.equal(state[part][name], value) for name, value in expected[part].items())
    assert results(run) == results(whole)


@pytest.fixture(scope="module")
def interrupted(shapes, tiny, tmp_path_factory) -> Path:
    """Return the folder of a run that was interrupted after its second epoch of three."""
    folder = tmp_path_factory.mktemp("interrupted")
    model = RTDETR(tiny)
    model.add_callback("on_model_save", lambda t: t.epoch == 1 and os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(TrainingInterrupted):
        model.train(data=str(shapes), project=str(folder), workers=0, save_period=1, **OPTIONS)
    return folder / "exp"


WAYS = {
    "yolo resume=FILE": lambda last, run: cli.main(["train", f"resume={last}"]),
    "yolo resume=FOLDER": lambda last, run: cli.main(["train", f"resume={run}"]),
    "yolo resume=True": lambda last, run: cli.main(["train", "resume=True", f"project={run.parent}"]),
    "yolo model=FILE resume=True": lambda last, run: cli.main(["train", f"model={last}", "resume=True"]),
    "train.py": lambda last, run: runpy.run_path(str(ROOT / "train.py"))["main"](resume=str(last)),
    "RTDETR(FILE)": lambda last, run: RTDETR(last).train(resume=True),
    "RTDETR(YAML)": lambda last, run: RTDETR("rtdetr-r18.yaml").train(resume=str(last)),
}


@pytest.mark.parametrize(
    ("way", "damage"), [*((way, "flipped") for way in WAYS), ("train.py", "cut"), ("yolo resume=True", "missing")]
)
def test_every_way_of_resuming_takes_the_next_older_checkpoint(interrupted, tmp_path, caplog, monkeypatch, way, damage):
    monkeypatch.setattr(cli, "setup_logging", lambda *_: None)  # caplog reads the log
    last = shutil.copytree(interrupted, run := tmp_path / "exp") / "weights" / "last.pt"
    os.utime(last.with_name("epoch1.pt"))  # copies have the times of the copying
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.unlink()
    if damage != "missing":
        last.write_bytes(content[:5000] if damage == "cut" else content)
    with pytest.raises(WeightsError, match=r"last\.pt: (damaged|no such)"):
        RTDETR(last).info()
    assert not WAYS[way](last, run) or not way.startswith("yolo")
    assert f"Resuming from {run / 'weights' / 'epoch2.pt'}, epoch 2." in caplog.text
    assert [row["epoch"] for row in results(run)] == ["1", "2", "3"]
    assert all(file.stat().st_nlink == 1 for file in run.rglob("*.pt"))


def edit_label(data: Path, folder: Path) -> None:
    file = sorted((data.with_name("shapes") / "labels" / "train").glob("*.txt"))[0]
    file.write_text("0 0.5 0.5 0.2 0.2\n")


def remove_image(data: Path, folder: Path) -> None:
    sorted((data.with_name("shapes") / "images" / "val").glob("*.jpg"))[0].unlink()


def replace_image(data: Path, folder: Path) -> None:
    """Write other pixels of the same size in bytes and with the old time."""
    file = sorted((data.with_name("shapes") / "images" / "train").glob("*.jpg"))[0]
    content, times = bytearray(file.read_bytes()), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    content[-20] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=times)


def edit_module(data: Path, folder: Path) -> None:
    (folder / "helper.py").write_text("FACTOR = 3.0\n")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (edit_label, "train labels"),
        (remove_image, "val images, val labels"),
        (replace_image, "train images"),
        (edit_module, "mine/helper.py"),
    ],
)
def test_changes_of_data_and_modules_are_noticed_on_resume(tmp_path, tiny, capsys, change, named):
    data, modules = write_shapes(tmp_path, train=4, val=2), tmp_path / "mine"
    modules.mkdir()
    (modules / "helper.py").write_text("FACTOR = 2.0\n")
    (modules / "Twice.py").write_text(
        "from torch import nn\nfrom .helper import FACTOR\nclass Twice(nn.Module):\n"
        "    def forward(self, x):\n        return x * FACTOR\n"
    )
    network = yaml.safe_load(tiny.read_text())
    network["backbone"].append([-1, 1, "Twice", []])
    network["head"][0][0][-1] = 3
    (tmp_path / "net.yaml").write_text(yaml.safe_dump({**network, "modules": str(modules)}))
    model = RTDETR(tmp_path / "net.yaml")
    model.add_callback("on_model_save", lambda t: t.epoch == 0 and os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(TrainingInterrupted):
        model.train(data=str(data), project=str(tmp_path), workers=0, **OPTIONS)
    last = tmp_path / "exp" / "weights" / "last.pt"
    for file in tmp_path.rglob("*.cache.npz"):
        file.unlink()
    change(data, modules)
    with pytest.raises(OptionError, match=f"changed since the run was interrupted: {named}. .*resume_changed=True"):
        RTDETR(last).train(resume=True, trust=True)
    RTDETR(last).train(resume=True, resume_changed=True, trust=True)
    assert "the run continues with them" in "".join(capsys.readouterr())
    assert len(results(tmp_path / "exp")) == 3


if __name__ == "__main__":
    train_until_killed(*sys.argv[1:])
