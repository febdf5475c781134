"""RT-DETR's trainer on a few drawn images."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from tests.shapes import write_data, write_shapes
from ultralytics.cfg import get_cfg
from ultralytics.data.synthetic import NAMES
from ultralytics.engine.checkpoint import load_checkpoint
from ultralytics.engine.train_state import TrainingInterrupted
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import DataError, OptionError

NETWORK = "rtdetr-efficientvit-m0.yaml"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return str(write_shapes(tmp_path_factory.mktemp("data"), train=6, val=2))


def train(data, folder, callbacks=None, **changes) -> RTDETRTrainer:
    base = {"model": NETWORK, "data": data, "imgsz": 64, "batch": 2, "nbs": 2, "epochs": 2, "workers": 0}
    given = {**base, "queries": 10, "denoising": 4, "device": "cpu", "plots": False, "project": str(folder), **changes}
    trainer = RTDETRTrainer(get_cfg(overrides=given), given, callbacks)
    trainer.train()
    return trainer


def test_resume_with_other_workers_is_bit_exact(data, tmp_path):
    whole = train(data, tmp_path, name="whole", close_mosaic=1)

    def press_ctrl_c(trainer):
        if (trainer.epoch, trainer.batches_done) == (1, 1):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(TrainingInterrupted):
        train(data, tmp_path, {"on_train_batch_end": press_ctrl_c}, name="cut", close_mosaic=1, workers=1)
    last = tmp_path / "cut" / "weights" / "last.pt"
    assert load_checkpoint(last)["batches_done"] == 1
    train(data, tmp_path, close_mosaic=1, resume=str(last))
    first, second = load_checkpoint(whole.last), load_checkpoint(last)
    for part in ("model", "ema"):
        assert all(torch.equal(value, second[part][name]) for name, value in first[part].items())


def test_options_reach_network_loss_and_parameter_groups(data, tmp_path):
    trainer = train(data, tmp_path, epochs=1, val=False, save=False, loss_cls=3.0, backbone_lr_ratio=0.5)
    head = trainer.model.model[-1]
    assert (head.num_queries, head.num_denoising, head.nc) == (10, 4, len(NAMES))
    assert trainer.model.criterion.loss_gain == {"class": 3.0, "bbox": 5.0, "giou": 2.0}
    rates = {group["name"]: group["initial_lr"] for group in trainer.optimizer.param_groups}
    assert rates["backbone/decay"] == pytest.approx(rates["rest/decay"] / 2)


def test_class_outputs_are_transferred_by_name(data, tmp_path, caplog):
    first = train(data, tmp_path, epochs=1)
    one_more = str(write_data(Path(data).parent / "shapes", "one_more.yaml", [*NAMES, "hexagon"]))
    with caplog.at_level("INFO", logger="ultralytics"):
        second = train(one_more, tmp_path, model=str(first.best), epochs=1)
    assert second.model.nc == len(NAMES) + 1
    assert second.args.backbone_lr_ratio == 0.1  # it starts from weights
    assert first.args.backbone_lr_ratio == 1.0
    assert f"enc_score_head.bias ({len(NAMES)} of {len(NAMES) + 1} classes by name)" in caplog.text
    with pytest.raises(DataError, match="a resumed run keeps its classes"):
        train(one_more, tmp_path, resume=str(first.last), epochs=2)


@pytest.mark.parametrize("missing", ["data", "model"])
def test_missing_option_is_named(data, tmp_path, missing):
    with pytest.raises(OptionError, match=f"{missing}: which"):
        train(**{"data": data, "folder": tmp_path, missing: None})
    assert not list(tmp_path.iterdir())


FIXED = """
import torch
from torch import nn


class Placed(nn.Module):
    def __init__(self, dim, size):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1, dim, *size))

    def forward(self, x):
        return x + self.place
"""
NETWORK_OF_ONE_SIZE = """
nc: 3
modules: FOLDER
backbone:
  - [-1, 1, Conv, [16, 3, 2]] # 0
  - [-1, 1, Conv, [16, 3, 2]] # 1
  - [-1, 1, Conv, [16, 3, 2]] # 2
  - [-1, 1, Conv, [16, 3, 2]] # 3
  - [-1, 1, Conv, [16, 3, 2]] # 4
  - [-1, 1, Placed, [[20, 20]]] # 5
head:
  - [[2, 3, 5], 1, RTDETRDecoder, [nc, 32, 10, 2, 4, 1]]
"""


def test_multi_scale_is_disabled_for_a_network_of_fixed_size(tmp_path, caplog):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "placed.py").write_text(FIXED)
    (tmp_path / "net.yaml").write_text(NETWORK_OF_ONE_SIZE.replace("FOLDER", str(tmp_path / "modules")))
    for model, kept in (("net.yaml", False), (NETWORK, True)):
        trainer = RTDETRTrainer(get_cfg(overrides={"imgsz": 640, "device": "cpu"}))
        trainer.disable_multi_scale_if_fixed(RTDETRDetectionModel(tmp_path / model if model == "net.yaml" else model))
        assert trainer.args.multi_scale is kept
    assert "multi_scale: turned off, as the network does not accept images of" in caplog.text
