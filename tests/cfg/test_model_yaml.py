"""Find and read model files; errors about their form are in tests/nn/test_parser_errors.py."""

from pathlib import Path

import pytest
import yaml

from ultralytics.cfg.model_yaml import MODELS_DIR, find_model_yaml, load_model_yaml
from ultralytics.utils.errors import ModelConfigError

TEXT = """\
nc: 2
scales:
  n: [0.5, 0.25, 512]
  s: [1.0, 0.5, 512]
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
head:
  - [[-1], 1, RTDETRDecoder, [nc, 'None', '3', nearest]]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.yaml").write_text(TEXT)
    return tmp_path


@pytest.mark.parametrize("path", sorted((MODELS_DIR / "rt-detr").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_file_of_the_package_is_read(path):
    assert load_model_yaml(path.name).rows[-1].module == "RTDETRDecoder"


def test_a_file_and_plain_data_are_read_with_lines_and_values(folder):
    spec = load_model_yaml(folder / "net.yaml")
    assert (spec.nc, spec.depth, spec.width, spec.max_channels) == (2, 0.5, 0.25, 512)  # the first scale
    assert spec.rows[1].args == ("nc", None, 3, "nearest")
    assert spec.rows[1].where == "net.yaml:8"
    assert [row.section for row in spec.rows] == ["backbone", "head"]
    assert load_model_yaml(spec.source).rows[1].args == spec.rows[1].args


def test_the_last_letter_of_the_name_is_the_scale(folder):
    assert load_model_yaml(folder / "nets.yaml").width == 0.5
    with pytest.raises(ModelConfigError, match="unknown scale 'x'; the file has n, s"):
        load_model_yaml(folder / "netx.yaml")
    for name in ("yolov3n.yaml", "yolov3-tinyu.yaml"):
        with pytest.raises(ModelConfigError, match=rf"model '{name}': no such file; \S+ has no scale '.'"):
            load_model_yaml(name)


@pytest.mark.parametrize(
    ("name", "file", "scale"),
    [
        ("yolov8n.yaml", "yolov8.yaml", "n"),
        ("yolov8x-p2.yaml", "yolov8-p2.yaml", "x"),
        ("yolo26s-p6.yaml", "yolo26-p6.yaml", "s"),
        ("yolov8m-ghost-p2.yaml", "yolov8-ghost-p2.yaml", "m"),
        ("yolov8l-rtdetr.yaml", "yolov8-rtdetr.yaml", "l"),
        ("yolov10b.yaml", "yolov10b.yaml", "b"),
        ("yolov9t.yaml", "yolov9t.yaml", None),
        ("yolov5-p6.yaml", "yolov5-p6.yaml", "n"),  # the first, with a note
    ],
)
def test_the_letter_after_the_version_is_the_scale(name, file, scale):
    spec = load_model_yaml(name)
    assert (spec.name, spec.source.get("scale")) == (file, scale)
    assert bool(spec.note) == (name == "yolov5-p6.yaml")


def test_a_file_of_that_name_is_built_at_the_scale_of_its_name(folder):
    for name in ("yolo11s-own.yaml", "net2s.yaml"):
        (folder / name).write_text(TEXT)
        spec = load_model_yaml(folder / name)
        assert spec.width == 0.5 and not spec.note
    (folder / "yolo11s-own.yaml").write_text("scale: n\n" + TEXT)
    assert load_model_yaml(folder / "yolo11s-own.yaml").width == 0.25  # the file decides


def test_the_error_for_a_missing_file_suggests_the_nearest(tmp_path):
    with pytest.raises(ModelConfigError, match=r"did you mean 'rtdetr-efficientvit-m0\.yaml'"):
        find_model_yaml("rtdetr-eficientvit-m0.yaml")
    with pytest.raises(ModelConfigError, match="is a directory"):
        load_model_yaml(tmp_path)
    for name, near in (
        ("yolov11n", "yolo11n"), ("yolov5nu", "yolov5n"), ("yolov12s", "yolo12s"), ("yolo8n", "yolov8n"),
        ("yolov9n", "yolov9t"), ("yolov26x", "yolo26x"), ("yolo11n-efficentvit", "yolo11n-efficientvit"),
    ):  # fmt: skip
        with pytest.raises(ModelConfigError, match=rf"did you mean '{near}\.yaml'"):
            find_model_yaml(f"{name}.yaml")
        find_model_yaml(f"{near}.yaml")
    with pytest.raises(ModelConfigError, match=r"detects objects; did you mean 'yolov8n\.yaml'"):
        find_model_yaml("yolov8n-seg.yaml")


def changed(**keys) -> dict:
    return {**yaml.safe_load((MODELS_DIR / "rt-detr" / "rtdetr-r18.yaml").read_text()), "nc": 2, **keys}


def test_names_may_be_a_list_or_a_mapping():
    for names in (["cat", "dog"], {1: "dog", 0: "cat"}):
        assert load_model_yaml(changed(names=names)).names == {0: "cat", 1: "dog"}
    assert load_model_yaml(changed(names=["cat"], nc=None)).names == {0: "cat"}


SHARED = ["x"] * 9
for _ in range(12):
    SHARED = [SHARED] * 9


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"names": "cat"}, "names must be a list, or a mapping of numbers to names; got 'cat'"),
        ({"names": ["cat"]}, "names has 1 entry, but nc is 2"),
        ({"names": {1: "a", 2: "b"}}, "numbered from 0 without gaps"),
        ({"names": [["a"], "b"]}, "names must be texts"),
        ({"task": "segment"}, "task must be detect, got 'segment'"),
        ({"ch": 4}, "ch must be 3, as images are read in color; got 4"),
        ({"nc": 0}, "nc must be a whole number from 1"),
        ({"nc": 10**9}, "nc must be a whole number from 1 to 100000"),
        ({"num_denoising": "x"}, "num_denoising must be a whole number from 0"),
        ({"num_queries": True}, "num_queries must be a whole number from 1"),
        ({"scales": 5}, "scales must be lines of the form"),
        ({"scale": [1]}, r"unknown scale \[1\]; the file has l"),
        ({"scales": {"l": 1}}, r"scale 'l' must be \[depth, width, max_channels\], got 1"),
        ({"scales": {"l": [1, "1", 9]}}, "scale 'l' must be .* above 0"),
        ({"scales": None, "width_multiple": -1}, r"max_channels must be numbers above 0.*got \[1.0, -1"),
        ({"scales": None, "depth_multiple": "x"}, "must be numbers above 0"),
        ({"scales": None, "max_channels": float("nan")}, "must be numbers above 0"),
        ({"scales": {"l": [1, float("inf"), 9]}}, "at most 100 for depth and width"),
        ({"modules": 5}, "modules must be a folder or a list of folders, got 5"),
        ({"head": [[-1, 1, "Conv", [10**9]]]}, "head row 0: the argument 1000000000 is too large"),
        ({"head": [[-1, 1, ["Conv"], []]]}, "the third column is the module's name"),
        ({"block": [1], "head": [[-1, 1, "block", []]]}, r"the third column is the module's name, got \[1\]"),
        ({"head": SHARED}, "model: its values are repeated to a size of more than"),
    ],
)
def test_values_that_no_network_can_have(keys, message):
    with pytest.raises(ModelConfigError, match=message):
        load_model_yaml(changed(**keys))


@pytest.mark.parametrize("text", ["{[1]: 2}", "-" * 300 + "1", "(" * 150, "1e999"])
def test_arguments_that_are_no_literals_stay_text(text):
    row = load_model_yaml(changed(head=[[-1, 1, "Conv", [text]]])).rows[-1]
    assert row.args == (float("inf") if text == "1e999" else text,)


def test_a_file_that_chooses_none_of_its_scales_has_a_note(tmp_path):
    for name in ("net-s.yaml", "net.yaml"):
        (tmp_path / name).write_text(TEXT)
        note = load_model_yaml(tmp_path / name).note
        assert note.startswith(f"{name}: chooses none of its scales n, s; built at scale n, the first")
        assert note.endswith("`scale: s`")
    assert not load_model_yaml(tmp_path / "nets.yaml").note and not load_model_yaml("rtdetr-x.yaml").note
    assert not load_model_yaml(load_model_yaml(tmp_path / "net.yaml").source).note


def test_custom_keys_replace_modules_and_arguments_in_rows(tmp_path):
    own = "block: C2f\nwidth_of_neck: 64\n" + TEXT.replace("head:", "  - [-1, 2, block, [width_of_neck, True]]\nhead:")
    (tmp_path / "own.yaml").write_text(own)
    row = load_model_yaml(tmp_path / "own.yaml").rows[1]
    assert (row.module, row.args) == ("C2f", (64, True))
    (tmp_path / "own.yaml").write_text("blok: C2f\n" + TEXT)
    assert load_model_yaml(tmp_path / "own.yaml").note.endswith("own.yaml: has keys that have no effect here: blok")
    (tmp_path / "own.yaml").write_text("num_query: 3\n" + TEXT)
    with pytest.raises(ModelConfigError, match=r"own\.yaml:1: unknown key 'num_query'; did you mean 'num_queries'"):
        load_model_yaml(tmp_path / "own.yaml")
