"""YOLO from its public class: recipe, options, class of a file, resume, two processes, tools."""

import copy
import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.nn.test_detect import small
from ultralytics import RTDETR, YOLO
from ultralytics.cfg import get_cfg
from ultralytics.data.synthetic import NAMES
from ultralytics.models import Model, yolo
from ultralytics.models.yolo.detect import DetectionPredictor, DetectionTrainer, DetectionValidator
from ultralytics.models.yolo.detector import FAMILY
from ultralytics.nn.modules.detect import Detect
from ultralytics.utils.errors import ModelConfigError, OptionError
from ultralytics.utils.files import write_yaml

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 96, 3), np.uint8)


@pytest.fixture
def options(shapes, tmp_path) -> dict:
    """A run of seconds: two batches of three images."""
    run = {"data": str(shapes), "imgsz": 64, "batch": 3, "workers": 0, "device": "cpu", "project": str(tmp_path)}
    return {**run, "plots": False, "epochs": 2}


@pytest.fixture(scope="module")
def trained(shapes, tmp_path_factory) -> YOLO:
    """A YOLOv8n after two steps; its rows are those of the last epoch."""
    model = YOLO("yolov8n.yaml", verbose=False)
    run = {"data": str(shapes), "imgsz": 64, "batch": 3, "workers": 0, "device": "cpu", "plots": False, "nbs": 3}
    model.train(**run, epochs=1, project=str(tmp_path_factory.mktemp("yolo")), save_optimizer=True)
    return model


@pytest.mark.parametrize("name", ["yolov8n.yaml", "yolov10n.yaml", "yolo26n.yaml"])
def test_train_validate_predict_and_resume(name, options):
    seen = []
    model = YOLO(name, verbose=False)
    model.add_callback("on_train_epoch_end", lambda trainer: seen.append(trainer.epoch))
    model.train(**options, save_optimizer=True)
    trainer = model.trainer
    assert isinstance(trainer, DetectionTrainer) and seen == [0, 1]
    assert (trainer.args.optimizer, trainer.args.lr0, trainer.args.warmup_bias_lr) == ("AdamW", 0.001, 0.0)
    assert [group["name"] for group in trainer.optimizer.param_groups] == ["decay", "no decay", "bias"]
    with open(trainer.save_dir / "results.csv") as file:
        row = next(csv.DictReader(file))
    assert {f"train/{name}" for name in trainer.loss_names} < set(row) and float(row["lr/pg2"]) >= 0

    again = YOLO(trainer.best, verbose=False)
    assert again.names == dict(enumerate(NAMES))
    metrics = again.val(imgsz=64, workers=0, plots=False, project=options["project"])
    assert metrics.results_dict.keys() == model.metrics.results_dict.keys()
    (result,) = again.predict(IMAGE, conf=0.0, imgsz=64, max_det=7)
    assert len(result) <= 7 and result.orig_shape == (48, 96)
    assert (result.boxes.xyxy >= 0).all() and (result.boxes.xyxy <= torch.tensor([96, 48, 96, 48])).all()

    resumed = YOLO(trainer.last, verbose=False)
    resumed.train(resume=True, epochs=3)
    assert resumed.trainer.finished_epochs == 3


