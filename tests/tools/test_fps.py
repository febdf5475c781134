import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from ultralytics.tools.fps import Speed, measure_speed, peak_memory


def test_numbers_of_runs():
    speed = Speed((10.0, 20.0, 60.0, 30.0), batch=3, memory=None)
    assert (speed.mean, speed.median, speed.fps) == (30, 25, 100)
    assert speed.std == pytest.approx(torch.tensor(speed.runs).std().item())
    assert Speed((1.0, 2.0, 9.0), 1, None).median == 2


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.shapes, self.modes = [], set()

    def forward(self, x):
        self.shapes.append(tuple(x.shape))
        self.modes.add((self.training, torch.is_grad_enabled()))


def test_the_network_runs_to_warm_up_and_then_timed():
    network = Counting().train()
    speed = measure_speed(network, imgsz=64, batch=2, device=torch.device("cpu"), warmup=3, repeats=5)
    assert network.shapes == [(2, 3, 64, 64)] * 8 and network.modes == {(False, False)}
    assert len(speed.runs) == 5 and min(speed.runs) > 0
    assert speed.memory is None or speed.memory > 10_000_000  # the process holds torch


@pytest.mark.parametrize("file", ["model_file", "weights"])
def test_the_command(yolo, file, request):
    code, text = yolo(
        "fps", f"model={request.getfixturevalue(file)}", "imgsz=64", "repeats=2", "warmup=1", "device=cpu"
    )
    assert code == 0, text
    assert "1 runs to warm up, 2 timed, fused" in text
    assert re.search(r"\b64 +1 +float32 +\d+\.\d\d +\d+\.\d\d", text)


@pytest.mark.slow
def test_an_exported_model(yolo, exported):
    code, text = yolo("fps", f"model={exported}", "imgsz=64", "repeats=2", "warmup=1", "device=cpu")
    assert code == 0 and "2 timed, fused" in text
    for words in (("profile",), ("heatmap", "source=a.jpg")):
        code, text = yolo(words[0], f"model={exported}", *words[1:])
        assert code == 2 and "an exported model does not show its layers; give the weights (.pt)" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "yolo fps: model= is missing; usage: yolo fps model=... [imgsz=640]"),
        (("model=no.pt",), "no.pt"),
        (("model=m.yaml", "repeats=1"), "repeats: expected an integer >= 2, got 1"),
        (("model=m.yaml", "half=True", "device=cpu"), "half=True: expected a CUDA device, got cpu"),
        (("model=m.yaml", "bacth=2"), "unknown argument 'bacth=2'; did you mean 'batch'?"),
        (("model=WEIGHTS", "nc=3"), "holds weights, whose number of classes is fixed"),
    ],
)
def test_mistakes(yolo, weights, words, message):
    code, text = yolo("fps", *(word.replace("WEIGHTS", str(weights)) for word in words))
    assert code == 2 and message in text


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak of the process that starts another counts")
def test_memory_is_that_of_the_process_and_not_of_the_one_that_started_it():
    code = "import torch; from ultralytics.tools.fps import peak_memory; print(peak_memory(torch.device('cpu')))"
    alone = int(subprocess.check_output([sys.executable, "-c", code]))
    large = torch.ones(alone // 2)  # twice as much, in this process

    assert peak_memory(torch.device("cpu")) > large.nbytes
    assert int(subprocess.check_output([sys.executable, "-c", code])) == pytest.approx(alone, rel=0.2)
