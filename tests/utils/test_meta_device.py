"""Shapes from runs on the meta device, and from batches of no images."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ultralytics import RTDETR
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.meta_device import FastShapes, output_shapes


def sample(device: str, values: tuple[int, ...], points: tuple[int, ...]) -> Tensor:
    return F.grid_sample(torch.zeros(values, device=device), torch.zeros(points, device=device), align_corners=False)


def normalize(device: str, layer: type[nn.Module], shape: tuple[int, ...]) -> Tensor:
    return layer(4).eval().to(device)(torch.zeros(shape, device=device))


CALLS = [
    lambda device: sample(device, (2, 3, 8, 6), (2, 5, 7, 2)),
    lambda device: sample(device, (2, 3, 8, 6, 4), (2, 5, 7, 9, 3)),
    lambda device: normalize(device, nn.BatchNorm2d, (2, 4, 5, 3)),
    lambda device: normalize(device, nn.BatchNorm1d, (2, 4)),
    lambda device: F.batch_norm(torch.zeros(2, 4, 5, device=device), None, None, training=True),
    lambda device: F.grid_sample(input=torch.zeros(1, 2, 3, 4, device=device), grid=torch.zeros(1, 5, 6, 2).to(device)),
]


@pytest.mark.filterwarnings("ignore:Default grid_sample")
@pytest.mark.parametrize("call", CALLS)
def test_shapes_are_those_of_the_function(call: Callable[[str], Tensor]):
    expected = call("cpu")

    with FastShapes():
        shapes, values = call("meta"), call("cpu")

    assert shapes.is_meta and shapes.shape == expected.shape and shapes.dtype == expected.dtype
    assert torch.equal(values, expected)


@pytest.mark.parametrize(
    "call",
    [
        lambda: sample("meta", (2, 3, 8, 6), (1, 5, 7, 2)),
        lambda: normalize("meta", nn.BatchNorm2d, (2, 5, 5, 3)),
    ],
)
def test_arguments_that_do_not_fit_raise_the_error_of_the_function(call: Callable[[], Tensor]):
    with FastShapes(), pytest.raises(RuntimeError):
        call()


def test_strides_follow_the_memory_format():
    images = torch.zeros(1, 4, 6, 6, device="meta").to(memory_format=torch.channels_last)

    with FastShapes():
        output = nn.BatchNorm2d(4).eval().to("meta")(images)

    assert output.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["rtdetr-efficientvit-m0.yaml", "rtdetr-r18.yaml"])
def test_without_images_the_shapes_are_the_same(name):
    model = RTDETRDetectionModel(name, nc=3)
    again = RTDETRDetectionModel(model.yaml, nc=3)  # as a checkpoint has recorded it
    assert again.layer_shapes == model.layer_shapes and torch.equal(again.stride, model.stride)


class Recorder(nn.Module):
    """Record the sizes of its batches."""

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
def test_a_known_layer_is_run_with_no_image_first(forward, batches):
    layer = Recorder(forward).train()
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