def test_a_resumed_run_equals_an_uninterrupted_one(options, tmp_path):
    def stop(trainer):
        if trainer.epoch == 0 and stops:
            raise KeyboardInterrupt

    run, stops = {**options, "optimizer": "SGD", "nbs": 6, "name": "whole", "save_optimizer": True}, []
    whole = YOLO("yolov8n.yaml", verbose=False)
    whole.add_callback("on_model_save", stop)
    whole.train(**run)
    stops.append(True)
    with pytest.raises(KeyboardInterrupt):
        whole = YOLO("yolov8n.yaml", verbose=False)
        whole.add_callback("on_model_save", stop)
        whole.train(**{**run, "name": "parts"})
    YOLO(tmp_path / "parts/weights/last.pt", verbose=False).train(resume=True)
    weights = [torch.load(tmp_path / f"{name}/weights/last.pt")["ema"] for name in ("whole", "parts")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_two_processes_make_the_step_of_one(options):
    """Apart from batch norm, whose statistics are those of each half of the batch."""
    run = {**options, "batch": 6, "nbs": 6, "epochs": 1, "optimizer": "SGD", "mosaic": 0.0, "clip_grad": 0.0}
    steps = {}
    for name, device in (("one", "cpu"), ("two", "cpu,cpu")):
        model = YOLO("yolov8n.yaml", verbose=False)
        model.train(**{**run, "name": name, "device": device})
        head = model.model.model[-1]
        after = torch.cat([scores[-1].bias.detach().clone() for scores in head.cv3])
        head.bias_init()
        steps[name] = after - torch.cat([scores[-1].bias.detach() for scores in head.cv3])
    assert steps["one"].abs().min() > 0
    assert torch.cosine_similarity(steps["one"], steps["two"], dim=0) > 0.9
    assert steps["two"].norm() / steps["one"].norm() == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize(
    ("given", "model", "reason"),
    [
        ({"queries": 30}, "yolov8n.yaml", "'queries' is not supported by YOLO: it has no decoder with queries"),
        ({"loss_bbox": 1.0}, "yolov8n.yaml", "Use box, cls and dfl"),
        ({"warmup_iters": 3}, "yolov8n.yaml", "Use warmup_epochs"),
        ({"box": 3.0}, "rtdetr-r18.yaml", "'box' is not supported by RT-DETR: it is a loss weight of YOLO"),
        ({"warmup_epochs": 1.0}, "rtdetr-r18.yaml", "Use warmup_iters"),
        ({"rect": True}, "rtdetr-r18.yaml", "it resizes every image to a square"),
    ],
)
def test_options_of_the_other_family_are_refused(given, model, reason):
    with pytest.raises(OptionError, match=reason):
        Model(model, verbose=False).train(data="shapes8.yaml", **given)


@pytest.mark.parametrize("given", [{"loss_iou": "sliou"}, {"inner": -1.0}, {"focaler": [0.9, 0.1]}])
def test_a_wrong_loss_is_an_error_before_the_data_is_read(given):
    with pytest.raises(OptionError, match=next(iter(given))):
        YOLO("yolov8n.yaml", verbose=False).train(data="missing.yaml", **given)


def test_the_data_is_read_once_where_the_image_size_is_rounded_up_to_the_stride(options, caplog):
    class Coarse(DetectionTrainer):
        def setup_model(self):
            super().setup_model()
            self.model.stride = torch.tensor([128.0])

        def build_dataset(self, img_path, mode="train", batch=None):
            assert self.stride == 128 and self.args.imgsz == 128 and self.model.stride.max() == 128
            return super().build_dataset(img_path, mode, batch)

    trainer = Coarse(overrides={**options, "model": "yolov8n.yaml", "imgsz": 96})
    trainer._setup_train()
    assert trainer.train_loader.dataset[0]["img"].shape == (3, 128, 128)
    assert len([record for record in caplog.records if record.getMessage().startswith("train: ")]) == 1


def test_rect_trains_batches_of_similar_shapes_in_a_fixed_order(options, tmp_path, caplog):
    class Seen(DetectionTrainer):
        def preprocess_batch(self, batch):
            batch = super().preprocess_batch(batch)
            seen.append((tuple(batch["img"].shape[2:]), [Path(file).stem for file in batch["im_file"]]))
            return batch

    for i, (height, width) in enumerate(((32, 64), (64, 32)) * 2):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.zeros((height, width, 3), np.uint8))
        (tmp_path / f"{i}.txt").write_text(f"{i // 3} 0.5 0.5 0.5 0.5\n")
    files = {
        "data": {"train": str(tmp_path), "val": str(tmp_path), "names": ["a", "b"]},
        "model": str(tmp_path / "m.yaml"),
    }
    write_yaml(tmp_path / "m.yaml", small())
    seen, changes = [], {"batch": 2, "epochs": 3, "multi_scale": 0.5, "val": False, "cls_pw": 1.0}
    trainer = Seen(overrides={**options, **files, **changes, "rect": True})
    trainer.train()
    assert trainer.model.criterion.weights.tolist() == [0.5, 1.5]  # of 3 and 1 boxes
    assert [names for _, names in seen] == [["0", "2"], ["1", "3"]] * 3
    assert {shape for shape, _ in seen[::2]} <= {(32, 32), (32, 64), (64, 96)} >= {s[::-1] for s, _ in seen[1::2]}
    assert "rect=True: batches of similar shapes in a fixed order" in caplog.text


def test_iou_has_no_effect_for_a_set_prediction_only(trained, caplog):
    RTDETR("rtdetr-efficientvit-m0.yaml").predict(IMAGE, imgsz=64, iou=0.5)
    assert "predict: without effect: iou" in caplog.text
    few, many = (trained.predict(IMAGE, imgsz=64, conf=0.0, iou=iou)[0] for iou in (0.0, 1.0))
    assert 0 < len(few) < len(many)


