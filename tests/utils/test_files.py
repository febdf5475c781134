"""Run folders, atomic writes, and the readers of YAML and JSON. Weights files: see tests/engine/test_checkpoint.py."""

import json
import os
from itertools import pairwise

import pytest

from ultralytics.utils.errors import DataError, UserError
from ultralytics.utils.files import (
    increment_path,
    list_files,
    read_bytes,
    read_json,
    read_text,
    real_path,
    resumed_weights,
    run_dir,
    safe_name,
    short_name,
    walk,
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
    (tmp_path / "weights").mkdir()
    assert resumed_weights(str(tmp_path / "weights")) == resumed_weights(str(tmp_path))
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
def test_encodings_of_lists_and_labels(tmp_path, encoding, caplog):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_bytes("图像/猫.jpg\n".encode(encoding))
        assert read_text(tmp_path / name, guess=True) == "图像/猫.jpg\n"
    assert len(set(caplog.messages)) == (1 if "gb" in encoding else 0)
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


def test_walk_visits_each_real_folder_once_and_no_hidden_one(tmp_path, caplog):
    root = tmp_path / "images"
    hidden = (".thumbnails/x.jpg", "in/.ipynb_checkpoints/x.jpg", "._b.jpg")
    for name in ("b.jpg", "a.JPG", "in/c.jpg", "in/n.md", *hidden):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (tmp_path / "other" / "deep").mkdir(parents=True)
    (tmp_path / "other" / "d.jpg").touch()
    for link, target in {"l1": ".", "in/l2": "..", "in/up": tmp_path, "top": "/", "z": tmp_path / "other"}.items():
        (root / link).symlink_to(target)
    (tmp_path / "other" / "deep" / "back").symlink_to(root)
    (root / "self").symlink_to("self")
    found = ["a.JPG", "b.jpg", "in/c.jpg", "z/d.jpg"]
    assert [file.relative_to(root).as_posix() for file in list_files(root, (".jpg",))] == found
    assert [folder.relative_to(root).as_posix() for folder, _ in walk(root)] == [".", "in", "z", "z/deep"]
    assert len(list_files(root, (".jpg",), recursive=False)) == 2 and not caplog.text
    assert len(list_files(root / ".thumbnails", (".jpg",))) == 1  # a hidden folder that was asked for
    assert list_files(tmp_path / "absent", (".jpg",)) == [] and "absent: left out" in caplog.text


def test_two_links_a_folder_are_not_two_to_the_power_of_forty_folders(tmp_path):
    folders = [tmp_path / f"d{i}" for i in range(40)]
    for folder in folders:
        folder.mkdir()
    for folder, deeper in pairwise(folders):
        (folder / "a").symlink_to(deeper)
        (folder / "b").symlink_to(deeper)
    (folders[-1] / "x.jpg").touch()
    assert len(list_files(folders[0], (".jpg",))) == 1


def test_names_that_no_file_has_are_paths_and_text(tmp_path):
    (tmp_path / "self").symlink_to("self")
    for name in ("x" * 300, "a\0b", "~nobody/x", str(tmp_path / "self")):
        assert not os.path.isdir(real_path(name)) and "\0" not in str(real_path(name))
    file = write_text(tmp_path / "a.json", json.dumps({"file": "\udcff.jpg"}, ensure_ascii=False))
    assert read_json(file) == {"file": "\udcff.jpg"}


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "a").write_bytes(bytes(9))
    for name, message in {"pipe": "device or a pipe", "zero": "device or a pipe", "\0": "null", "a": "9 bytes"}.items():
        with pytest.raises(DataError, match=message):
            read_bytes(tmp_path / name, DataError, 8)
    with pytest.raises(UserError, match="device or a pipe"):
        read_text(tmp_path / "zero")


@pytest.mark.parametrize(
    "name", ["x" * 252, "x" * 300, "猫" * 100, "a\0b", "/proc/none", "x/" * 1500, os.fsdecode(b"\xff" * 256)]
)
def test_run_folders_of_odd_names(tmp_path, name):
    try:
        assert run_dir(tmp_path, name).is_dir()
    except UserError as error:
        assert "cannot create the run folder" in str(error) and len(str(error)) < 500


@pytest.mark.parametrize("stem", ["a", "x" * 251, "x" * 256, "猫" * 90, os.fsdecode(b"\xff" * 300)])
def test_names_fit_file_systems_and_differ(tmp_path, stem):
    names = [short_name(stem + end, f"_{i}.jpg") for end in ("", "b") for i in (1, 1000)]
    for name in (*names, safe_name(f"{stem}/?", ".txt")):
        (tmp_path / name).touch(exist_ok=False)
    assert names[0] == f"{stem}_1.jpg" or len(os.fsencode(stem)) > 249
