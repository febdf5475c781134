"""Run folders, atomic writes, and the readers of YAML and JSON. Weights files: see tests/engine/test_checkpoint.py."""

import os

import pytest

from ultralytics.utils.errors import DataError, UserError
from ultralytics.utils.files import (
    increment_path,
    read_json,
    read_text,
    resumed_weights,
    run_dir,
    safe_name,
    write_text,
)


def test_run_folders_are_numbered_or_impossible(tmp_path, monkeypatch):
    assert [run_dir(tmp_path / "runs", "train").name for _ in range(3)] == ["train", "train2", "train3"]
    assert run_dir(tmp_path, "exp", exist_ok=True) == run_dir(tmp_path, "exp", exist_ok=True) == tmp_path / "exp"
    monkeypatch.chdir(tmp_path)
    assert run_dir(None, "predict").as_posix() == "runs/detect/predict"
    assert (tmp_path / "runs" / "detect" / "predict").is_dir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot create the run folder"):
        run_dir(tmp_path / "file", "train")
    with pytest.raises(UserError, match="is a file; expected a folder"):
        run_dir(tmp_path, "file", exist_ok=True)


@pytest.mark.parametrize("name", ["train", "exp.v1", "a[1]", "训练"])
def test_number_is_one_above_the_highest(tmp_path, name):
    for existing in (name, f"{name}7", f"{name}_other", f"{name}3x", f"re{name}9"):
        (tmp_path / existing).mkdir()
    assert increment_path(tmp_path / name).name == f"{name}8"


def test_resumed_weights_and_safe_names(tmp_path):
    assert [resumed_weights(value) for value in (False, True)] == [None, None]
    assert resumed_weights("runs/a/weights/last.pt") == "runs/a/weights/last.pt"
    assert resumed_weights(str(tmp_path)) == str(tmp_path / "weights" / "last.pt")
    assert safe_name("rtsp://a:1/b?c") == "rtsp___a_1_b_c" and safe_name("..") == "_"


def test_failed_write_keeps_the_old_file_and_leaves_no_temporary_file(tmp_path, monkeypatch):
    file = write_text(tmp_path / "a.txt", "old")

    def full_disk(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_text(file, "new")
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


def test_missing_files_folders_and_invalid_json(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_text(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="is a directory"):
        read_text(tmp_path)
    (tmp_path / "a.json").write_text('{"a": 1,\n "b" 2}')
    with pytest.raises(DataError, match=r"a\.json, line 2: not valid JSON"):
        read_json(tmp_path / "a.json", DataError)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gbk", "gb18030"])
def test_encodings_of_lists_and_labels(tmp_path, encoding, monkeypatch, caplog):
    monkeypatch.setattr("ultralytics.utils.LOGGER.propagate", True)
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_bytes("图像/猫.jpg\n".encode(encoding))
        assert read_text(tmp_path / name, guess=True) == "图像/猫.jpg\n"
    assert len(caplog.messages) == (1 if "gb" in encoding else 0)
    assert not caplog.messages or "a.txt: not UTF-8 text, read as gb18030" in caplog.text
    (tmp_path / "a.xml").write_bytes(f'<?xml version="1.0" encoding="{encoding}"?><a>猫</a>'.encode(encoding))
    assert read_text(tmp_path / "a.xml", guess=True).endswith("猫</a>")
    (tmp_path / "a.json").write_bytes('{"名": "猫"}'.encode(encoding))
    assert read_json(tmp_path / "a.json") == {"名": "猫"}


def test_files_that_are_no_text(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 32)
    (tmp_path / "long").write_bytes(b"a" * 9000)
    (tmp_path / "long").touch()
    os.truncate(tmp_path / "long", 1 << 34)
    for name, message in (
        ("pipe", "is a device or a pipe"), ("/dev/zero", "is a device or a pipe"), ("sparse", "binary data"),
        ("long", "17,179,869,184 bytes, expected at most"), ("a\0b", "null byte"), ("a" * 300, "file name too long"),
    ):  # fmt: skip
        for read in (read_text, read_json):
            with pytest.raises(DataError, match=message):
                read(tmp_path / name, DataError)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 5000, "[1,", "", "\x01", "[NaN, -Infinity"])
def test_invalid_json(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json.*: not valid JSON: ."):
        read_json(tmp_path / "a.json", DataError)