def test_augment_merges_three_scales_where_the_head_needs_nms(trained, shapes, caplog):
    given = {"imgsz": 64, "conf": 0.0, "iou": 1.0, "max_det": 3000}
    plain, augmented = (len(trained.predict(IMAGE, augment=on, **given)[0]) for on in (False, True))
    assert (plain, augmented) == (32 + 8 + 2, 40 + 42 + 10)  # of 32x64 pixels
    options = {"data": str(shapes), "augment": True, "one_class_per_query": True, "rect": False, "plots": False}
    validate = DetectionValidator(args={**given, **options})  # on 64x64 pixels
    assert validate.run(trained.model).seen == 3 and len(validate.boxes.found.score) == 3 * (80 + 84 + 20)
    assert len(YOLO("yolo26n.yaml", verbose=False).predict(IMAGE, augment=True, **given)[0]) == augmented
    assert "augment" not in caplog.text

    for model, options in (("yolo26n.yaml", {"end2end": True}), ("yolov10n.yaml", {})):
        caplog.clear()
        YOLO(model, verbose=False).predict(IMAGE, augment=True, **given, **options)
        assert caplog.text.count("augment=True has no effect") == 1


def test_the_class_follows_the_head_of_the_file(trained, caplog):
    assert type(RTDETR("yolo11n.yaml")) is YOLO and type(YOLO("yolov8-rtdetr.yaml")) is RTDETR
    assert caplog.text.count(" in place of ") == 2
    caplog.clear()
    assert type(Model("yolo11n.yaml")) is type(RTDETR(trained.trainer.best)) is YOLO
    assert type(Model("rtdetr-r18.yaml")) is RTDETR
    assert caplog.text.count(" in place of ") == 1


def test_a_head_of_a_module_folder_and_an_unknown_one(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/OwnHead.py").write_text(
        "from ultralytics.nn.modules.detect import Detect, _detect\n"
        "from ultralytics.nn.registry import register\n"
        "@register(_detect)\nclass OwnHead(Detect):\n    pass\n"
    )
    rows = "nc: 2\nbackbone:\n  - [-1, 1, Conv, [16, 3, 2]]\n  - [-1, 1, Conv, [16, 3, 2]]\nhead:\n"
    (tmp_path / "own.yaml").write_text(f"modules: mine\n{rows}  - [[-1], 1, OwnHead, [nc]]\n")
    model = Model(tmp_path / "own.yaml", verbose=False)
    assert type(model) is YOLO and type(model.model.model[-1]).__name__ == "OwnHead"
    (tmp_path / "none.yaml").write_text(f"{rows}  - [-1, 1, Conv, [16]]\n")
    with pytest.raises(ModelConfigError, match="the last layer is Conv, expected RTDETRDecoder, Detect or a subclass"):
        Model(tmp_path / "none.yaml", verbose=False)


def test_public_paths_and_the_resize_of_the_head():
    assert yolo.detect.DetectionTrainer is DetectionTrainer
    assert (YOLO.predictor_class, YOLO.validator_class) == (DetectionPredictor, DetectionValidator)
    assert FAMILY.resize == Detect.resize and RTDETR.family.resize == RTDETR.head_class.resize


def test_sgd_for_a_long_run(trained):
    trainer = copy.copy(trained.trainer)
    trainer.args = get_cfg(overrides={"epochs": 100_000, "batch": 6}, family=FAMILY)
    trainer.setup_optimizer()
    assert (trainer.args.optimizer, trainer.args.lr0, trainer.args.momentum) == ("SGD", 0.01, 0.9)
    assert trainer.optimizer.param_groups[0]["weight_decay"] == pytest.approx(0.0005 * 6 * 11 / 64)


def test_detections_of_either_branch(tmp_path):
    torch.manual_seed(0)
    model = YOLO("yolov10n.yaml", verbose=False)
    one, many, again = (
        model.predict(IMAGE, imgsz=64, conf=0.0, iou=1.0, end2end=on)[0].boxes.data for on in (None, False, None)
    )
    assert torch.equal(one, again) and not torch.equal(one[:5], many[:5])


def test_classes_move_by_name_into_another_head(trained):
    model = YOLO("yolov8n.yaml", verbose=False).load(trained.trainer.best)
    assert model.names != dict(enumerate(NAMES))  # 80 classes remain
    assert torch.equal(model.model.model[0].conv.weight, trained.model.model[0].conv.weight)
