"""Image sizes, and limits on the number of detections, of YOLO models with other maps than P3 to P5."""

import numpy as np
import pytest
import torch

from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.cfg.model_yaml import load_model_yaml
from ultralytics.models.yolo.detector import FAMILY, suppressed
from ultralytics.nn.head_protocol import ANCHORS
from ultralytics.utils.errors import ModelConfigError

FINE = """
nc: 6
backbone:
  - [-1, 1, Conv, [8, 3, 4]]
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 4]] # 2, stride 32
head:
  - [-1, 1, nn.Upsample, [None, 4, nearest]]
  - [[-1, 1], 1, Concat, [1]]
  - [[4], 1, Detect, [nc]]
"""


@pytest.fixture
def run(shapes, tmp_path) -> dict:
    """Options of a training of one batch."""
    limits = {"batch": 6, "epochs": 1, "workers": 0, "plots": False, "device": "cpu"}
    return {**limits, "data": str(shapes), "project": str(tmp_path)}


def test_images_are_multiples_of_a_stride_of_64(run, capsys):
    model = YOLO("yolov8n-p6.yaml", verbose=False)
    model.train(**run, imgsz=96, multi_scale=0.6, rect=True)
    log = capsys.readouterr().err
    assert "imgsz=96 is not a multiple of the model's stride 64; using 128" in log and "turned off" not in log
    assert (model.trainer.stride, model.trainer.args.imgsz, model.trainer.args.multi_scale) == (64, 128, 0.6)
    assert model.trainer.batch["img"].shape[-1] in (64, 128, 192)


def test_images_fit_the_layers_before_a_head_of_fine_maps(run, tmp_path, capsys):
    (tmp_path / "fine.yaml").write_text(FINE)
    model = YOLO(tmp_path / "fine.yaml", verbose=False)
    (result,) = model.predict(np.zeros((50, 60, 3), np.uint8), imgsz=72, conf=0.0, max_det=3)
    assert model.model.stride.tolist() == [8] and len(result) == 3
    model.train(**run, imgsz=64)
    capsys.readouterr()
    model.val(imgsz=72, workers=0, plots=False)
    assert capsys.readouterr().err.count("imgsz=72 is not a multiple of the model's stride 32; using 96") == 1


def test_the_one_to_one_branch_selects_as_many_as_wanted(capsys):
    model = YOLO("yolo26n.yaml", verbose=False)
    image = np.zeros((160, 160, 3), np.uint8)
    assert len(model.predict(image, imgsz=160, conf=0.0, max_det=400)[0]) == 400
    assert len(model.predict(image, imgsz=160, conf=0.0)[0]) == model.model.max_det == 300
    assert "no effect" not in capsys.readouterr().err
    model.predict(image, imgsz=160, iou=0.5)
    assert "iou and agnostic_nms have no effect" in capsys.readouterr().err


def test_an_absent_branch_is_an_error_before_training(run, tmp_path):
    with pytest.raises(ModelConfigError, match="end2end=True: the head Detect does not have a one-to-one branch"):
        YOLO("yolov8n.yaml", verbose=False).train(**run, imgsz=64, end2end=True)
    assert not [*tmp_path.iterdir()]


def test_six_positions_are_suppressed():
    y = torch.tensor([10.0, 10, 8, 8, 0.9]).repeat(6, 1).T[None]  # (1, 4 + 1, 6), six equal boxes
    options = get_cfg(family=FAMILY)
    assert len(suppressed(y, ANCHORS, 0.5, options, agnostic=False, multi_label=False)[0]) == 1


def test_the_name_of_a_model_has_its_scale():
    spec = load_model_yaml("yolov8s.yaml")
    assert spec.source["yaml_file"] == "yolov8s.yaml" and load_model_yaml(spec.source).source == spec.source
