from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import ultralytics
from tests.nn.optimise.helpers import assert_fusing_is_exact, stirred
from ultralytics.nn.tasks import RTDETRDetectionModel

FILES = sorted((Path(ultralytics.__file__).parent / "cfg/models/rt-detr").glob("*.yaml"))
FAST = ("rtdetr-efficientvit-m5", "rtdetr-r18", "rtdetr-efficientvit-m0-carafe", "rtdetr-timm", "rtdetr-torchvision")


@pytest.mark.parametrize(
    "file", [pytest.param(f, marks=() if f.stem in FAST else pytest.mark.slow, id=f.stem) for f in FILES]
)
def test_every_model_file_gives_what_it_gave(file):
    network = stirred(RTDETRDetectionModel(file, overrides={"num_queries": 50}))
    fused = assert_fusing_is_exact(network, size=(128, 160), batch=1)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())


@torch.no_grad()
def test_fusing_twice_does_nothing_more():
    network = stirred(RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml", overrides={"num_queries": 20}))
    x = torch.rand(1, 3, 96, 96, dtype=torch.float64)
    once = network.fuse()(x)[0]
    assert torch.equal(network.fuse()(x)[0], once)


def test_layer_table_embeddings_and_pictures_of_what_is_left():
    network = stirred(RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml", overrides={"num_queries": 20}))
    x = torch.rand(1, 3, 96, 96, dtype=torch.float64)
    with torch.no_grad():
        expected = network.predict(x, embed=[7, 16, 22])
        vectors = network.fuse().predict(x, embed=[7, 16, 22])
    torch.testing.assert_close(vectors, expected)
    assert len(network.table().splitlines()) == 1 + len(network.model)
