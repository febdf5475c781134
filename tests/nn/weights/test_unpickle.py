"""Published files that pickle whole models: read as data, with attacks that must be refused."""

import collections
import io
import os
import pathlib
import pickle
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from tests.nn.weights.test_torch_files import write
from ultralytics.engine.checkpoint import load_model_weights
from ultralytics.nn.weights import read_weights
from ultralytics.nn.weights.unpickle import read_objects
from ultralytics.utils.errors import WeightsError


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Write a file like the published package, with classes of a module that no longer exists when it is read."""
    module = types.ModuleType("elsewhere.nn.tasks")

    class DetectionModel(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.MultiheadAttention(4, 2))
            self.model[0].weight.requires_grad_(False)
            self.register_buffer("cached", torch.ones(3), persistent=False)
            self.act = nn.functional.silu
            self.detect = nn.Conv2d.forward
            self.names, self.yaml = {0: "cat", 1: "dog"}, {"nc": 2, "backbone": [[-1, 1, "Conv", [64]]]}
            self.args = types.SimpleNamespace(lr0=0.1)

    DetectionModel.__module__, DetectionModel.__qualname__ = module.__name__, "DetectionModel"
    module.DetectionModel = DetectionModel
    for name, entry in (("elsewhere", types.ModuleType("elsewhere")), (module.__name__, module)):
        monkeypatch.setitem(sys.modules, name, entry)
    model = DetectionModel().half()
    extras = {
        "date": "2024", "best_fitness": np.float64(0.5), "where": pathlib.PurePosixPath("a/b"), "ema": None,
        "metrics": {"map": np.array([0.5])}, "counts": collections.defaultdict(int, a=1), "seen": {1, 2},
    }  # fmt: skip
    arguments = {"imgsz": 320, "pose": 12.0}
    torch.save({"model": model, "train_args": arguments, "epoch": -1, **extras}, tmp_path / "best.pt")
    expected = model.state_dict()
    for name in ("elsewhere", module.__name__):
        monkeypatch.delitem(sys.modules, name)
    return tmp_path / "best.pt", expected


def test_pickled_model_gives_tensors_names_and_yaml(published):
    file, expected = published
    weights = read_weights(file)
    assert list(weights.tensors) == list(expected)
    assert all(torch.equal(value, weights.tensors[name]) for name, value in expected.items())
    assert weights.names == {0: "cat", 1: "dog"} and weights.model_yaml["nc"] == 2
    assert weights.train_args == {"imgsz": 320, "pose": 12.0} and "legacy" not in weights.model_yaml
    assert "elsewhere" not in sys.modules


def test_options_of_a_published_training_are_those_that_exist_here(published):
    assert load_model_weights(published[0])["options"] == {"imgsz": 320}


class Call:
    """An object that pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def with_names(file, module: str, name: str, instruction: bytes) -> None:
    """Write a file with a handwritten pickle: a name, then an instruction."""
    write(file, b"\x80\x02c" + f"{module}\n{name}\n".encode() + instruction + b".")


WROTE = "open('ran', 'w').close()"
CALL = b"(X\x04\x00\x00\x00ranntR"  # ("rann",) as arguments, then REDUCE


