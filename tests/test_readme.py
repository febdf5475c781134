"""The README's example of a module, taken from the README itself."""

import importlib.util
import re
from pathlib import Path

import pytest

from ultralytics.cfg.model_yaml import MODELS_DIR
from ultralytics.nn.tasks import RTDETRDetectionModel

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_module_of_the_readme_is_built_from_its_row(readme, tmp_path):
    text = (ROOT / readme).read_text(encoding="utf-8")
    blocks = re.findall(r"```(python|yaml)\n(.*?)```", text, re.S)
    (code,) = (block for kind, block in blocks if kind == "python" and "class ChannelGate" in block)
    (rows,) = (block for kind, block in blocks if kind == "yaml" and "ChannelGate" in block)

    file = tmp_path / "ChannelGate.py"
    file.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("ChannelGate", file)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))

    base = (MODELS_DIR / "rt-detr" / "rtdetr-efficientvit-m0.yaml").read_text()
    head = next(line for line in base.splitlines(keepends=True) if "RTDETRDecoder" in line)
    (tmp_path / "my-model.yaml").write_text(base.replace(head, rows))
    model = RTDETRDetectionModel(tmp_path / "my-model.yaml", nc=3)
    assert type(model.model[-2]).__name__ == "ChannelGate" and model.model[-2].i == 23
    assert model.model[-1].f == [16, 19, 23]
