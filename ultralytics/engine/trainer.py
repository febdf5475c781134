"""Training: the loop, one step of which reads as the recipe in the paper. Subclasses say what is trained on what."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from ultralytics.cfg import Options
from ultralytics.engine.checkpoint import load_checkpoint
from ultralytics.engine.optim import (
    build_optimizer,
    freeze_layers,
    learning_rate_factor,
    param_groups,
    set_learning_rate,
)
from ultralytics.engine.progress import EpochProgress, RunClock, format_seconds
from ultralytics.engine.resume import options_unlike_default, resume_options, resume_path
from ultralytics.engine.run_files import RunFiles
from ultralytics.engine.run_plots import add_plots
from ultralytics.engine.stopping import (
    EarlyStopping,
    NonFiniteLossError,
    TrainingInterrupted,
    interruptible,
    time_limit_reason,
)
from ultralytics.utils import LOGGER
from ultralytics.utils.callbacks import Callbacks
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.ema import ModelEMA
from ultralytics.utils.errors import OptionError
from ultralytics.utils.files import run_dir
from ultralytics.utils.torch_utils import (
    autocast,
    describe_device,
    deterministic_algorithms,
    get_rng_state,
    init_seeds,
    select_device,
    set_rng_state,
)

STRIDE = 32  # image sides are multiples of it


class BaseTrainer:
    """Trains a model with the given options.

    A subclass names its losses and builds the data, the model and the validator. What it is at (`epoch`, `model`,
    `ema`, `optimizer`, `metrics`, `save_dir`, ...) are attributes for callbacks to read.

    `model` is a network to go on training instead of a new one; `overrides` are the options the user wrote, which a
    resumed run needs to tell them from defaults.
    """

    loss_names: tuple[str, ...] = ()

    def __init__(
        self,
        options: Options,
        callbacks: Callbacks | Mapping | None = None,
        *,
        model: nn.Module | None = None,
        overrides: Mapping[str, object] | None = None,
    ) -> None:
        self.checkpoint: dict | None = None
        self.save_dir: Path | None = None
        if options.resume:
            path = resume_path(options)
            self.checkpoint = load_checkpoint(path)
            given = options_unlike_default(options) if overrides is None else overrides
            options = resume_options(self.checkpoint, path, given)
            if path.parent.name == "weights":  # go on in the run's own folder
                self.save_dir = path.parent.parent
        self.args = options
        self.device = select_device(options.device)
        self.callbacks = callbacks.copy() if isinstance(callbacks, Callbacks) else Callbacks(callbacks)
        if options.plots:
            add_plots(self.callbacks)
        self.model = model
        self.given = model is not None  # a network that has learned something already
        self.epochs = options.epochs
        self.epoch = 0  # the one under way, counting from 0
        self.batches_done = 0  # of that epoch
        self.updates = 0  # optimiser steps since the run began
        self.loss_sum = torch.zeros(len(self.loss_names), device=self.device)
        self.metrics: dict[str, float] = {}
        self.fitness: float | None = None
        self.stopper = EarlyStopping(options.patience)
        self.stop_reason = ""
        self.seconds_before = 0.0  # spent before the run was resumed

    # What a subclass provides -----------------------------------------------------------------------------------------

    def load_data(self) -> tuple[object, object]:
        """The training and validation loaders; both have `set_epoch(epoch)` and give batch dicts."""
        raise NotImplementedError

    def build_model(self) -> nn.Module:
        """The network to train, with the weights it starts from. `self.model` is what the caller gave, or None."""
        raise NotImplementedError

    def build_validator(self, *, plots: bool):
        """A validator for the validation loader; called with (model, loss=True) it returns metrics."""
        raise NotImplementedError

    def starts_pretrained(self) -> bool:
        """Whether the backbone has learned something already, which decides the default of `backbone_lr_ratio`."""
        from_file = self.args.pretrained and (isinstance(self.args.pretrained, str) or _is_weights(self.args.model))
        backbone = (self.model.model[i] for i in self.model.backbone_layers)
        return bool(self.given or from_file or any(getattr(layer, "pretrained", None) for layer in backbone))

    # The run ----------------------------------------------------------------------------------------------------------

    def train(self) -> object:
        """Train to the end. Returns the metrics of the final validation, which uses the best weights.

        Raises TrainingInterrupted after Ctrl-C, NonFiniteLossError, and what the parts raise (UserError).
        """
        self.callbacks.run("on_pretrain_routine_start", self)
        self.setup()
        self.callbacks.run("on_pretrain_routine_end", self)
        with interruptible() as self.interrupt, deterministic_algorithms(self.args.deterministic):
            self.callbacks.run("on_train_start", self)
            while self.epoch < self.epochs and not self.stop_reason:
                self.train_epoch()
                self.finish_epoch()
                self.stop_if_interrupted()
        if self.stop_reason:
            LOGGER.info(f"Stopped after epoch {self.epoch}: {self.stop_reason}")
        result = self.final_validation()
        self.callbacks.run("on_train_end", self)
        self.log_summary()
        self.callbacks.run("teardown", self)
        return result

    def train_epoch(self) -> None:
        """Every batch of `self.epoch` that has not been done yet."""
        self.callbacks.run("on_train_epoch_start", self)
        self.model.train()
        for norm in self.frozen_norms:
            norm.eval()
        self.clock.start_epoch()
        with EpochProgress(self.loss_names, self.clock, self.epoch, self.batches_done, self.device) as progress:
            for batch in self.remaining_batches():
                self.callbacks.run("on_train_batch_start", self)
                self.batch = batch = self.preprocess(batch)
                self.training_step(batch)
                self.clock.batch_done()
                losses = self.mean_losses().tolist() if progress.wants_losses else None
                count, _, _, size = batch["img"].shape
                progress.update(losses, len(batch["cls"]), count, size)
                self.callbacks.run("on_train_batch_end", self)
                if self.interrupt.requested and self.is_update_due(self.batches_done - 1):
                    break
        if self.batches_done < len(self.train_loader):
            self.stop_if_interrupted()
        self.losses = dict(zip(self.loss_names, self.mean_losses().tolist(), strict=True))
        self.loss_sum.zero_()
        self.batches_done = 0
        self.callbacks.run("on_train_epoch_end", self)

    def training_step(self, batch: dict) -> None:
        """Forward, backward and, once the nominal batch is complete, an update of the weights and their average."""
        with autocast(self.device, self.amp):
            loss, items = self.model(batch)
        self.require_finite(loss, items)
        share = loss / self.group_length(self.batches_done)
        self.scaler.scale(share).backward()
        if self.is_update_due(self.batches_done):
            self.optimizer_step()
        self.loss_sum += items
        self.batches_done += 1

    def optimizer_step(self) -> None:
        """Clip, step at the schedule's rate, and move the average."""
        set_learning_rate(self.optimizer, self.learning_rate_factor())
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.trainable, self.args.clip_grad or math.inf)
        if not self.scaler.is_enabled():  # the scaler skips such steps itself and lowers its scale
            self.require_finite(norm, None)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.callbacks.run("optimizer_step", self)
        self.callbacks.run("on_before_zero_grad", self)
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update()
        self.updates += 1

    def finish_epoch(self) -> None:
        """Validate, write the results and the checkpoint, and decide whether to go on."""
        best = not self.args.val  # without validation the newest is taken for the best
        if self.args.val:
            self.validate()
            best = self.stopper.update(self.epoch, self.fitness)
            self.stop_reason = self.stopper.reason(self.epoch)
        self.clock.end_epoch()
        self.files.append_results(self.results_row())
        self.callbacks.run("on_fit_epoch_end", self)
        self.epoch += 1
        if self.epoch < self.epochs and not self.stop_reason:
            self.stop_reason = time_limit_reason(self.elapsed, self.clock.epoch_seconds, self.args.time)
        if self.args.save:
            numbered = self.args.save_period > 0 and self.epoch % self.args.save_period == 0
            self.files.save(self.state(), best=best, numbered=numbered)
            self.callbacks.run("on_model_save", self)

    def validate(self) -> None:
        """Validate the averaged weights; sets `metrics` and `fitness`."""
        measured = self.validator(self.ema.ema, loss=True, epoch=self.epoch)
        results = {key: float(value) for key, value in measured.results_dict.items()}
        self.fitness = results.pop("fitness")
        losses = zip(self.loss_names, self.validator.loss_items.tolist(), strict=True)
        self.metrics = {**results, **{f"val/{name}": value for name, value in losses}}

    # Preparation ------------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Data, model, optimiser and run folder; the folder comes late, so that a typo leaves no empty one behind."""
        init_seeds(self.args.seed)
        self.args = self.args.replace(mode="train", imgsz=check_imgsz(self.args.imgsz, STRIDE))
        self.amp = self.args.amp and self.device.type == "cuda"
        why_off = " (it needs CUDA)" if self.args.amp and not self.amp else ""
        LOGGER.info(
            f"Device: {describe_device(self.device)}; mixed precision {'float16' if self.amp else f'off{why_off}'}"
        )
        self.train_loader, self.val_loader = self.load_data()
        self.model = self.build_model().to(self.device)
        self.setup_optimization()
        self.save_dir = self.save_dir or run_dir(self.args, "train")
        self.files = RunFiles(self.save_dir)
        self.best, self.last = self.files.best, self.files.last
        self.files.create(self.args.to_dict())
        self.validator = self.build_validator(plots=False)
        if self.checkpoint is not None:
            self.restore(self.checkpoint)
        self.clock = RunClock(self.epochs, len(self.train_loader))
        LOGGER.info(
            f"Training epochs {self.epoch + 1} to {self.epochs}, {len(self.train_loader)} batches each, at "
            f"{self.args.imgsz} px; results go to {self.save_dir}"
        )

    def setup_optimization(self) -> None:
        """Frozen layers, parameter groups, schedule, gradient scaler and average."""
        options = self.args
        self.frozen_norms = freeze_layers(self.model, options.freeze)
        self.settle_backbone_rate()
        groups = param_groups(
            self.model,
            lr=options.lr0,
            weight_decay=options.weight_decay,
            backbone_lr_ratio=self.args.backbone_lr_ratio,
        )
        self.trainable = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = build_optimizer(options.optimizer, groups, momentum=options.momentum)
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.amp)
        self.ema = ModelEMA(self.model, options.ema_decay, options.ema_warmup)
        self.accumulate = max(round(options.nbs / options.batch), 1)
        self.total_updates = self.epochs * math.ceil(len(self.train_loader) / self.accumulate)
        self.warmup = min(options.warmup_iters, self.total_updates // 10)
        trained, total = (sum(p.numel() for p in ps) for ps in (self.trainable, self.model.parameters()))
        LOGGER.info(
            f"{options.optimizer}: learning rate {options.lr0:g} (backbone x {self.args.backbone_lr_ratio:g}), "
            f"{self.warmup} steps of warm-up of {self.total_updates} in all, "
            f"{options.batch * self.accumulate} images a step; {trained:,} of {total:,} parameters train"
        )

    def settle_backbone_rate(self) -> None:
        """`backbone_lr_ratio=null`: the paper's 0.1 preserves a pretrained backbone but leaves a new one untrained."""
        if self.args.backbone_lr_ratio is None:
            self.args = self.args.replace(backbone_lr_ratio=0.1 if self.starts_pretrained() else 1.0)

    # Batches ----------------------------------------------------------------------------------------------------------

    def remaining_batches(self) -> Iterator[dict]:
        """Batches of the epoch from `batches_done` on: a resumed run gets the rest of its epoch in the same order."""
        if self.epoch >= self.epochs - self.args.close_mosaic:
            self.train_loader.dataset.close_mosaic()
        self.train_loader.set_epoch(self.epoch)
        batches = iter(self.train_loader)
        for _ in range(self.batches_done):
            next(batches)
        # Every epoch has random numbers of its own, so that nothing around it (workers, validation, plots, an
        # interruption) changes what is trained.
        if self.batches_done:
            set_rng_state(self.checkpoint["rng"])
        else:
            init_seeds(self.args.seed * 100_003 + self.epoch)
        yield from batches

    def preprocess(self, batch: dict) -> dict:
        """Move a batch to the device; images become floats in 0..1, at a random size with `multi_scale`."""
        batch = {k: v.to(self.device, non_blocking=True) if torch.is_tensor(v) else v for k, v in batch.items()}
        images = batch["img"].float() / 255
        if self.args.multi_scale:
            # A function of the position in the run, so that a resumed run draws the same sizes.
            draw = random.Random(f"{self.args.seed}/{self.epoch}/{self.batches_done}")
            steps = self.args.imgsz // STRIDE
            side = STRIDE * draw.randint(max(steps // 2, 1), steps * 3 // 2)
            images = F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)
        batch["img"] = images
        return batch

    def is_update_due(self, index: int) -> bool:
        """Whether batch `index` of the epoch completes a nominal batch; the last one always does."""
        return (index + 1) % self.accumulate == 0 or index + 1 == len(self.train_loader)

    def group_length(self, index: int) -> int:
        """Number of batches whose gradients are summed with those of batch `index`."""
        start = index - index % self.accumulate
        return min(self.accumulate, len(self.train_loader) - start)

    def learning_rate_factor(self) -> float:
        return learning_rate_factor(
            self.updates,
            warmup=self.warmup,
            total=self.total_updates,
            lrf=self.args.lrf,
            cosine=self.args.cos_lr,
        )

    # Ends -------------------------------------------------------------------------------------------------------------

    def require_finite(self, value: torch.Tensor, items: torch.Tensor | None) -> None:
        """Raise NonFiniteLossError. Looking costs nothing: the matcher has waited for the device already."""
        if torch.isfinite(value):
            return
        parts = "" if items is None else ", ".join(f"{n} {v:.3g}" for n, v in zip(self.loss_names, items, strict=True))
        what = f"the loss is {float(value)} ({parts})" if parts else f"the norm of the gradient is {float(value)}"
        rate = self.args.lr0 * self.learning_rate_factor()
        saved = f" The last good state is in {self.last}." if self.last.exists() else ""
        raise NonFiniteLossError(
            f"Epoch {self.epoch + 1}, batch {self.batches_done + 1}: {what} at learning rate {rate:.2g}; expected a "
            f"finite number. Try a lower lr0 (now {self.args.lr0:g}){' or amp=False' if self.amp else ''}.{saved}"
        )

    def stop_if_interrupted(self) -> None:
        """After Ctrl-C: save where the run is and raise TrainingInterrupted, which says how to go on."""
        if not self.interrupt.requested:
            return
        if not self.args.save:
            message = "Training interrupted; nothing was kept, as save=False says."
        elif self.epoch >= self.epochs:
            message = (
                f"Interrupted after the last epoch; the weights are in {self.best}, the final validation is left out."
            )
        else:
            if self.batches_done:  # between epochs it is saved already
                self.files.save(self.state(), best=False, numbered=False)
            message = (
                f"Training interrupted in epoch {self.epoch + 1}, saved in {self.last}. To go on:\n"
                f"  yolo train resume={self.last}\n"
                f"  RTDETR({str(self.last)!r}).train(resume=True)"
            )
        LOGGER.warning(message)
        raise TrainingInterrupted(message)

    def final_validation(self) -> object:
        """Validate the best weights once more, this time with plots."""
        weights = "the last weights"
        if self.args.save:
            self.ema.ema.load_state_dict(load_checkpoint(self.best)["ema"])
            weights = str(self.best)
        LOGGER.info(f"Validating {weights}")
        self.validator = self.build_validator(plots=self.args.plots)
        result = self.validator(self.ema.ema)
        self.metrics.update({key: float(value) for key, value in result.results_dict.items() if key != "fitness"})
        return result

    def log_summary(self) -> None:
        """What the run left behind and what to do with it."""
        lines = [
            f"{self.epoch} epochs in {format_seconds(self.elapsed)}. In {self.save_dir}:",
            "  results.csv  every epoch",
        ]
        if self.args.plots:
            lines.append("  *.png, *.jpg  curves, labels, first batches, predictions")
        if self.args.save:
            lines += [
                f"  weights/best.pt  epoch {self.stopper.best_epoch + 1}" if self.args.val else "  weights/best.pt",
                "  weights/last.pt  to go on training",
                "Detect with the best weights:",
                f"  yolo predict model={self.best} source=path/to/images",
                f"  python detect.py --weights {self.best} --source path/to/images",
            ]
        LOGGER.info("\n".join(lines))

    # State ------------------------------------------------------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        """Seconds of training, those before a resume included."""
        return self.seconds_before + self.clock.elapsed

    def mean_losses(self) -> torch.Tensor:
        """(losses,) means over the batches of the epoch done so far."""
        return self.loss_sum / self.batches_done

    def results_row(self) -> dict[str, float]:
        """A row of results.csv; epochs count from 1."""
        row = {"epoch": self.epoch + 1, "time": round(self.elapsed, 1)}
        row |= {f"train/{name}": value for name, value in self.losses.items()}
        row |= self.metrics
        return row | {f"lr/pg{index}": group["lr"] for index, group in enumerate(self.optimizer.param_groups)}

    def state(self) -> dict:
        """The checkpoint: weights, and all that a resumed run needs to end where an uninterrupted one would."""
        return {
            "model_yaml": self.model.yaml,
            "names": self.model.names,
            "nc": self.model.nc,
            "model": self.model.state_dict(),
            "ema": self.ema.ema.state_dict(),
            "ema_updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": {"updates": self.updates},
            "scaler": self.scaler.state_dict() if self.amp else None,
            "rng": get_rng_state(),
            "epoch": self.epoch - 1,
            "batches_done": self.batches_done,
            "loss_sum": self.loss_sum,
            "best_fitness": self.stopper.best_fitness,
            "best_epoch": self.stopper.best_epoch,
            "seconds": self.elapsed,
            "options": self.args.to_dict(),
            "metrics": self.metrics,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }

    def restore(self, state: dict) -> None:
        """Put back what `state` took. Raises OptionError when the run has no epochs left."""
        self.epoch = state["epoch"] + 1
        if self.epoch >= self.epochs:
            raise OptionError(
                f"{self.args.resume}: this run has done its {self.epochs} epochs; to go on, give more, such as "
                f"epochs={self.epochs * 2}."
            )
        self.model.load_state_dict(state["model"])
        self.ema.ema.load_state_dict(state["ema"])
        self.ema.updates = state["ema_updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"] and self.amp:
            self.scaler.load_state_dict(state["scaler"])
        self.updates = state["scheduler"]["updates"]
        self.batches_done = state["batches_done"]
        self.loss_sum = state["loss_sum"].to(self.device)
        self.stopper.best_fitness, self.stopper.best_epoch = state["best_fitness"], state["best_epoch"]
        if not self.best.exists():  # the checkpoint was moved away from its run: a best of this folder is needed
            self.stopper.best_fitness, self.stopper.best_epoch = None, self.epoch - 1
        self.seconds_before, self.metrics = state["seconds"], dict(state["metrics"])
        self.files.keep_results(self.epoch)
        LOGGER.info(f"Resuming {self.args.resume} in epoch {self.epoch + 1}, batch {self.batches_done + 1}")


def _is_weights(model: str | None) -> bool:
    return bool(model) and Path(model).suffix == ".pt"
