"""DetectionModel and RTDETRDetectionModel: sizes, settings, loss."""

import pytest
import torch

from tests.nn.test_parser import small
from ultralytics.cfg.options import get_cfg
from ultralytics.nn.tasks import RTDETRDetectionModel

SIZES = {  # millions of parameters and GFLOPs at 640, nc=80
    "efficientvit-m0": (11.009, 30.02), "efficientvit-m1": (11.661, 34.88), "efficientvit-m2": (12.856, 37.06),
    "efficientvit-m3": (15.510, 40.77), "efficientvit-m4": (17.370, 42.85), "efficientvit-m5": (21.065, 55.61),
    "l": (32.970, 110.24), "resnet50": (42.925, 132.72), "r18": (20.184, 59.77), "r34": (31.441, 91.97),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_published_sizes(name):
    info = RTDETRDetectionModel(f"rtdetr-{name}.yaml").info(verbose=False)
    assert (round(info.parameters / 1e6, 3), round(info.gflops, 2)) == pytest.approx(SIZES[name], abs=6e-3)


@pytest.mark.parametrize("name", ["x", "resnet101"])
def test_the_other_files_build(name):
    model = RTDETRDetectionModel(f"rtdetr-{name}.yaml", nc=5)
    assert model.nc == 5 and model.layer_shapes[-1][0] == (1, 300, 9)


def test_settings_reach_the_decoder_and_the_yaml():
    model = RTDETRDetectionModel(small(), overrides={"num_queries": 7, "num_denoising": None})
    assert model.model[-1].num_queries == 7 and model.model[-1].num_denoising == 2
    assert RTDETRDetectionModel(model.yaml).model[-1].num_queries == 7


def test_channels_of_the_images_are_the_files():
    model = RTDETRDetectionModel(small(ch=1))
    assert model.model[0].conv.in_channels == 1 and model.yaml["ch"] == 1


def test_fewer_positions_than_queries_give_fewer_queries():
    y, _ = RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml", nc=2).eval()(torch.rand(1, 3, 32, 64))
    assert y.shape == (1, 4 * 8 + 2 * 4 + 1 * 2, 6)


def test_the_loss_is_built_from_the_options_of_the_run():
    model = RTDETRDetectionModel(small())
    assert model.init_criterion().loss_gain["bbox"] == 5
    model.args = get_cfg(overrides={"loss_bbox": 3.0, "loss_class": "mal"})
    criterion = model.init_criterion()
    assert (criterion.loss_gain["bbox"], criterion.loss_class, criterion.nc) == (3.0, "mal", 3)
