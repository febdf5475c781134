import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.golden import inputs
from ultralytics.cfg import get_cfg
from ultralytics.cfg.family import Family
from ultralytics.engine.validator import BaseValidator
from ultralytics.metrics.coco_files import read_boxes
from ultralytics.metrics.matching import as_rows
from ultralytics.metrics.protocols import PROTOCOLS, evaluate
from ultralytics.models.rtdetr import RTDETRValidator
from ultralytics.tools.yolo2coco import command as yolo2coco
from ultralytics.utils.errors import DataError, OptionError
from ultralytics.utils.ops import xywh2xyxy

GOLDEN = Path(__file__).parents[1] / "golden"
SHAPES = ((40, 60), (64, 32), (50, 50))  # height, width of the test images
BOXES = [[(0, 0.5, 0.5, 0.4, 0.6)], [(1, 0.3, 0.25, 0.2, 0.3), (0, 0.7, 0.75, 0.5, 0.4)], []]  # class, cx, cy, w, h
NAMES = {0: "cat", 1: "dog"}


class Oracle(nn.Module):
    """An RT-DETR that returns the labels: one query for each label of the test images, in their order."""

    stride = torch.tensor([32])

    def __init__(self, names=NAMES, boxes=BOXES):
        super().__init__()
        self.names, self.boxes, self.seen = names, boxes, 0
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        assert x.dtype == torch.float32 and x.min() >= 0 and x.max() <= 1 and not self.training
        y = torch.zeros(len(x), 4, 4 + len(self.names))
        for image in y:
            for query, (cls, *box) in enumerate(self.boxes[self.seen]):
                image[query, :4] = torch.tensor(box)
                image[query, 4 + cls] = 0.9 - 0.1 * query
            self.seen += 1
        return y, None

    def loss(self, batch, preds):
        return torch.tensor(6.0), torch.tensor([1.0, 2.0, 3.0]) * len(preds[0])


@pytest.fixture
def data(tmp_path):
    """A YOLO data set of three images, the last one without objects; returns its YAML."""
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for i, (shape, rows) in enumerate(zip(SHAPES, BOXES, strict=True)):
        Image.fromarray(np.full((*shape, 3), 60 * i, np.uint8)).save(tmp_path / "images" / f"im{i}.png")
        (tmp_path / "labels" / f"im{i}.txt").write_text("\n".join([" ".join(map(str, row)) for row in rows]))
    file = tmp_path / "data.yaml"
    file.write_text("train: images\nval: images\nnames: [cat, dog]\n")
    return file


def options(data, **changes):
    common = {"mode": "val", "imgsz": 64, "batch": 2, "workers": 0, "device": "cpu", "plots": False}
    return get_cfg(overrides={"data": str(data) if data else None, **common, **changes})


