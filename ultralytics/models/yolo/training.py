"""Training of YOLO by the published recipe."""

import math

import torch
from torch import nn

from ultralytics.engine.optim import EpochSchedule, Schedule, build_optimizer, param_groups
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.models.yolo.detector import FAMILY, DetectionValidator
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER

LONG_RUN = 10_000  # optimizer steps at nbs images above which optimizer=auto takes SGD


class DetectionTrainer(BaseTrainer):
    """Train a YOLO on a detection data set, with letterboxed images. Methods to override: see docs/en/train.md.

    Examples:
        >>> trainer = DetectionTrainer(overrides={"model": "yolo11n.yaml", "data": "shapes.yaml", "epochs": 3})
        >>> trainer.add_callback("on_fit_epoch_end", lambda trainer: print(trainer.epoch, trainer.metrics))
        >>> trainer.train()  # doctest: +SKIP
    """

    family, model_class, validator_class = FAMILY, DetectionModel, DetectionValidator
    loss_names = ("box_loss", "cls_loss", "dfl_loss")

    def setup_optimizer(self) -> None:
        """Log recommended options, then set up the optimizer."""
        self.log_recommendations()
        super().setup_optimizer()

    def build_schedule(self, steps: int) -> Schedule:
        """Return learning rates that decay by epochs, after a warm-up of at most all epochs but one."""
        options, batches = self.args, len(self.train_loader)
        return EpochSchedule(
            total=steps, warmup=round(min(options.warmup_epochs, self.epochs - 1) * batches), lrf=options.lrf,
            cosine=options.cos_lr, accumulate=min(self.accumulate, self.epochs * batches), epochs=self.epochs,
            per_epoch=batches, bias_rate=options.warmup_bias_lr, momentum=(options.warmup_momentum, options.momentum),
        )  # fmt: skip

    def build_optimizer(
        self, model: nn.Module, name: str = "auto", lr: float = 0.001, momentum: float = 0.9, decay: float = 1e-5,
        iterations: float = 1e5,
    ) -> torch.optim.Optimizer:  # fmt: skip
        """Build the optimizer with groups of weights, norms and biases; the decay is that of nbs images.

        The length of the run decides on "auto", which also replaces rate and momentum in `args`.
        """
        if name == "auto":
            options = self.args
            steps = math.ceil(len(self.train_loader.dataset) / max(options.batch, options.nbs)) * options.epochs
            name, lr = ("SGD", 0.01) if steps > LONG_RUN else ("AdamW", round(0.002 * 5 / (4 + self.model.nc), 6))
            LOGGER.info(f"optimizer=auto: {name} with lr0={lr:g} for {steps} steps")
            self.args = options.replace(optimizer=name, lr0=lr, momentum=(momentum := 0.9), warmup_bias_lr=0.0)
        decay *= self.args.batch * self.accumulate / self.args.nbs
        ratio = self.args.backbone_lr_ratio
        groups = param_groups(model, lr=lr, weight_decay=decay, backbone_lr_ratio=ratio, biases=True)
        return build_optimizer(name, groups, momentum=momentum)
