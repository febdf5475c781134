"""Checkpoints: exact round trip, full disks, damaged files, other formats, and the lock of a run folder."""

import random
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ultralytics import RTDETR
from ultralytics.cfg import get_cfg
from ultralytics.engine.checkpoint import FORMAT_VERSION, load_checkpoint, resume_path, save_checkpoint
from ultralytics.engine.train_log import RunDir
from ultralytics.utils import __version__
from ultralytics.utils.errors import UserError, WeightsError


def state(**extra) -> dict:
    weights = {"layer.weight": torch.arange(6.0).reshape(2, 3)}
    return {"model_yaml": {"nc": 2}, "names": {0: "cat", 1: "犬"}, "nc": 2, "model": weights, "ema": None, **extra}


def test_round_trip_is_exact(tmp_path):
    save_checkpoint(tmp_path / "a.pt", state(rng=[(1, 2), None], best_fitness=0.1))
    loaded = load_checkpoint(tmp_path / "a.pt")
    assert (loaded["format_version"], loaded["version"]) == (FORMAT_VERSION, __version__)
    assert torch.equal(loaded["model"]["layer.weight"], torch.arange(6.0).reshape(2, 3))
    assert (loaded["names"], loaded["rng"], loaded["best_fitness"]) == ({0: "cat", 1: "犬"}, [(1, 2), None], 0.1)
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]
    del loaded["version"]  # as written by 0.1.0
    torch.save({**loaded, "environment": {"ultralytics": "0.1.0"}}, tmp_path / "a.pt")
    assert load_checkpoint(tmp_path / "a.pt")["nc"] == 2


def test_full_disk_keeps_the_previous_file(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, state())
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # a write beyond it fails as on a full disk
    try:
        with pytest.raises(UserError, match=r"last\.pt: cannot save .*File too large.*existing file is intact"):
            save_checkpoint(path, state(model={"big": torch.zeros(1_000_000)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_objects_are_rejected_before_writing(tmp_path):
    with pytest.raises(TypeError, match=r"checkpoint\['options'\]\['device'\] is a device"):
        save_checkpoint(tmp_path / "a.pt", state(options={"device": torch.device("cpu")}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"w": torch.zeros(2), "b": torch.zeros(1)}, "got a dict with w, b"),
        ([1, 2], "got a list"),
        ({"model": torch.nn.Linear(1, 1)}, "pickled Python classes"),
        ({"format_version": 99}, "format 99, expected 1"),
    ],
)
def test_error_describes_the_file(tmp_path, content, message):
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    with pytest.raises(WeightsError, match=message) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)


def test_flipped_bits_are_noticed(tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, state(model={f"layer{i}.weight": torch.randn(64) for i in range(20)}))
    content, expected = path.read_bytes(), load_checkpoint(path)["model"]
    noticed = 0
    for number in range(300):
        flipped, draw = bytearray(content), random.Random(number)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        try:
            loaded = load_checkpoint(path)["model"]
        except WeightsError as error:
            noticed += str(path) in str(error)
        else:  # a byte without meaning, such as padding
            assert all(torch.equal(value, expected[name]) for name, value in loaded.items())
    assert noticed > 100
    middle = content.index(expected["layer7.weight"].numpy().tobytes())
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    with pytest.raises(WeightsError, match="wrong checksum of"):
        load_checkpoint(path)


