"""Read weights files of every kind, and refuse other files."""

import pickle
import zipfile
from argparse import Namespace

import pytest
import torch
from torch import nn

from ultralytics.nn.weights import read_state_dict, read_weights
from ultralytics.utils.errors import WeightsError

TENSORS = {"weight": torch.ones(2, 3), "bias": torch.ones(2)}


WRAPPED = {
    "plain": TENSORS,
    "model": {"model": TENSORS},
    "data parallel": {"state_dict": {f"module.{k}": v for k, v in TENSORS.items()}},
    "averaged first": {"ema": {"module": TENSORS}, "model": {"weight": torch.zeros(2, 3)}, "epoch": 3},
    "no average": {"ema": None, "model": TENSORS, "loss_sum": torch.zeros(3)},
    "DINO": {"student": {"weight": torch.zeros(2, 3)}, "teacher": TENSORS},
}


@pytest.mark.parametrize("kind", WRAPPED)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_tensors_are_found_under_wrapper_keys(kind, zipped, tmp_path):
    torch.save(WRAPPED[kind], tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    found = read_state_dict(tmp_path / "w.pth")
    assert set(found) == set(TENSORS) and torch.equal(found["weight"], TENSORS["weight"])


@pytest.mark.parametrize("prefix", ["", "module."])
def test_safetensors(prefix, tmp_path):
    torch_files = pytest.importorskip("safetensors.torch")
    torch_files.save_file({prefix + name: value for name, value in TENSORS.items()}, tmp_path / "w.safetensors")
    found = read_state_dict(tmp_path / "w.safetensors")
    assert set(found) == set(TENSORS) and torch.equal(found["bias"], TENSORS["bias"])
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-8])
    with pytest.raises(WeightsError, match="damaged or no safetensors file"):
        read_state_dict(tmp_path / "cut.safetensors")
    with pytest.raises(WeightsError, match="no such weights file"):
        read_state_dict(tmp_path / "none.safetensors")
    (tmp_path / "w.safetensors").rename(tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"is it a \.safetensors file under another name"):
        read_state_dict(tmp_path / "w.pt")


def zip_of(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme", "hello")


def cut(file):
    torch.save({"weight": torch.zeros(10_000)}, file)
    file.write_bytes(file.read_bytes()[:20_000])


WRONG = {
    "missing": (lambda f: None, "no such weights file"),
    "empty": (lambda f: f.write_bytes(b""), "not a weights file.*starts with b''"),
    "text": (lambda f: f.write_text("epoch,loss"), "not a weights file"),
    "web page": (lambda f: f.write_text("<html>not found</html>"), "not a weights file.*<htm"),
    "no tensors": (lambda f: torch.save({"epoch": 3}, f), "no tensors by name"),
    "a list": (lambda f: torch.save([1, 2], f), "no tensors by name"),
    "one tensor": (lambda f: torch.save(torch.ones(3), f), "no tensors by name"),
    "folder": (lambda f: f.mkdir(), "is a folder"),
    "cut": (cut, r"damaged .*\(its end is missing\)"),
    "zip": (zip_of, "damaged or not a weights file"),
    "TorchScript": (lambda f: torch.jit.script(nn.Linear(3, 2)).save(str(f)), "TorchScript"),
    "pickle": (lambda f: f.write_bytes(pickle.dumps(TENSORS, protocol=2)), "expected one of torch.save"),
    "old classes": (
        lambda f: torch.save({"args": Namespace()}, f, _use_new_zipfile_serialization=False), "not a zip file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_other_files_are_refused(kind, tmp_path):
    file, (write, message) = tmp_path / "w.pth", WRONG[kind]
    write(file)
    with pytest.raises(WeightsError, match=message) as error:
        read_state_dict(file)
    assert "\n" not in str(error.value) and str(file) in str(error.value)


def test_checkpoints_have_names_and_yaml(tmp_path):
    for names, found in (({0: "cat", 1: "dog"}, {0: "cat", 1: "dog"}), ({0: "0", 1: "1"}, None)):
        torch.save({"model": TENSORS, "ema": None, "names": names, "model_yaml": {"nc": 2}}, tmp_path / "w.pt")
        weights = read_weights(tmp_path / "w.pt")
        assert weights.names == found and weights.model_yaml == {"nc": 2}


def test_the_class_branch_of_a_file_is_recorded(tmp_path):
    for name, expected in (("model.9.cv3.0.0.0.conv.weight", False), ("model.9.cv3.0.0.conv.weight", None)):
        torch.save({"model": {name: torch.ones(2)}, "model_yaml": {"nc": 2}}, tmp_path / "w.pt")
        assert read_weights(tmp_path / "w.pt").model_yaml.get("legacy") is expected  # 8.3.0 built it for YOLOv8, too
