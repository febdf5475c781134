"""Small files of torch.save that would fill the memory or never end; see also tests/engine/test_checkpoint.py."""

import collections
import pickle
import time
import zipfile

import pytest
import torch
from torch import nn

from ultralytics.nn.weights import read_weights, torch_files
from ultralytics.nn.weights.torch_files import read_plain
from ultralytics.utils.errors import WeightsError


def write(file, program: bytes, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("w/data.pkl", program)
        archive.writestr("w/version", "3\n")
    return file


TUPLES = b"".join(b"q%ch%c\x86" % (level, level) for level in range(60))  # BINPUT, BINGET, TUPLE2
LISTS = b"]q\x00" + b"".join(b"]q%c(h%ch%ce" % (n + 1, n, n) for n in range(60))  # [x, x] of the list before


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"})" + TUPLES + b"Ns", "refused. It asks for tuples that repeat"),  # {tuple: None}
        (b"c__builtin__\nset\n(](I1\n" + TUPLES + b"eetR", "refused. It asks for tuples that repeat"),
        (b"}I1\n(" + b"(" * 30000 + b"t" * 30000 + b"ts", "refused. It asks for tuples"),
        (LISTS, "contain themselves|no tensors by name"),
        (b"]q\x00h\x00a", "contain themselves"),
        (b"c__builtin__\nbytearray\nI9999999999\n\x85R", "refused. It asks for the instruction GLOBAL"),
        (b"}" * 3_000_000, "refused. It asks for millions of values"),
        (b"}" * 20_000_000, "bytes of pickle"),
        (b"r\xff\xff\xff\x7f", "for a table of 2147483647 objects"),
        (b"h\x05", "damaged"),
        (b"0" * 5, "damaged"),
        (b"I" + b"9" * 5000 + b"\n", "damaged"),
        (b"(" * 9 + b"t" * 12, "damaged"),
    ],
    ids=["key", "set", "deep", "lists", "ring", "bytearray", "many", "long", "memo", "get", "pop", "digits", "marks"],
)
@pytest.mark.parametrize("read", [read_plain, read_weights])
def test_small_pickles_with_much_work_end_at_once(program, message, read, tmp_path):
    file = write(tmp_path / "w.pt", b"\x80\x02" + program + b".")
    start = time.process_time()
    with pytest.raises(WeightsError, match=message) as caught:
        read(file)
    assert time.process_time() - start < 30 and len(str(caught.value)) < 400


def test_a_compressed_pickle_is_bounded(tmp_path):
    file = write(tmp_path / "w.pt", b"\x80\x02" + b"N0" * 20_000_000 + b"N.", zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 100_000
    with pytest.raises(WeightsError, match=r"compressed|bytes of pickle"):
        read_plain(file)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(1).expand(40_000, 40_000), "repeat numbers"),
        ({n: torch.zeros(1 << 20).expand(20, -1) for n in range(9)}, "repeat numbers"),
        (torch.zeros(3, 3).to_sparse(), "torch.sparse_coo"),
        (torch.zeros(3, device="meta"), "on meta"),
        (torch.zeros(3, dtype=torch.complex64), "torch.complex64, expected real numbers"),
        (torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "quantized|qint8"),
    ],
    ids=["stride 0", "several", "sparse", "meta", "complex", "quantized"],
)
def test_tensors_that_are_no_plain_numbers(value, message, tmp_path):
    torch.save({"model": {"a.weight": value} if isinstance(value, torch.Tensor) else value}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=message):
        read_weights(tmp_path / "w.pt")


def test_tensors_of_a_pickled_module_that_repeat_numbers(tmp_path):
    module = nn.Linear(1, 1)
    module.weight = nn.Parameter(torch.zeros(1).expand(40_000, 40_000))
    torch.save({"model": module}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="repeat numbers"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("new", [True, False])
def test_what_training_saves_is_read(new, tmp_path):
    layer = nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    shared = torch.ones(1000)
    state = {
        "model": layer.state_dict(), "optimizer": optimizer.state_dict(), "shared": [shared, shared, shared[:10]],
        "rng": (3, tuple(range(625)), None), "counts": collections.Counter("aab"), "n": 1 << 128,
    }  # fmt: skip
    torch.save(state, tmp_path / "w.pt", _use_new_zipfile_serialization=new)
    read = read_plain(tmp_path / "w.pt")
    assert read["rng"] == state["rng"] and torch.equal(read["shared"][2], shared[:10])


def test_old_files_are_checked_too(tmp_path):
    torch.save({"model": {"a": torch.ones(2)}}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    content = (tmp_path / "old.pt").read_bytes()
    first = pickle.dumps({"model": {"a": 1}}, 2)
    assert read_plain(tmp_path / "old.pt")["model"]["a"].tolist() == [1, 1]
    parts = []
    rest = content
    for _ in range(3):  # magic number, protocol, machine
        end = rest.index(b".") + 1
        while True:
            try:
                pickle.loads(rest[:end])
                break
            except Exception:
                end = rest.index(b".", end) + 1
        parts.append(rest[:end])
        rest = rest[end:]
    (tmp_path / "evil.pt").write_bytes(b"".join(parts) + b"\x80\x02})" + TUPLES + b"Ns." + first)
    with pytest.raises(WeightsError, match="for tuples that repeat"):
        read_plain(tmp_path / "evil.pt")


def test_file_that_its_training_replaces_is_read_again(tmp_path, monkeypatch):
    torch.save({"a": torch.ones(3)}, path := tmp_path / "best.pt")
    check = torch_files.check_torch_file

    def replace_once(file):
        monkeypatch.setattr(torch_files, "check_torch_file", check)
        torch.save({"a": torch.zeros(5000)}, path)
        raise WeightsError("compressed")

    monkeypatch.setattr(torch_files, "check_torch_file", replace_once)
    assert torch_files.read_plain(path)["a"].shape == (5000,)
