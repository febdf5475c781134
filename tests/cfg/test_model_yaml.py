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


def test_the_error_for_a_missing_file_suggests_the_nearest(tmp_path):
    with pytest.raises(ModelConfigError, match=r"did you mean 'rtdetr-efficientvit-m0\.yaml'"):
        find_model_yaml("rtdetr-eficientvit-m0.yaml")
    with pytest.raises(ModelConfigError, match="is a directory"):
        load_model_yaml(tmp_path)


def test_names_may_be_a_list():
    config = yaml.safe_load((MODELS_DIR / "rt-detr" / "rtdetr-r18.yaml").read_text())
    assert load_model_yaml({**config, "names": ["cat", "dog"]}).names == {0: "cat", 1: "dog"}
    with pytest.raises(ModelConfigError, match="names must be a list, or a mapping of numbers to names; got 'cat'"):
        load_model_yaml({**config, "names": "cat"})


def test_custom_keys_replace_modules_and_arguments_in_rows(tmp_path):
    own = "block: C2f\nwidth_of_neck: 64\n" + TEXT.replace("head:", "  - [-1, 2, block, [width_of_neck, True]]\nhead:")
    (tmp_path / "own.yaml").write_text(own)
    row = load_model_yaml(tmp_path / "own.yaml").rows[1]
    assert (row.module, row.args) == ("C2f", (64, True))
    (tmp_path / "own.yaml").write_text("blok: C2f\n" + TEXT)
    with pytest.raises(ModelConfigError, match="unknown key 'blok'"):
        load_model_yaml(tmp_path / "own.yaml")
