"""Scripts written after the published documentation: custom classes and callbacks.

The pages are "Advanced Customization" (docs.ultralytics.com/usage/engine), "Customizing Trainer"
(docs.ultralytics.com/guides/custom-trainer) and "Callbacks" (docs.ultralytics.com/usage/callbacks).
"""

from copy import copy

import numpy as np
import pytest
import torch
from torch import nn

from ultralytics import RTDETR
from ultralytics.data.synthetic import NAMES
from ultralytics.engine.checkpoint import load_checkpoint
from ultralytics.losses.detr import RTDETRDetectionLoss
from ultralytics.models.rtdetr import RTDETRPredictor, RTDETRTrainer, RTDETRValidator
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils import LOGGER, RANK
from ultralytics.utils.errors import OptionError


@pytest.fixture(scope="module")
def settings(shapes):
    """Options of a short run."""
    sizes = {"imgsz": 64, "batch": 2, "epochs": 1, "workers": 0, "denoising": 4}
    return {"data": str(shapes), **sizes, "device": "cpu", "plots": False, "verbose": False}


@pytest.fixture
def options(settings, tmp_path):
    return {**settings, "project": str(tmp_path), "name": "run"}


@pytest.fixture
def overrides(options, tiny):
    return {**options, "model": str(tiny)}


@pytest.fixture(scope="module")
def weights(settings, tiny, tmp_path_factory):
    """Weights of the network, by the published classes' own way: `RTDETRTrainer(overrides=...)`."""
    trainer = RTDETRTrainer(overrides={**settings, "model": str(tiny), "project": str(tmp_path_factory.mktemp("runs"))})
    trainer.train()
    return trainer.best


def test_a_constructor_with_the_published_parameters(tiny, options):
    class Mine(RTDETRTrainer):
        def __init__(self, cfg=None, overrides=None, _callbacks=None):
            super().__init__(cfg, overrides, _callbacks)

    class MyValidator(RTDETRValidator):
        def __init__(self, dataloader=None, save_dir=None, args=None, _callbacks=None):
            super().__init__(dataloader, save_dir, args, _callbacks)

    class MyPredictor(RTDETRPredictor):
        def __init__(self, cfg=None, overrides=None, _callbacks=None):
            super().__init__(cfg, overrides, _callbacks)

    called = []
    model = RTDETR(tiny)
    for event in ("on_train_end", "on_val_end", "on_predict_end"):
        model.add_callback(event, lambda who, event=event: called.append((event, type(who))))
    model.train(trainer=Mine, **options)
    model.val(validator=MyValidator, **options)
    model.predict(np.zeros((40, 60, 3), np.uint8), predictor=MyPredictor, verbose=False)
    assert {("on_train_end", Mine), ("on_val_end", MyValidator), ("on_predict_end", MyPredictor)} <= set(called)
    assert isinstance(model.predictor, MyPredictor)


def test_get_model_with_a_custom_network_and_loss(weights, options):
    class HalvedLoss(RTDETRDetectionLoss):
        calls = 0

        def forward(self, *args, **kwargs):
            HalvedLoss.calls += 1
            return {name: value / 2 for name, value in super().forward(*args, **kwargs).items()}

    class MyNetwork(RTDETRDetectionModel):
        def init_criterion(self):
            return HalvedLoss(nc=self.nc)

    class Mine(RTDETRTrainer):
        def get_model(self, cfg=None, weights=None, verbose=True):
            model = MyNetwork(cfg, nc=self.data["nc"], ch=3, verbose=verbose and RANK == -1)
            if weights:
                model.load(weights)
            self.started_from = {name: value.clone() for name, value in model.state_dict().items()}
            return model

    model = RTDETR(weights)
    model.train(trainer=Mine, **options)
    assert isinstance(model.trainer.model, MyNetwork)
    assert HalvedLoss.calls
    saved = load_checkpoint(weights)["model"]
    assert all(torch.equal(value, model.trainer.started_from[name]) for name, value in saved.items())


