"""The README's example of a module, taken from the README itself, and lint of all modules in the documentation."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ultralytics.cfg.model_yaml import MODELS_DIR
from ultralytics.nn.tasks import RTDETRDetectionModel

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_module_of_the_readme_is_built_from_its_row(readme, tmp_path):
    blocks = re.findall(r"```(python|yaml)\n(.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.S)
    (code,) = (block for kind, block in blocks if kind == "python" and "class ChannelGate" in block)
    (rows,) = (block for kind, block in blocks if kind == "yaml" and "ChannelGate" in block)

    # under another name, as the module may have been saved
    code, rows = (block.replace("ChannelGate", "ReadmeGate") for block in (code, rows))
    file = tmp_path / "ReadmeGate.py"
    file.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("ReadmeGate", file)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))

    base = (MODELS_DIR / "rt-detr" / "rtdetr-efficientvit-m0.yaml").read_text()
    head = next(line for line in base.splitlines(keepends=True) if "RTDETRDecoder" in line)
    (tmp_path / "my-model.yaml").write_text(base.replace(head, rows))
    model = RTDETRDetectionModel(tmp_path / "my-model.yaml", nc=3)
    assert type(model.model[-2]).__name__ == "ReadmeGate" and model.model[-2].i == 23
    assert model.model[-1].f == [16, 19, 23]


@pytest.mark.skipif(not shutil.which("ruff"), reason="ruff is not installed")
@pytest.mark.parametrize("page", [*ROOT.glob("README*.md"), *ROOT.glob("docs/*/*.md")], ids=lambda page: page.name)
def test_modules_of_the_documentation_are_clean_under_ruff_once_saved(page):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    for code in (block for block in blocks if "(nn.Module)" in block):
        for command in (["ruff", "check"], ["ruff", "format", "--check"]):
            command += ["--stdin-filename", "ultralytics/nn/Addmodules/Mine.py", "-"]
            done = subprocess.run(command, input=code, capture_output=True, text=True, cwd=ROOT)
            assert not done.returncode, done.stdout + done.stderr
