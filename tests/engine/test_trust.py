"""What weights record is shown, and followed only when the user asks: folders of code, and data sets."""

import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from tests.shapes import write_data, write_shapes
from tests.small_detector import CONTENT, YOLO_CONTENT
from ultralytics import RTDETR, YOLO
from ultralytics.cli import main
from ultralytics.engine import trust
from ultralytics.engine.checkpoint import load_checkpoint, save_checkpoint
from ultralytics.utils.errors import DataError, ModelConfigError, OptionError

CODE = """
import builtins
from torch import nn

builtins.imported = getattr(builtins, "imported", 0) + 1

class Evil{n}(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x
"""
ROOT = Path(__file__).parents[2]
PICTURE = np.zeros((64, 64, 3), np.uint8)
QUICK = {"imgsz": 64, "batch": 2, "workers": 0, "plots": False, "device": "cpu", "denoising": 0}


def imported() -> int:
    import builtins

    return getattr(builtins, "imported", 0)


@pytest.fixture
def weights(tmp_path, request) -> tuple[Path, Path]:
    """Weights whose model YAML records a folder with a module that one of the rows names, and the folder."""
    name = f"Evil{abs(hash(request.node.name))}"
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "evil.py").write_text(CODE.replace("Evil{n}", name))
    content = {**CONTENT, "head": [[-1, 1, name, []], *CONTENT["head"][1:]]}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({**content, "modules": "code"}, allow_unicode=True))
    RTDETR(tmp_path / "small.yaml").save(tmp_path / "small.pt")
    from ultralytics.nn import registry

    registry.forget_folders()
    return tmp_path / "small.pt", folder


def change(file: Path, **changes) -> Path:
    """Write weights with other content beside a file."""
    state = load_checkpoint(file)
    out = file.with_name("changed.pt")
    save_checkpoint(out, {**state, **changes})
    return out


def test_recorded_folders_are_named_and_imported_when_asked_for(weights):
    file, folder = weights
    before = imported()
    with pytest.raises(
        ModelConfigError,
        match=rf"no module 'Evil.*small\.pt records the module folder {folder}, .* only if "
        rf"you add modules={folder} or trust=True",
    ):
        RTDETR(file).predict(PICTURE, imgsz=64)
    for use in (lambda m: m.val(data="shapes.yaml"), lambda m: m.export(format="torchscript"), lambda m: m.info()):
        with pytest.raises(ModelConfigError, match="records the module folder"):
            use(RTDETR(file))
    with pytest.raises(ModelConfigError, match="records the module folder"):
        RTDETR(file).train(data="shapes.yaml", epochs=1, **QUICK)
    assert main(["predict", f"model={file}", "source=x.jpg"]) == 2 and imported() == before
    assert RTDETR(file).predict(PICTURE, imgsz=64, modules=str(folder))
    assert imported() == before + 1
    for model in (RTDETR(file, trust=True), RTDETR(file, modules=str(folder))):
        assert model.info(verbose=False).layers and model.predict(PICTURE, imgsz=64)
    assert RTDETR(file).predict(PICTURE, imgsz=64, trust=True)


HEAD = """
from ultralytics.nn.modules import Detect


class DetectPlain(Detect):
    pass
"""


