"""DetectionModel and RTDETRDetectionModel: sizes, settings, loss, and modules outside the package in training."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.nn.test_parser import small
from tests.nn.test_registry import GATE
from tests.shapes import write_shapes
from ultralytics import RTDETR
from ultralytics.cfg.options import get_cfg
from ultralytics.nn.tasks import RTDETRDetectionModel

QUICK = {"imgsz": 64, "batch": 2, "epochs": 1, "queries": 10, "denoising": 4, "device": "cpu", "plots": False}
IMAGE = np.zeros((64, 64, 3), np.uint8)

SIZES = {  # millions of parameters and GFLOPs at 640, nc=80
    "efficientvit-m0": (11.009, 30.02), "efficientvit-m1": (11.661, 34.88), "efficientvit-m2": (12.856, 37.06),
    "efficientvit-m3": (15.510, 40.77), "efficientvit-m4": (17.370, 42.85), "efficientvit-m5": (21.065, 55.61),
    "l": (32.970, 110.24), "resnet50": (42.925, 132.72), "r18": (20.184, 59.77), "r34": (31.441, 91.97),
    "r50": (42.944, 136.72), "r101": (76.661, 259.94),  # 42 M and 136 GFLOPs, 76 M and 259 in table 2 of the paper
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_published_sizes(name):
    info = RTDETRDetectionModel(f"rtdetr-{name}.yaml").info(verbose=False)
    assert (round(info.parameters / 1e6, 3), round(info.gflops, 2)) == pytest.approx(SIZES[name], abs=6e-3)


@pytest.mark.parametrize("name", ["x", "resnet101"])
def test_the_other_files_build(name):
    model = RTDETRDetectionModel(f"rtdetr-{name}.yaml", nc=5)
    head, *rows = model.table().splitlines()
    assert "output at 640" in head and len(rows) == len(model.model) and max(map(len, (head, *rows))) <= 120
    assert model.nc == 5 and model.layer_shapes[-1][0] == (1, 300, 9)


def test_settings_reach_the_decoder_and_the_yaml():
    model = RTDETRDetectionModel(small(), overrides={"num_queries": 7, "num_denoising": None})
    assert model.model[-1].num_queries == 7 and model.model[-1].num_denoising == 2
    assert RTDETRDetectionModel(model.yaml).model[-1].num_queries == 7


def test_channels_of_the_images_may_be_given():
    model = RTDETRDetectionModel(small(), ch=1)
    assert model.model[0].conv.in_channels == 1 and model.yaml["ch"] == 1


def test_names_of_the_file_are_kept_for_its_classes_only():
    model = RTDETRDetectionModel(small(names=["a", "b", "c"]))
    assert model.names == {0: "a", 1: "b", 2: "c"} and RTDETRDetectionModel(model.yaml).names == model.names
    model = RTDETRDetectionModel(small(names=["a", "b", "c"]), nc=2)
    assert model.names == {0: "0", 1: "1"} and RTDETRDetectionModel(model.yaml).names == model.names


def test_the_scale_that_a_file_does_not_choose_is_a_warning(caplog):
    scales = {"n": [1, 1, 1024], "s": [1, 1, 512]}
    RTDETRDetectionModel(RTDETRDetectionModel(small(scales=scales)).yaml)
    assert [text.partition(";")[0] for text in caplog.messages] == ["model: chooses none of its scales n, s"]


def test_fewer_positions_than_queries_give_fewer_queries():
    y, _ = RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml", nc=2).eval()(torch.rand(1, 3, 32, 64))
    assert y.shape == (1, 4 * 8 + 2 * 4 + 1 * 2, 6)


def test_the_loss_is_built_from_the_options_of_the_run():
    model = RTDETRDetectionModel(small())
    assert model.init_criterion().loss_gain["bbox"] == 5
    model.args = get_cfg(overrides={"loss_bbox": 3.0, "loss_class": "mal"})
    criterion = model.init_criterion()
    assert criterion.loss_gain.items() >= {"giou": 2, "class": 1, "bbox": 3}.items()
    assert (criterion.loss_class, criterion.nc) == ("mal", 3)


@pytest.fixture
def outside(tmp_path) -> tuple[Path, Path, dict]:
    """A module folder, a model file that needs it, and options of a short training."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "OutsideGate.py").write_text(GATE.format(name="OutsideGate"))
    (tmp_path / "net.yaml").write_text(yaml.safe_dump(small([-1, 1, "OutsideGate", []], nc=6)))
    data = str(write_shapes(tmp_path, train=4, val=2))
    return folder, tmp_path / "net.yaml", {"data": data, "modules": str(folder), "project": str(tmp_path), **QUICK}


def test_weights_of_a_training_know_their_module_folder(tmp_path, outside):
    folder, file, options = outside
    model = RTDETR(file)
    model.train(**options, workers=1)
    load = f"from ultralytics import RTDETR; import numpy as np; m = RTDETR({str(model.trainer.last)!r}, trust=True)\n"
    predict = load + "m.predict(np.zeros((64, 64, 3), np.uint8)); print('predicted')\n"
    assert f"run only if you add modules={folder} or trust=True" in run(predict.replace(", trust=True", "")).stderr
    assert run(predict).stdout.endswith("predicted\n")
    assert run(load + "m.train(resume=True, epochs=2); print('resumed')").stdout.endswith("resumed\n")
    exported = run(load + "print(m.export(format='torchscript', imgsz=64))").stdout.splitlines()[-1]

    moved = shutil.move(folder, tmp_path / "moved")
    assert run(predict.replace(str(model.trainer.last), exported)).stdout.endswith("predicted\n")  # needs no folder
    gone = run(predict).stderr
    assert f"module folder {folder}, recorded with the model, is gone" in gone and "looked in" in gone
    assert run(predict.replace("np.uint8)", f"np.uint8), modules={str(moved)!r}")).stdout.endswith("predicted\n")


def test_every_process_of_a_distributed_run_finds_the_folder(outside):
    _, file, options = outside
    model = RTDETR(file)
    model.train(**{**options, "device": "cpu,cpu", "workers": 0})
    assert type(model.model.model[3]).__name__ == "OutsideGate"
    assert len(model.predict(IMAGE, conf=0.0)[0].boxes) == 10


def test_a_model_file_may_name_its_folder(outside):
    folder, file, _ = outside
    file.write_text("modules: mine\n" + file.read_text())
    model = RTDETR(file)
    assert model.model.yaml["modules"] == [str(folder)]
    assert len(model.predict(IMAGE, imgsz=64)) == 1


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