@pytest.mark.parametrize(
    "attack",
    [
        Call(os.system, "touch ran"), Call(eval, WROTE), Call(exec, WROTE), Call(__import__, "os"),
        Call(open, "ran", "w"), Call(torch.load, "ran"), Call(torch.hub.load, "a/b", "c"), Call(torch.jit.load, "ran"),
        Call(np.load, "ran"), Call(torch.nn.init.ones_, torch.ones(2)), Call(nn.Linear, 3, 2),
        Call(pathlib.Path.touch, pathlib.PurePosixPath("ran")), Call(getattr, "text", "upper"),
    ],
    ids=lambda attack: getattr(attack.function, "__qualname__", str(attack.function)),
)  # fmt: skip
@pytest.mark.parametrize("protocol", [2, 4])
def test_calls_are_refused_and_nothing_runs(attack, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"weight": torch.ones(2)}, "note": attack}, "evil.pt", pickle_protocol=protocol)
    with pytest.raises(WeightsError, match=r"refused\. It asks"):
        read_weights("evil.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["evil.pt"]


@pytest.mark.parametrize(
    ("module", "name", "instruction"),
    [
        ("posix", "system", CALL),
        ("__builtin__", "eval", CALL),
        ("builtins", "getattr", b"(ca.b\nC\nX\x01\x00\x00\x00fntR(tR"),  # C.f()
        ("torch._utils", "_rebuild_sparse_tensor", CALL),
        ("torch.storage", "_load_from_bytes", CALL),
        ("torch.serialization", "load", b""),
        ("somewhere.else", "function", CALL),
        ("ultralytics.utils.downloads", "safe_download", CALL),
        ("torch._utils", "_rebuild_parameter", b"}X\x08\x00\x00\x00functionNsb"),  # BUILD: replace what it calls
        ("torch._tensor", "_rebuild_from_type_v2", b"(cos\nsystem\nN)NtR"),
        ("copyreg", "_reconstructor", b"(c__builtin__\nset\nNNtR"),
        ("collections", "OrderedDict", b"}X\x06\x00\x00\x00updateNsb"),  # BUILD on the class itself
    ],
)
def test_handwritten_pickles_are_refused(module, name, instruction, tmp_path):
    with_names(tmp_path / "evil.pt", module, name, instruction)
    with pytest.raises(WeightsError, match=r"refused\. It asks|damaged"):
        read_objects(tmp_path / "evil.pt")
    assert collections.OrderedDict(a=1) == {"a": 1}  # as it was


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        (b"\x82\x01", "the instruction EXT1"),
        (b"\x96\xff\xff\xff\xff\xff\x00\x00\x00", "damaged"),  # a bytearray longer than the file
        (b"r\xff\xff\xff\x7f", "a table of 2147483647 objects"),
        (b"(cos\nsystem\no", "the instruction OBJ"),
    ],
    ids=["extension", "bytearray", "memo", "old object"],
)
def test_unusual_opcodes_are_refused_before_the_first_one_runs(instruction, message, tmp_path):
    with_names(tmp_path / "w.pt", "collections", "OrderedDict", instruction)
    with pytest.raises(WeightsError, match=message):
        read_objects(tmp_path / "w.pt")


class Nested(nn.Module):
    """A module that contains itself."""

    def __init__(self):
        super().__init__()
        self._modules["again"] = self


@pytest.mark.parametrize("kind", ["module", "dictionary"])
def test_recursive_content_ends(kind, tmp_path):
    content: object = Nested()
    if kind == "dictionary":
        content = {}
        content["model"] = content
    torch.save({"model": content, "args": types.SimpleNamespace()}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"contains itself|no tensors by name"):
        read_weights(tmp_path / "w.pt")


def test_unknown_storages_are_refused(tmp_path):
    program = io.BytesIO()
    pickler = pickle.Pickler(program, protocol=2)
    pickler.persistent_id = lambda value: ("file", "FloatStorage", "../../x", "cpu", 3) if value == "x" else None
    pickler.dump(["x"])
    write(tmp_path / "w.pt", program.getvalue())
    with pytest.raises(WeightsError, match="damaged"):
        read_objects(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (10**6, 10**6), (1, 1)), (-1, (1,), (1,)), (0, ("x",), (1,)), (2**70, (1,), (1,))],
)
def test_tensors_outside_their_storage_are_refused(offset, size, stride, tmp_path):
    storage = torch.storage.TypedStorage(
        wrap_storage=torch.ones(4).untyped_storage(), dtype=torch.float32, _internal=True
    )
    tensor = Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, collections.OrderedDict())
    torch.save({"w": tensor, "args": types.SimpleNamespace()}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="damaged"):
        read_weights(tmp_path / "w.pt")