@pytest.mark.parametrize("given", ["modules", "trust"])
@pytest.mark.parametrize("program", ["yolo", "detect"])
def test_a_head_of_a_module_folder_on_the_command_line(tmp_path, monkeypatch, given, program):
    """The family follows the head, so its folder is needed before the options reach a method of the model."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "heads.py").write_text(HEAD)
    rows = [*YOLO_CONTENT["head"][:-1], [[2, 8, 5], 1, "DetectPlain", ["nc"]]]
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({**YOLO_CONTENT, "head": rows, "modules": "code"}))
    YOLO(tmp_path / "small.yaml").save(tmp_path / "small.pt")
    cv2.imwrite(str(tmp_path / "a.png"), PICTURE)
    monkeypatch.chdir(tmp_path)
    options = {"source": "a.png", "imgsz": 64, given: "code" if given == "modules" else True}
    if program == "yolo":
        assert main(["predict", "model=small.pt", *(f"{key}={value}" for key, value in options.items())]) == 0
    else:
        runpy.run_path(str(ROOT / "detect.py"))["main"](model="small.pt", **options)
    assert (tmp_path / "runs/detect/predict/a.png").is_file()


def test_a_folder_that_is_gone_or_not_needed(weights, caplog):
    file, folder = weights
    (folder / "evil.py").unlink()
    folder.rmdir()
    with pytest.raises(ModelConfigError, match=r"only if you add modules=\S+ \(not found here: its new path\)"):
        RTDETR(file).info()
    unneeded = {**load_checkpoint(file)["model_yaml"], **CONTENT, "modules": [str(file.parent)]}
    (file.parent / "boom.py").write_text("raise SystemExit")
    with caplog.at_level("WARNING", logger="ultralytics"):
        RTDETR(change(file, model_yaml=unneeded, model=RTDETR(unneeded_file(file)).model.state_dict())).info(
            verbose=False
        )
    assert "the network was built without it" in caplog.text and "boom" not in caplog.text


def unneeded_file(file: Path) -> Path:
    (file.parent / "plain.yaml").write_text(yaml.safe_dump(CONTENT))
    return file.parent / "plain.yaml"


def test_an_own_run_resumes_with_its_folders_when_asked_for(weights, shapes, tmp_path):
    file, folder = weights
    options = {**QUICK, "project": str(tmp_path / "runs"), "data": str(shapes)}
    yaml_file = file.with_suffix(".yaml")
    model = RTDETR(yaml_file)
    model.train(epochs=1, **options)
    assert model.val(**QUICK).box is not None  # the weights of this process's own run
    last = model.trainer.last
    with pytest.raises(ModelConfigError, match="records the module folder"):
        RTDETR(last).train(resume=True, epochs=2)
    trainer = RTDETR(last)
    trainer.train(resume=True, epochs=2, modules=str(folder))
    assert trainer.trainer.epochs == 2
    assert RTDETR(last, trust=True).train(resume=True, epochs=3)


FILES = {"files": [{"url": "http://localhost:9/a.zip", "into": "images"}]}
RECIPE = {"path": "nowhere", "train": "images", "val": "images", "names": ["a"], "download": FILES}


def test_recorded_data_sets_are_never_made(weights, tmp_path, monkeypatch):
    file, _ = weights
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    plain = {**CONTENT, "yaml_file": "plain.yaml", "ch": 3}
    state = {"model_yaml": plain, "model": RTDETR(unneeded_file(file)).model.state_dict()}
    monkeypatch.setattr("ultralytics.data.converter.fetch_dataset", lambda *_: pytest.fail("downloaded"))
    recorded = change(file, **state, options={"data": str(tmp_path / "recipe.yaml")})
    with pytest.raises(DataError, match=r"give data=\S+recipe.yaml to download .*changed\.pt records this data set"):
        RTDETR(recorded).val(**QUICK)
    write_shapes(tmp_path, train=1, val=1)
    data = write_data(tmp_path / "shapes", "three.yaml", ["a", "b", "c", "d", "e", "f"])
    recorded = change(file, **state, options={"data": str(data), "imgsz": "big"})
    with pytest.raises(OptionError, match=r"changed\.pt: imgsz: expected"):
        RTDETR(recorded).val(**QUICK)


def test_a_repository_named_as_a_whole_is_given(caplog):
    root = "tests/nn/fork_repository"
    checkpoint = {"model_yaml": {"nc": 3, "modules": [str(Path(root).resolve())]}}
    assert trust.build_recorded(dict, checkpoint, "a.pt", [root]) == {"nc": 3} and not caplog.messages
    trust.build_recorded(dict, checkpoint, "a.pt")
    assert "records the module folder" in caplog.text