def test_perfect_predictions_have_full_marks(data, tmp_path):
    validator = RTDETRValidator(args=options(data), save_dir=tmp_path / "out")
    metrics = validator.run(Oracle())
    assert metrics.results_dict == pytest.approx(
        {"metrics/precision(B)": 1, "metrics/recall(B)": 1, "metrics/mAP50(B)": 0.995, "metrics/mAP50-95(B)": 0.995,
         "coco/AP": 1, "coco/AP50": 1, "coco/AP75": 1, "coco/APs": 1, "fitness": 0.995}, abs=1e-3, nan_ok=True,
    )  # fmt: skip
    assert (metrics.seen, metrics.labels.tolist(), metrics.images.tolist()) == (3, [2, 1], [2, 1])
    assert metrics.confusion_matrix.matrix.tolist() == [[2, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert set(metrics.speed) == {"preprocess", "inference", "loss", "postprocess"} and metrics.speed["inference"] > 0
    assert validator.loss_items is None and not (tmp_path / "out").exists()
    assert repr(validator.run(Oracle()).results_dict) == repr(metrics.results_dict)  # a second call starts from zero


def test_epochs_of_a_training_have_a_loss_and_write_no_predictions(data, tmp_path):
    validator = RTDETRValidator(args=options(data, save_json=True, coco_eval=True), save_dir=tmp_path / "out")
    assert validator.run(Oracle(), loss=True, epoch=3).results_dict["coco/APs"] == pytest.approx(1)
    assert validator.loss_items.tolist() == [1.5, 3.0, 4.5]  # mean over batches of two images and of one
    assert not list((tmp_path / "out").iterdir())


def test_pictures_and_predictions_are_written(data, tmp_path):
    out = tmp_path / "new" / "out"
    metrics = RTDETRValidator(args=options(data, plots="pdf", save_json=True, conf=0.5), save_dir=out).run(Oracle())
    curves = {f"Box{kind}_curve.{suffix}" for kind in ("PR", "P", "R", "F1") for suffix in ("png", "pdf")}
    matrices = {f"confusion_matrix{kind}.{suffix}" for kind in ("", "_normalized") for suffix in ("png", "pdf")}
    batches = {f"val_batch{i}_{kind}.jpg" for i in range(2) for kind in ("labels", "pred")}
    errors = {f"{name}.{suffix}" for name in ("errors", "confusion_by_size") for suffix in ("png", "pdf")}
    lists = {"predictions.json", "report.html", "images.csv", "confusion_by_size.csv"}
    assert {file.name for file in out.iterdir()} == {*curves, *matrices, *batches, *errors, *lists}
    entries = json.loads((out / "predictions.json").read_text())
    assert [entry["image_id"] for entry in entries] == ["im0", "im1", "im1"]
    assert (entries[0]["category_id"], entries[0]["score"]) == (1, pytest.approx(0.9))
    assert entries[0]["bbox"] == pytest.approx([18, 8, 24, 24])
    assert entries[1]["bbox"] == pytest.approx([6.4, 6.4, 6.4, 19.2], abs=1e-3)
    assert (out / "report.html").stat().st_size > 50_000
    rows = (out / "images.csv").read_text().splitlines()
    assert len(rows) == 1 + metrics.seen and rows[0].startswith("image,labels,TP,FP,FN,AP,class,")
    sizes = (out / "confusion_by_size.csv").read_text().splitlines()[1:]
    assert sum(int(row.split(",")[-1]) for row in sizes) == metrics.confusion_matrix.matrix.sum()


def test_label_files_are_those_of_the_last_run(data, tmp_path):
    for conf in 0.5, 0.5, 0.99:
        RTDETRValidator(args=options(data, save_txt=True, conf=conf), save_dir=tmp_path / "out").run(Oracle())
        rows = [len(file.read_text().splitlines()) for file in sorted((tmp_path / "out").rglob("*.txt"))]
        assert rows == ([1, 2] if conf < 0.9 else [])


class LetterboxValidator(BaseValidator):
    """Return the labels of letterboxed images."""

    family = Family("YOLO", {}, resize="letterbox")

    def postprocess(self, preds):
        batch = self.batch
        (height, width), self.sides = batch["img"].shape[2:], [*getattr(self, "sides", ()), (*batch["img"].shape[2:],)]
        boxes = xywh2xyxy(batch["bboxes"]) * torch.tensor([width, height] * 2)
        rows = torch.cat([boxes, torch.ones(len(boxes), 1), batch["cls"]], 1)
        return [rows[batch["batch_idx"] == i] for i in range(len(batch["img"]))]


@pytest.mark.parametrize(
    ("rect", "fixed", "sides"),
    [
        (None, False, [(96, 96), (96, 64)]),  # images of 40 x 60 and 50 x 50; 64 x 32
        (False, False, [(64, 64), (64, 64)]),
        (None, True, [(64, 64), (64, 64)]),
    ],
)
def test_boxes_of_letterboxed_images_are_those_of_the_files(data, rect, fixed, sides):
    class Network(Oracle):
        fixed_size, stride = fixed, torch.tensor([32])

    changes = {"coco_eval": True, "save_json": True}
    validator = LetterboxValidator(args=options(coco_data(data.parent), rect=rect, **changes), save_dir=data.parent)
    metrics = validator.run(Network())
    assert validator.sides == sides and metrics.box.map > 0.99
    assert metrics.evaluation is None or metrics.evaluation.stats["AP"] == pytest.approx(1)
    found = {(entry["image_id"], entry["category_id"]): entry["bbox"] for entry in validator.jdict}
    expected = {(10, 3): (18, 8, 24, 24), (11, 7): (6.4, 6.4, 6.4, 19.2), (11, 3): (14.4, 35.2, 16, 25.6)}
    assert found == {key: pytest.approx(box, abs=2e-3) for key, box in expected.items()}


def coco_data(folder: Path) -> Path:
    """The same images with a COCO json, whose categories are 7 and 3 and whose image ids count from 10."""
    images, annotations = [], []
    for i, ((h, w), rows) in enumerate(zip(SHAPES, BOXES, strict=True)):
        images.append({"id": 10 + i, "file_name": f"im{i}.png", "height": h, "width": w})
        for cls, cx, cy, bw, bh in rows:
            box = [(cx - bw / 2) * w, (cy - bh / 2) * h, bw * w, bh * h]
            entry = {"id": len(annotations) + 1, "image_id": 10 + i, "category_id": (3, 7)[cls], "iscrowd": 0}
            annotations.append({**entry, "bbox": box, "area": box[2] * box[3]})
    categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "val.json").write_text(json.dumps(content))
    file = folder / "coco.yaml"
    file.write_text("val: images\nannotations: {val: val.json}\n")
    return file


def test_predictions_of_a_json_of_other_sizes_fit_the_converted_json(data, tmp_path, caplog):
    """The json is of images of twice the size, with texts as category ids."""
    file = coco_data(data.parent)
    content = json.loads((data.parent / "val.json").read_text())
    for entry in content["images"]:
        entry.update(height=2 * entry["height"], width=2 * entry["width"])
    for entry in content["annotations"]:
        entry.update(bbox=[2 * v for v in entry["bbox"]], category_id=f"c{entry['category_id']}")
    for entry in content["categories"]:
        entry["id"] = f"c{entry['id']}"
    (data.parent / "val.json").write_text(json.dumps(content))
    validator = RTDETRValidator(args=options(file, save_json=True, coco_eval=True), save_dir=tmp_path / "out")
    metrics = validator.run(Oracle())
    assert "predictions.json has pixels of the upright images" in caplog.text
    yolo2coco(data=str(file), save=str(tmp_path / "converted.json"))
    (boxes,), messages = read_boxes(tmp_path / "converted.json", [tmp_path / "out/predictions.json"])
    assert not messages and evaluate(boxes, PROTOCOLS["coco"]).stats == metrics.evaluation.stats
    assert metrics.evaluation.stats["AP"] == pytest.approx(1)


@pytest.mark.parametrize("changes", [{}, {"single_cls": True}, {"classes": [0]}])
@pytest.mark.parametrize("coco", [True, False])
def test_official_metrics_of_an_oracle_are_full(data, coco, changes):
    file = coco_data(data.parent) if coco else data
    metrics = RTDETRValidator(args=options(file, coco_eval=True, **changes)).run(Oracle())
    assert metrics.evaluation.stats["AP"] == pytest.approx(1)
    assert len(metrics.evaluation.class_rows()) == (1 if changes else 2)
    assert metrics.box.map == pytest.approx(0.995, abs=1e-3)


def test_ids_are_unique_whatever_the_names(data, tmp_path, caplog):
    for kind, suffix in (("images", "png"), ("labels", "txt")):
        folder = tmp_path / kind
        (folder / "more").mkdir()
        for old, new in (("im0", "1"), ("im1", "more/1"), ("im2", "more/001")):
            (folder / f"{old}.{suffix}").rename(folder / f"{new}.{suffix}")
    boxes = [BOXES[0], BOXES[2], BOXES[1]]
    arguments = options(data, save_json=True, coco_eval=True)
    metrics = RTDETRValidator(args=arguments, save_dir=tmp_path).run(Oracle(boxes=boxes))
    assert metrics.evaluation.stats["AP"] == pytest.approx(1)
    assert "images share a name, so their ids are paths, such as 'images/1.png'" in caplog.text
    entries = json.loads((tmp_path / "predictions.json").read_text())
    assert {entry["image_id"] for entry in entries} == {"images/1.png", "more/1.png"}


def test_what_would_end_a_run_is_found_before_it(data, monkeypatch):
    file = coco_data(data.parent)
    content = json.loads((data.parent / "val.json").read_text())
    content["images"][1]["id"] = 10
    (data.parent / "val.json").write_text(json.dumps(content))
    for changes in {"save_json": True}, {"coco_eval": True, "save_json": True}:
        with pytest.raises(DataError, match="id"):
            RTDETRValidator(args=options(file, **changes))(oracle := Oracle())
        assert oracle.seen == 0


@pytest.mark.parametrize("name", ["evaluate", "write_text", "BoxMetrics.plot", "write_error_report"])
def test_metrics_survive_failures_after_them(data, tmp_path, monkeypatch, caplog, name):

    def fail(*args, **kwargs):
        raise OSError("no space")

    target = "ultralytics.metrics.detection" if "." in name else "ultralytics.engine.validator"
    monkeypatch.setattr(f"{target}.{name}", fail)
    arguments = options(data, save_json=True, coco_eval=True, plots=True)
    metrics = RTDETRValidator(args=arguments, save_dir=tmp_path).run(Oracle())
    assert metrics.box.map50 == pytest.approx(0.995, abs=1e-3) and "OSError: no space" in caplog.text
    assert (metrics.evaluation is None) == (name == "evaluate")
    assert (tmp_path / "report.html").exists() == (name not in ("evaluate", "write_error_report"))
    assert (tmp_path / "predictions.json").exists() == (name != "write_text")


def test_a_split_without_labels_is_a_warning_and_gives_nan(data, caplog):
    for file in (data.parent / "labels").glob("*.txt"):
        file.write_text("")
    metrics = RTDETRValidator(args=options(data)).run(Oracle())
    assert "none of 3 images has a labeled object" in caplog.text
    assert math.isnan(metrics.fitness)


def test_the_protocol_is_that_of_the_option_or_the_data(data):
    data.write_text(f"{data.read_text()}evaluation: {{protocol: cocoo, limit: 3}}\n")
    with pytest.raises(OptionError, match="did you mean 'coco'"):
        RTDETRValidator(args=options(data)).run(Oracle())
    data.write_text(data.read_text().replace("cocoo", "null"))
    assert RTDETRValidator(args=options(data)).run(Oracle()).results_dict["coco, limit 3/AP"] == pytest.approx(1)
    found = RTDETRValidator(args=options(data, protocol="aitod")).run(Oracle())
    assert found.results_dict["aitod, limit 3/APs"] == pytest.approx(1) and "aitod, limit 3 APvt" in repr(found)


def test_what_does_not_fit_is_an_error_or_a_warning(data, caplog):
    with pytest.raises(DataError, match="has 2 classes, the model 1"):
        RTDETRValidator(args=options(data))(Oracle({0: "cat"}))
    with pytest.raises(OptionError, match=r"data=my\.yaml"):
        RTDETRValidator(args=options(None)).run(Oracle())
    with pytest.raises(NotImplementedError, match="must implement postprocess"):
        BaseValidator(args=options(data)).run(Oracle())
    RTDETRValidator(args=options(data))(Oracle({0: "cat", 1: "wolf"}))
    assert "the classes {1: 'dog'} have other names in the model" in caplog.text
    validator = RTDETRValidator(args=options(data))
    validator.dataset = SimpleNamespace(names={i: str(i) for i in range(80)}, config=SimpleNamespace(yaml_file="a"))
    validator._check_classes(SimpleNamespace(names={i: f"class {i}" for i in range(80)}))
    assert "the classes {0: '0', 1: '1', 2: '2'} and 77 more have other names" in caplog.text


def test_callbacks_see_the_validator(data):
    seen = []
    events = ("on_val_start", "on_val_batch_start", "on_val_batch_end", "on_val_end")
    callbacks = {event: (lambda v, event=event: seen.append((event, v.metrics.seen))) for event in events}
    RTDETRValidator(args=options(data), _callbacks=callbacks).run(Oracle())
    batches = [("on_val_batch_start", 0), ("on_val_batch_end", 2), ("on_val_batch_start", 2), ("on_val_batch_end", 3)]
    assert seen == [("on_val_start", 0), *batches, ("on_val_end", 3)]


def test_single_cls_counts_a_query_once(data):
    class Undecided(Oracle):
        def forward(self, x):
            y, _ = super().forward(x)
            y[..., 4:] = y[..., 4:].amax(-1, keepdim=True) * torch.tensor([0.9, 1.0])
            return y, None

    found = [RTDETRValidator(args=options(data, single_cls=one, conf=0.1)).run(Undecided()) for one in (False, True)]
    assert [len(metrics.matched.conf) for metrics in found] == [6, 3]
    assert found[1].results_dict["metrics/precision(B)"] == pytest.approx(1, abs=1e-3)
    assert found[1].confusion_matrix.matrix.tolist() == [[3, 0], [0, 0]]
    metrics = RTDETRValidator(args=options(data, one_class_per_query=True, conf=0.1)).run(Undecided())
    assert len(metrics.matched.conf) == 3


CASES = json.loads((GOLDEN / "rtdetr_postprocess_8.4.190.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"case{c['case']}")
def test_detections_agree_with_the_reference(case):
    numbers = np.load(GOLDEN / "rtdetr_postprocess_8.4.190.npz")
    y = torch.from_numpy(inputs.detr_output(case["seed"], case["batch"]))
    changes = {k: case[k] for k in ("conf", "max_det", "classes", "single_cls") if k in case}
    validator = RTDETRValidator(args=options(None, **changes))
    validator.batch = {"img": torch.zeros(len(y), 3, case["imgsz"], case["imgsz"])}
    for i, found in enumerate(validator.postprocess((y, None))):
        np.testing.assert_allclose(as_rows(found), numbers[f"c{case['case']}_validator{i}"], rtol=1e-6, atol=1e-3)