def test_get_validator_and_build_dataset(overrides):
    class MyValidator(RTDETRValidator):
        batches = 0

        def postprocess(self, preds):
            MyValidator.batches += 1
            return super().postprocess(preds)

    class Mine(RTDETRTrainer):
        built, loaded = [], []

        def build_dataset(self, img_path, mode="train", batch=None):
            self.built.append((mode, batch))
            return super().build_dataset(img_path, mode, batch)

        def get_dataloader(self, dataset_path, batch_size=16, rank=0, mode="train"):
            self.loaded.append((mode, batch_size, rank))
            return super().get_dataloader(dataset_path, batch_size=batch_size, rank=rank, mode=mode)

        def get_validator(self):
            return MyValidator(
                self.test_loader, save_dir=self.save_dir, args=copy(self.args), _callbacks=self.callbacks
            )

    Mine(overrides=overrides).train()
    assert Mine.built == [("train", 2), ("val", 2)]
    assert Mine.loaded == [("train", 2, 0), ("val", 2, 0)]
    assert MyValidator.batches == 4  # two after the epoch, two at the end


def test_validate_returns_metrics_and_the_fitness_of_best(overrides):
    class ByRecall(RTDETRTrainer):
        fitnesses = iter([0.5, 0.9, 0.7])

        def validate(self):
            metrics, _ = super().validate()
            box, names = self.validator.metrics.box, self.validator.names
            LOGGER.info(f"F1 {[f'{names[i]}: {box.f1[j]:.3f}' for j, i in enumerate(box.ap_class_index)]}")
            fitness = next(self.fitnesses)
            if not self.best_fitness or self.best_fitness < fitness:
                self.best_fitness = fitness
            return {**metrics, "metrics/own": fitness}, fitness

    trainer = ByRecall(overrides={**overrides, "epochs": 3})
    epochs = []
    trainer.add_callback("on_fit_epoch_end", lambda t: epochs.append((t.epoch, t.fitness, t.best_fitness)))
    trainer.train()
    assert epochs == [(0, 0.5, 0.5), (1, 0.9, 0.9), (2, 0.7, 0.9), (3, 0.7, 0.9)]  # the last: best.pt
    assert trainer.stopper.best_epoch == 1
    assert load_checkpoint(trainer.best)["epoch"] == 1
    assert "metrics/own" in trainer.files.results.read_text().splitlines()[0]


def test_a_callback_unfreezes_what_freeze_froze(tiny, options):
    def thaw(trainer):
        if trainer.epoch == 1:
            for parameter in trainer.model.parameters():
                parameter.requires_grad = True

    class Mine(RTDETRTrainer):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.add_callback("on_train_epoch_start", thaw)

    weights, counts = [], []
    model = RTDETR(tiny)
    model.add_callback("on_train_start", lambda t: weights.append(t.model.model[0].conv.weight.clone()))
    model.add_callback("on_train_epoch_end", lambda t: weights.append(t.model.model[0].conv.weight.clone()))
    model.add_callback("on_train_epoch_end", lambda t: counts.append(int(t.model.model[0].bn.num_batches_tracked)))
    model.train(trainer=Mine, **{**options, "epochs": 2, "freeze": 1})
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    assert counts == [0, 3]  # the statistics of its normalization, too


def test_build_optimizer_and_set_model_attributes(overrides):
    class Mine(RTDETRTrainer):
        def set_model_attributes(self):
            super().set_model_attributes()
            self.model.note = "mine"

        def build_optimizer(self, model, name="auto", lr=0.001, momentum=0.9, decay=1e-5, iterations=1e5):
            backbone = [p for n, p in model.named_parameters() if n.startswith(("model.0.", "model.1."))]
            chosen = {id(p) for p in backbone}
            rest = [p for p in model.parameters() if id(p) not in chosen]
            return torch.optim.AdamW([{"params": backbone, "lr": lr * 0.1}, {"params": rest, "lr": lr}])

    trainer = Mine(overrides={**overrides, "lr0": 0.01, "lrf": 1.0})
    trainer.train()
    assert trainer.model.note == "mine"
    assert [group["lr"] for group in trainer.optimizer.param_groups] == pytest.approx([0.001, 0.01])


