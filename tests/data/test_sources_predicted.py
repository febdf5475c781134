"""Sources through a predictor: what is written where, and what is left behind when a run ends early."""

import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from ultralytics.cfg import get_cfg
from ultralytics.data.streams import Frame
from ultralytics.models.rtdetr.predict import RTDETRPredictor


class Counting(nn.Module):
    """Finds one thing in every image; raises at the call `fails_at`."""

    def __init__(self, fails_at=None):
        super().__init__()
        self.names, self.stride = {0: "thing"}, torch.tensor([32.0])
        self.calls, self.fails_at = 0, fails_at

    def forward(self, x):
        self.calls += 1
        if self.calls == self.fails_at:
            raise RuntimeError("the network failed")
        return torch.tensor([[[0.5, 0.5, 0.4, 0.4, 0.9]]]).expand(len(x), -1, -1).clone(), None


def predictor(tmp_path, **options):
    where = {"project": str(tmp_path / "runs"), "name": "out"}
    return RTDETRPredictor(
        get_cfg(
            None, {"mode": "predict", "device": "cpu", "imgsz": 64, "save": False, "verbose": False, **where, **options}
        )
    )


def look_aheads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


@pytest.fixture
def video(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (32, 24))
    for value in range(200):
        writer.write(np.full((24, 32, 3), value, np.uint8))
    writer.release()
    return tmp_path / "a.avi"


def test_stopping_a_stream_early(tmp_path, video):
    results = predictor(tmp_path)(video, Counting(), stream=True)
    next(results)
    assert look_aheads()
    results.close()
    assert not look_aheads()


def test_a_loop_that_is_left_early(tmp_path, video):
    for _ in predictor(tmp_path)(video, Counting(), stream=True):
        break
    assert not look_aheads()


@pytest.mark.parametrize("stream", [False, True])
def test_a_network_that_fails(tmp_path, video, stream):
    with pytest.raises(RuntimeError, match="the network failed"):
        list(predictor(tmp_path)(video, Counting(fails_at=3), stream=stream))
    assert not look_aheads()


def test_two_thousand_frames_in_constant_memory(tmp_path, video, monkeypatch):
    alive, made, lock = [0, 0], Frame.__init__, threading.RLock()

    def change(by):
        with lock:
            alive[0] += by
            alive[1] = max(alive)

    def counted(self, *args, **kwargs):
        made(self, *args, **kwargs)
        change(1)

    monkeypatch.setattr(Frame, "__init__", counted)
    monkeypatch.setattr(Frame, "__del__", lambda self: change(-1), raising=False)
    count = sum(1 for _ in predictor(tmp_path, batch=20)([video] * 10, Counting(), stream=True))
    assert count == 2000 and alive[1] <= 2 * 20 + 20 + 2


def test_a_script_that_ends_in_the_middle_of_a_source(tmp_path):
    """The thread would come back from its decoder to an interpreter that is gone: an abort."""
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (1280, 960))
    for value in range(20):
        writer.write(np.full((960, 1280, 3), value, np.uint8))
    writer.release()
    script = (
        "import sys; from ultralytics.data.loaders import load_source\n"
        "batches = iter(load_source(sys.argv[1])); next(batches)\n"
        "keep = [batches]; keep.append(keep)  # closed by nobody\n"
    )
    run = subprocess.run([sys.executable, "-c", script, tmp_path / "a.avi"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
