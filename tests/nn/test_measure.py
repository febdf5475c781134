import subprocess
import sys

import pytest
import torch
from torch import nn

from ultralytics import RTDETR
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.meta_device import output_shapes


@pytest.mark.parametrize("name", ["rtdetr-efficientvit-m0.yaml", "rtdetr-r18.yaml"])
def test_without_images_the_shapes_are_the_same(name):
    model = RTDETRDetectionModel(name, nc=3)
    again = RTDETRDetectionModel(model.yaml, nc=3)  # as a checkpoint has recorded it
    assert again.layer_shapes == model.layer_shapes and torch.equal(again.stride, model.stride)


class Watched(nn.Module):
    """Notes the sizes of the batches it gets."""

    def __init__(self, forward):
        super().__init__()
        self.batches, self.norm, self.function = [], nn.BatchNorm2d(4), forward

    def forward(self, x):
        self.batches.append((x.shape[0], x.device.type))
        return self.function(self.norm(x))


@pytest.mark.parametrize(
    ("forward", "batches"),
    [
        (lambda x: x, [(0, "cpu")]),
        (lambda x: x.reshape(x.shape[0], -1)[:, :, None, None], [(0, "cpu")]),  # ambiguous, so it is run with an image
        (lambda x: x.mean(0, keepdim=True), [(0, "cpu")]),  # gives an image for none
    ],
)
def test_what_has_been_run_before_is_run_with_no_image_first(forward, batches):
    layer = Watched(forward).train()
    layer.norm.eval()
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    with_image = output_shapes(layer, [(1, 4, 8, 8)], False, "here")
    layer.batches.clear()
    assert output_shapes(layer, [(1, 4, 8, 8)], False, "here", known=True) == with_image
    assert layer.batches == batches  # the run on the meta device is that of a copy
    assert layer.training and not layer.norm.training
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


def test_one_image_needs_no_compiler(tmp_path):
    """What torch imports for the meta device takes longer than a prediction."""
    RTDETR("rtdetr-efficientvit-m0.yaml").save(tmp_path / "m0.pt")
    code = (
        "import sys, numpy; from ultralytics import RTDETR\n"
        "image = numpy.zeros((64, 64, 3), numpy.uint8)\n"
        "found = RTDETR('m0.pt').predict(image, imgsz=64, device='cpu', verbose=False)\n"
        "slow = ('torch._dynamo', 'sympy', 'triton', 'scipy', 'torchvision', 'timm', 'matplotlib', 'thop')\n"
        "print(len(found), [name for name in slow if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert run.stdout == "1 []\n", run.stderr