NAN = torch.tensor([0.0, float("nan")])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"a.weight": NAN}}, "model, a.weight has values that are NaN or infinite"),
        ({"ema": {"a.weight": NAN / 0}}, "ema, a.weight has values that are NaN or infinite"),
        ({"model": {"a.weight": NAN.half()}}, "model, a.weight has values"),
        ({"model": {"a.weight": torch.zeros(1).expand(1 << 40)}}, "refused, its tensors repeat numbers"),
        ({"model": {"a.weight": "x"}}, "model has 'a.weight', expected tensors by name"),
        ({"model": {3: NAN}}, "model has 3, expected tensors by name"),
        ({"model": None}, "model is None, expected dict"),
        ({"ema": [1]}, r"ema is \[1\], expected dict . None"),
        ({"model_yaml": "x.yaml"}, "model_yaml is 'x.yaml', expected dict"),
        ({"options": [1]}, "options is .*expected dict . None"),
        ({"names": ["a", "b"]}, "names is .*expected dict"),
        ({"names": {0: "a"}}, "names is {0: 'a'}, but nc is 2"),
        ({"names": {1: "a", 2: "b"}}, "names is .*but nc is 2; expected a text for each class from 0"),
        ({"names": {0: "a", 1: 2}}, "names is "),
        ({"nc": 1 << 60}, "names is "),
        ({"nc": True}, "nc is True, expected int"),
        ({"format_version": torch.zeros(3)}, "format tensor.*expected 1"),
    ],
)
def test_odd_content_is_refused_by_name(tmp_path, change, message):
    path = tmp_path / "a.pt"
    torch.save({"format_version": FORMAT_VERSION, **state(), **change}, path)
    for read in (load_checkpoint, RTDETR):
        with pytest.raises(WeightsError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
    if "format_version" not in change:
        with pytest.raises((WeightsError, TypeError)):
            save_checkpoint(path, {**state(), **change})


def test_network_that_is_not_finite_neither_predicts_nor_is_saved(tmp_path, tiny):
    model = RTDETR(tiny)
    model.model.model[1].conv.weight.data[0] = float("inf")
    image = np.zeros((40, 40, 3), np.uint8)
    for use in (
        lambda: model.predict(image),
        lambda: model.predict(image, accelerate=False),
        lambda: model.embed(image),
        lambda: model.save(tmp_path / "a.pt"),
    ):
        with pytest.raises(WeightsError, match=r"model, model\.1\.conv\.weight has values that are NaN or infinite"):
            use()
    assert not list(tmp_path.iterdir())


def test_weights_of_another_network_are_refused(tmp_path):
    RTDETR("rtdetr-efficientvit-m0.yaml").save(path := tmp_path / "a.pt")
    saved = load_checkpoint(path)
    saved["model"]["model.0.conv1.c.weight"] = saved["model"].popitem()[1]
    save_checkpoint(path, saved)
    with pytest.raises(WeightsError, match=r"a\.pt: its weights do not fit its model YAML: .*Missing key"):
        RTDETR(path).info()


def test_second_process_is_excluded_until_the_first_one_ends(tmp_path):
    """Also by SIGKILL; what it left half written is removed."""
    code = (
        "import sys, time; from pathlib import Path; from ultralytics.engine.train_log import RunDir\n"
        "run = RunDir(Path(sys.argv[1])); run.lock(); print('locked', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"locked\n"
    (tmp_path / "weights" / ".0123456789abcdef.tmp").write_text("half")
    run = RunDir(tmp_path)
    with pytest.raises(UserError, match=rf"another process trains in this run folder \(process {other.pid} on "):
        run.lock()
    other.kill()
    other.wait()
    other.stdout.close()
    run.lock()
    with pytest.raises(UserError, match="another training of this process"):
        RunDir(tmp_path / ".." / tmp_path.name).lock()
    assert not run.progress() and not RunDir(tmp_path).progress()
    run.set_aside()  # the lock is kept
    code = "import sys; from pathlib import Path; from ultralytics.engine.train_log import RunDir; "
    code += "assert RunDir(Path(sys.argv[1])).lock()"
    second = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "another process trains" in second.stderr
    assert not list((tmp_path / "weights").iterdir())
    run.unlock()
    assert [file.name for file in tmp_path.iterdir()] == ["weights"]


def test_file_without_its_folder_belongs_to_the_run_of_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resume_path(get_cfg(overrides={"resume": "last.pt"})) == tmp_path / "last.pt"
    assert resume_path(get_cfg(overrides={"resume": True, "model": "last.pt"})) == tmp_path / "last.pt"
    assert resume_path(get_cfg(overrides={"resume": "weights/last.pt"})) == Path("weights/last.pt")
