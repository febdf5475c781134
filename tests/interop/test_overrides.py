"""Subclasses of trainers, validators and predictors with the published signatures; each override calls `super()`."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ultralytics import RTDETR, YOLO
from ultralytics.models.rtdetr import RTDETRPredictor, RTDETRValidator
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.models.yolo.detect import DetectionPredictor, DetectionTrainer, DetectionValidator

YOLO_TINY = {
    "nc": 6, "backbone": [[-1, 1, "Conv", [8, 3, 8]], [-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [16, 3, 2]]],
    "head": [[[0, 1, 2], 1, "Detect", ["nc"]]],
}  # fmt: skip
ATTRIBUTES = (
    "lr loss loss_items tloss batch_size wdir save_dir csv start_epoch epoch epochs scheduler optimizer scaler ema "
    "stop stopper best_fitness fitness metrics validator train_loader test_loader args device model data last best"
)
PLAIN = {
    "trainer": "get_dataset build_dataset get_dataloader get_model get_validator preprocess_batch build_optimizer "
    "optimizer_step validate save_model final_eval progress_string plot_training_samples plot_training_labels "
    "plot_metrics label_loss_items set_model_attributes",
    "validator": "preprocess postprocess init_metrics update_metrics get_stats finalize_metrics print_results "
    "plot_val_samples plot_predictions",
    "predictor": "preprocess pre_transform inference postprocess construct_results construct_result setup_model",
}


def counting(base, names, calls):
    """Return a subclass whose methods count their calls and pass everything on, as positions where possible."""

    def override(name):
        def method(self, *args, **kwargs):
            calls[name] += 1
            return getattr(super(cls, self), name)(*args, **kwargs)

        return method

    cls = type(f"My{base.__name__}", (base,), {name: override(name) for name in names.split()})
    return cls


@pytest.fixture(scope="module")
def networks(tiny, tmp_path_factory):
    import yaml

    file = tmp_path_factory.mktemp("yolo") / "tiny-yolo.yaml"
    file.write_text(yaml.safe_dump(YOLO_TINY))
    return SimpleNamespace(yolo=str(file), rtdetr=str(tiny))


@pytest.fixture
def given(shapes, tmp_path):
    return {"data": str(shapes), "project": str(tmp_path), "imgsz": 64, "batch": 2, "epochs": 1, "workers": 0,
            "device": "cpu"}  # fmt: skip


@pytest.mark.parametrize(
    ("family", "kind", "bases"),
    [
        ("yolo", YOLO, (DetectionTrainer, DetectionValidator, DetectionPredictor)),
        ("rtdetr", RTDETR, (RTDETRTrainer, RTDETRValidator, RTDETRPredictor)),
    ],
)
def test_every_hook_is_called_and_calls_super(family, kind, bases, networks, given):
    calls, seen = Counter(), {}
    trainer, validator, predictor = (counting(base, PLAIN[name], calls)
                                     for base, name in zip(bases, PLAIN, strict=True))  # fmt: skip
    trainer.validator_class = validator

    def on_batch(trainer):
        seen.update(trainer.label_loss_items(trainer.tloss), rates=trainer.scheduler.get_last_lr())
        seen.update(absent=[name for name in ATTRIBUTES.split() if not hasattr(trainer, name)], nc=trainer.data["nc"])

    model = kind(getattr(networks, family), verbose=False)
    model.add_callback("on_train_batch_end", on_batch)
    model.add_callback("on_model_save", lambda trainer: seen.update(saved=trainer.epoch))
    model.train(trainer=trainer, plots=family == "yolo", **given)
    model.predict(np.zeros((64, 64, 3), np.uint8), predictor=predictor, imgsz=64, conf=0.0)
    missed = set(" ".join(PLAIN.values()).split()) - {*calls}
    assert missed == (set() if family == "yolo" else {name for name in missed if name.startswith("plot_")})
    assert seen["saved"] == model.trainer.epoch == 0 and len(seen["rates"]) == len(model.trainer.optimizer.param_groups)
    assert not seen["absent"] and seen["nc"] == 6
    assert all(np.isfinite(seen[name]) for name in model.trainer.label_loss_items())


def test_what_overrides_return_is_used(networks, given):
    class Validator(DetectionValidator):
        def postprocess(self, preds):
            return [{key: values[:1] for key, values in found.items()} for found in super().postprocess(preds)]

        def get_stats(self):
            return {**super().get_stats(), "metrics/mine": len(self.metrics.matched.conf)}

    class Trainer(DetectionTrainer):
        def get_validator(self):
            self.loss_names = "box_loss", "cls_loss", "dfl_loss"
            return Validator(self.test_loader, save_dir=self.save_dir, args=self.args, _callbacks=self.callbacks)

        def validate(self):
            metrics = self.validator(self)
            return metrics, metrics.pop("fitness") + metrics["metrics/mine"]

        def save_model(self):
            super().save_model()
            (self.wdir / "mine.txt").write_text(f"{self.epoch}")

        def final_eval(self):
            """Leave out the second validation."""

    class Predictor(DetectionPredictor):
        def preprocess(self, im):
            assert isinstance(im, list)
            return super().preprocess([255 - image for image in im])

        def postprocess(self, preds, img, orig_imgs):
            self.mean = float(img.mean())
            return super().postprocess(preds, img, orig_imgs)

        def construct_result(self, pred, img, orig_img, img_path):
            return super().construct_result(pred[:2], img, orig_img, img_path)

    model = YOLO(networks.yolo, verbose=False)
    model.train(trainer=Trainer, plots=False, **given)
    assert 1 <= model.trainer.fitness <= 3 + 1 and model.trainer.metrics["metrics/mine"] <= 3
    assert "metrics/mine" in model.trainer.csv.read_text() and (model.trainer.wdir / "mine.txt").read_text() == "0"
    found = model.predict(np.zeros((64, 64, 3), np.uint8), predictor=Predictor, imgsz=64, conf=0.0)
    assert len(found[0]) == 2 and model.predictor.mean == pytest.approx(1)


def test_optimizer_of_defaults_and_validator_of_a_file(networks, given, tmp_path):
    model = YOLO(networks.yolo, verbose=False)
    trainer = DetectionTrainer(overrides={**given, "model": networks.yolo})
    trainer.accumulate = 1
    assert isinstance(trainer.build_optimizer(model.model, "SGD"), torch.optim.SGD)
    model.model.names = dict(enumerate("abcdef"))
    model.save(tmp_path / "a.pt")
    validator = DetectionValidator(args={"data": given["data"], "imgsz": 64, "workers": 0, "plots": False})
    assert validator(model=str(tmp_path / "a.pt")) == validator(None, model.model) and validator.seen == 3
