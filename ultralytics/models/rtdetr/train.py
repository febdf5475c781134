"""Training of RT-DETR."""

from typing import Any

from ultralytics.engine.trainer import BaseTrainer
from ultralytics.losses.detr import LOSS_MAP
from ultralytics.models.rtdetr.predict import FAMILY, RTDETRValidator
from ultralytics.models.yolo.training import DetectionTrainer
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import OptionError
from ultralytics.utils.public import public_names


class RTDETRTrainer(DetectionTrainer):
    """Train an RT-DETR on a detection data set: images are stretched to a square, never padded to a rectangle.

    As in the published package it extends `DetectionTrainer`, but the recipe is that of `BaseTrainer`.

    Methods to override: `get_model`, `get_dataloader`, `build_dataset`, `get_validator`, `preprocess_batch`,
    `build_optimizer`, `optimizer_step`, `validate`; see docs/en/train.md.

    Examples:
        >>> trainer = RTDETRTrainer(overrides={"model": "rtdetr-r18.yaml", "data": "shapes.yaml", "epochs": 3})
        >>> trainer.add_callback("on_fit_epoch_end", lambda trainer: print(trainer.epoch, trainer.metrics))
        >>> trainer.train()  # doctest: +SKIP
    """

    loss_names = tuple(term.logged for term in LOSS_MAP.values())
    model_class, family = RTDETRDetectionModel, FAMILY
    validator_class = RTDETRValidator
    build_schedule, build_optimizer = BaseTrainer.build_schedule, BaseTrainer.build_optimizer

    def model_settings(self) -> dict[str, Any]:
        """Return the numbers of queries of the options `queries` and `denoising`."""
        return {"num_queries": self.args.queries, "num_denoising": self.args.denoising}

    def complete_model(self) -> None:
        """Complete the network; `one_to_many` adds its training-only branch."""
        super().complete_model()
        head, on = self.model.model[-1], self.args.one_to_many > 0
        if hasattr(head, "set_one_to_many"):
            head.set_one_to_many(on)  # after parameters and FLOPs were counted
        elif on:
            raise OptionError(f"one_to_many: the decoder {type(head).__name__} has no such branch; remove the option")

    def setup_optimizer(self) -> None:
        """Log recommended options, then set up the optimizer."""
        if queries := getattr(self.model.model[-1], "num_queries", 0):  # a decoder of a fork may have another name
            self.log_recommendations(queries)
        BaseTrainer.setup_optimizer(self)


__getattr__ = public_names(__name__)
