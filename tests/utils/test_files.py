"""Run folders, whole files, strict YAML."""

from __future__ import annotations

import os

import pytest

from ultralytics.cfg import get_cfg
from ultralytics.utils.errors import UserError
from ultralytics.utils.files import increment_path, read_yaml, resumed_weights, run_dir, write_text, write_yaml


def test_run_folders_are_numbered_and_created(tmp_path):
    options = get_cfg(overrides={"project": str(tmp_path / "runs")})
    names = [run_dir(options, "train").name for _ in range(3)]
    assert names == ["train", "train2", "train3"]
    assert sorted(folder.name for folder in (tmp_path / "runs").iterdir()) == names


def test_name_and_exist_ok(tmp_path):
    options = get_cfg(overrides={"project": tmp_path, "name": "exp", "exist_ok": True})
    assert run_dir(options, "train") == run_dir(options, "train") == tmp_path / "exp"


def test_runs_go_to_runs_detect_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_dir(get_cfg(), "predict").as_posix() == "runs/detect/predict"
    assert (tmp_path / "runs" / "detect" / "predict").is_dir()


def test_the_newest_run_has_the_highest_number(tmp_path):
    for name in ("train", "train7", "train_other", "train3x", "retrain9"):
        (tmp_path / name).mkdir()
    assert increment_path(tmp_path / "train").name == "train8"


@pytest.mark.parametrize("name", ["exp.v1", "a[1]", "训练"])
def test_names_are_taken_literally(tmp_path, name):
    (tmp_path / name).mkdir()
    assert increment_path(tmp_path / name).name == f"{name}2"


def test_files_keep_their_suffix(tmp_path):
    (tmp_path / "crop.jpg").touch()
    assert increment_path(tmp_path / "crop.jpg").name == "crop2.jpg"
    assert increment_path(tmp_path / "other.jpg").name == "other.jpg"


def test_a_run_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("x")
    with pytest.raises(UserError, match="cannot create the run's folder"):
        run_dir(get_cfg(overrides={"project": blocker}), "train")
    with pytest.raises(UserError, match="is a file; the run needs a folder"):
        run_dir(get_cfg(overrides={"project": tmp_path, "name": "file", "exist_ok": True}), "train")


def test_a_file_is_written_whole_with_usual_permissions(tmp_path):
    file = write_text(tmp_path / "new" / "a.txt", "línea\n")
    assert file.read_bytes() == "línea\n".encode()
    (tmp_path / "plain").touch()
    assert file.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    file = write_text(tmp_path / "a.txt", "old")

    def full_disk(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_text(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_yaml_comes_back_as_it_went(tmp_path):
    data = {"b": [1, 2], "a": {"names": {0: "猫"}}, "lr": 1e-4, "tiny": 1e-20, "none": None}
    file = write_yaml(tmp_path / "a.yaml", data)
    assert read_yaml(file) == data
    assert list(read_yaml(file)) == list(data)
    assert "猫" in file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "value"),
    [("x: 1e-4", 1e-4), ("x: 1E5", 1e5), ("x: 1.5e-3", 1.5e-3), ("x: e5", "e5"), ("x: 1e", "1e"), ("x: -.5e2", -50.0)],
)
def test_numbers_with_an_exponent_are_numbers(tmp_path, text, value):
    (tmp_path / "a.yaml").write_text(text)
    assert read_yaml(tmp_path / "a.yaml") == {"x": value}


def test_an_empty_file_is_an_empty_mapping_and_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.yaml").write_text("# nothing\n")
    assert read_yaml(tmp_path / "a.yaml") == {}
    (tmp_path / "b.yaml").write_bytes(b"\xef\xbb\xbfx: 1\n")
    assert read_yaml(tmp_path / "b.yaml") == {"x": 1}


def test_merge_keys_may_be_overridden(tmp_path):
    (tmp_path / "a.yaml").write_text("base: &b {x: 1, y: 2}\nother:\n  <<: *b\n  x: 3\n")
    assert read_yaml(tmp_path / "a.yaml")["other"] == {"x": 3, "y": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\na: 2\n", "line 2: not valid YAML: key 'a' is given twice"),
        (b"a: [1, 2\nb: 3\n", "line 2: not valid YAML"),
        (b"a: !!python/object:os.system x\n", "line 1: not valid YAML: could not determine a constructor"),
        (b"- 1\n- 2\n", "expected lines of the form `key: value`, got a list"),
        (b"a: \xff\xfe\n", "not UTF-8 text"),
        (b"a: \x00\n", "not valid YAML"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_line(tmp_path, content, message):
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_yaml(file)
    assert str(caught.value).startswith(str(file))
    assert message in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="is a folder; expected a YAML file"):
        read_yaml(tmp_path)


def test_a_run_is_resumed_by_its_weights_or_its_folder(tmp_path):
    assert [resumed_weights(value) for value in (False, True)] == [None, None]
    assert resumed_weights("runs/a/weights/last.pt") == "runs/a/weights/last.pt"
    assert resumed_weights(str(tmp_path)) == str(tmp_path / "weights" / "last.pt")
