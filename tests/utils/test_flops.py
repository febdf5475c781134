"""FLOPs and output shapes from runs on the meta device."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from ultralytics import RTDETR
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.flops import get_flops, model_info, output_shapes


def test_a_convolution_by_hand():
    model = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    expected = 2 * 3 * 8 * 9 * 32 * 48 / 1e9  # two operations for each weight and position
    assert get_flops(model, (32, 48)) == pytest.approx(expected)
    assert model_info(model, imgsz=(32, 48), verbose=False).gflops_attention == pytest.approx(expected)


def test_attention_is_counted_by_torch():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 1, bias=False)
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, x):
            tokens = self.stem(x).flatten(2).transpose(1, 2)  # (1, 16, H, W) -> (1, H*W, 16)
            return self.attention(tokens, tokens, tokens, need_weights=False)[0]

    tokens, c = 8 * 8, 16
    projections, products = 4 * c * c * tokens, 2 * c * tokens * tokens
    expected = 2 * (3 * c * tokens + projections + products) / 1e9
    assert model_info(Net(), imgsz=8, verbose=False).gflops_attention == pytest.approx(expected)
    assert torch.backends.mha.get_fastpath_enabled()  # as it was


def test_counting_changes_no_statistics_and_no_mode():
    model = RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml", nc=2).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    info = model_info(model, imgsz=(320, 224), verbose=False)
    assert 0 < info.gflops < 10 and info.imgsz == (320, 224)
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not hasattr(model.model[0], "total_ops")


def test_a_model_is_counted_on_the_cpu_if_it_has_tensors_of_its_own_and_fails_with_its_error():
    class Anchored(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.offset = nn.Conv2d(3, 8, 1, bias=False), torch.ones(1, 8, 1, 1)  # no buffer: stays behind

        def forward(self, x):
            return self.conv(x) + self.offset

    assert model_info(Anchored(), imgsz=16, verbose=False).gflops_attention == pytest.approx(2 * 3 * 8 * 16 * 16 / 1e9)
    assert get_flops(Anchored(), 16) == pytest.approx(2 * 3 * 8 * 16 * 16 / 1e9)
    with pytest.raises(ModelConfigError, match=r"forward fails on an image \(1, 4, 64, 64\): RuntimeError: .*channel"):
        get_flops(nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(3, 8, 1)), 64)


def test_the_line_in_the_log(caplog):
    model = RTDETRDetectionModel("rtdetr-r18.yaml")
    model.info(detailed=True)
    assert "20,184,208 parameters" in caplog.text and "59.77 GFLOPs at 640x640 by thop" in caplog.text
    assert "RTDETRDecoder" in caplog.text


@pytest.mark.parametrize("name", ["rtdetr-efficientvit-m0.yaml", "rtdetr-r18.yaml"])
def test_without_images_the_shapes_are_the_same(name):
    model = RTDETRDetectionModel(name, nc=3)
    again = RTDETRDetectionModel(model.yaml, nc=3)  # as a checkpoint has recorded it
    assert again.layer_shapes == model.layer_shapes and torch.equal(again.stride, model.stride)


def test_a_known_layer_runs_without_images_and_changes_nothing():
    layer = nn.Sequential(nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8)).train()
    layer[1].eval()
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    assert output_shapes(layer, [(1, 4, 8, 8)], False, "here", known=True) == [(1, 8, 8, 8)]
    assert layer.training and not layer[1].training
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: x.reshape(x.shape[0], -1)[:, :, None, None],  # ambiguous without images
        lambda x: x.mean(0, keepdim=True),  # an image for none
    ],
)
def test_a_known_layer_that_needs_an_image_gets_one(forward):
    class Layer(nn.Module):
        def forward(self, x):
            return forward(x)

    plain = output_shapes(Layer(), [(1, 4, 8, 8)], False, "here")
    assert output_shapes(Layer(), [(1, 4, 8, 8)], False, "here", known=True) == plain


def test_one_image_needs_no_compiler(tmp_path):
    """What torch imports for the meta device takes longer than a prediction."""
    RTDETR("rtdetr-efficientvit-m0.yaml").save(tmp_path / "m0.pt")
    code = (
        "import sys, numpy; from ultralytics import RTDETR\n"
        "image = numpy.zeros((64, 64, 3), numpy.uint8)\n"
        "found = RTDETR('m0.pt').predict(image, imgsz=64, device='cpu', verbose=False)\n"
        "slow = 'torch._dynamo sympy triton scipy torchvision timm matplotlib thop pandas onnx onnxruntime openvino'\n"
        "slow = (*slow.split(), 'ultralytics.engine.exporter', 'ultralytics.engine.trainer')\n"
        "print(len(found), [name for name in slow if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert run.stdout == "1 []\n", run.stderr