def test_optimizer_step_with_custom_clipping(tiny, options):
    class Mine(RTDETRTrainer):
        rates = ()

        def optimizer_step(self):
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=0.1)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
            if self.ema:
                self.ema.update(self.model)
            self.rates += (self.optimizer.param_groups[0]["lr"],)

    model = RTDETR(tiny)
    given = {**options, "nbs": 2, "lr0": 0.01, "lrf": 0.1, "backbone_lr_ratio": 1.0}
    model.train(trainer=Mine, **given)
    assert model.trainer.updates == model.trainer.ema.updates == 3
    assert model.trainer.rates == pytest.approx((0.01, 0.007, 0.004))  # scheduled: 1 - 0.9 * update / 3


def test_attributes_for_on_model_save(overrides):
    seen = []

    def on_model_save(trainer):
        seen.append((trainer.best_fitness, trainer.loss_names, trainer.metrics, trainer.tloss))

    trainer = RTDETRTrainer(overrides=overrides)
    trainer.add_callback("on_model_save", on_model_save)
    trainer.train()
    ((fitness, names, metrics, losses),) = seen
    assert fitness == trainer.fitness
    assert len(names) == len(losses) >= 3 and torch.isfinite(losses).all()
    assert "metrics/mAP50-95(B)" in metrics


def test_a_validator_by_itself(weights, options):
    validator = RTDETRValidator(args={**options, "model": str(weights)})
    validator.add_callback("on_val_start", lambda v: setattr(v, "started", True))
    assert validator() == RTDETR(weights).val(**options).results_dict
    assert validator.started
    for model in (RTDETR(weights), RTDETR(weights).model, weights):
        assert RTDETRValidator(args=options)(model=model) == validator.metrics.results_dict
    with pytest.raises(OptionError, match="model: got None, expected a network or a file"):
        RTDETRValidator(args=options)()


def test_a_predictor_by_itself(shapes, weights, tmp_path):
    image = sorted((shapes.parent / "shapes" / "images" / "val").iterdir())[0]
    given = {"model": str(weights), "source": str(image), "conf": 0.0, "device": "cpu", "imgsz": 64, "verbose": False}
    (result,) = RTDETRPredictor(overrides={**given, "save": False})()
    (expected,) = RTDETR(weights).predict(image, conf=0.0, imgsz=64, verbose=False)
    assert torch.allclose(result.boxes.data, expected.boxes.data, atol=1e-3)  # pixels; the model's copy is fused
    assert RTDETRPredictor(overrides={**given, "project": str(tmp_path)}).predict_cli() is None
    assert (tmp_path / "predict" / image.name).exists()


def test_results_with_their_frames_by_a_callback(weights):
    def with_frames(predictor):
        _, image, _ = predictor.batch
        image = image if isinstance(image, list) else [image]
        predictor.results = zip(predictor.results, image, strict=True)

    model = RTDETR(weights)
    model.add_callback("on_predict_batch_end", with_frames)
    pictures = [np.full((40, 60, 3), value, np.uint8) for value in (10, 20, 30)]
    pairs = list(model.predict(pictures, batch=2, stream=True, verbose=False))
    assert [int(frame[0, 0, 0]) for _, frame in pairs] == [10, 20, 30]
    assert all(result.orig_img is frame for result, frame in pairs)


def test_callbacks_are_set_and_cleared_by_name(weights):
    called = []
    model = RTDETR(weights)
    assert set(model.names.values()) == set(NAMES)
    model.add_callback("on_predict_start", lambda _: called.append("first"))
    model.set_callback("on_predict_start", lambda _: called.append("second"))
    picture = np.zeros((40, 60, 3), np.uint8)
    model(picture, verbose=False)
    model.clear_callback("on_predict_start")
    model(picture, verbose=False)
    assert called == ["second"]
    with pytest.raises(OptionError, match="did you mean 'on_predict_start'"):
        model.add_callback("on_predict_strat", print)
