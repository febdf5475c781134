"""The training loop: epochs, steps, validation, checkpoints. What happens before the first batch: `train_setup.py`."""

import copy
import math
import random
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ultralytics.cfg.migrate import published_hyp
from ultralytics.data.build import epoch_batches, labels_of, own_parts
from ultralytics.engine import train_log
from ultralytics.engine.checkpoint import load_checkpoint
from ultralytics.engine.ddp import check_ddp_params, launch
from ultralytics.engine.train_log import EpochProgress, RunDir
from ultralytics.engine.train_setup import TrainerSetup, multi_scale_sides
from ultralytics.engine.train_state import (
    TIME_LIMIT,
    Interrupt,
    NamedItems,
    NonFinite,
    NonFiniteLossError,
    TrainingInterrupted,
    check_finite,
    explain_failure,
)
from ultralytics.nn.accelerate import restore
from ultralytics.utils import LOGGER, dist
from ultralytics.utils.callbacks.loggers import run_loggers
from ultralytics.utils.errors import counted
from ultralytics.utils.flops import get_flops
from ultralytics.utils.plotting import plot_images, plot_labels, plot_results
from ultralytics.utils.public import public_names
from ultralytics.utils.torch_utils import autocast, deterministic_algorithms, init_seeds


class BaseTrainer(TrainerSetup):
    """Train a detector: `train` calls `setup`, and for each epoch `train_epoch` and `finish_epoch`.

    Callbacks read the attributes: `epoch`, `epochs`, `model`, `ema`, `optimizer`, `losses`, `metrics`, `fitness`,
    `best_fitness`, `save_dir`, `last`, `best`, `args`, `device`, `train_loader`, `validator`, `stopper`, ...
    """

    def train(self) -> Any:
        """Train, and return the metrics of the best weights; None if the run to resume has nothing left to do.

        Raises TrainingInterrupted after Ctrl-C.
        """
        if self.finished:
            LOGGER.info(self.finished)
            return None
        if self.launches:
            network = partial(copy.copy, self.model) if self.model is not None else None
            metrics, folder = launch(self.args, type(self), self.callbacks, network, self._given)
            self.save_dir, self.best, self.last = folder, RunDir(folder).best, RunDir(folder).last
            return metrics
        with dist.process_group(self.device), run_loggers(self.args.loggers, self.callbacks):
            try:
                return self._do_train()
            except Exception as error:
                if explained := explain_failure(self, error):
                    raise explained from error
                raise
            finally:
                if self.files:
                    self.files.unlock()

    def _do_train(self, world_size: int = 1) -> Any:
        """Run setup, all epochs and the final validation, on each rank."""
        self.callbacks.run("on_pretrain_routine_start", self)
        self._setup_train()
        self.save_state()  # so that a run killed in its first epoch can be resumed
        self.callbacks.run("on_pretrain_routine_end", self)
        with Interrupt() as self.interrupt, deterministic_algorithms(self.args.deterministic):
            self.train_time_start = self.epoch_time_start = time.time()
            self.callbacks.run("on_train_start", self)
            if self.args.time and self.finished_epochs + self.batches_done:
                self.fit_to_time()
            while self.finished_epochs < self.epochs and not (self.finished_epochs and self.stop):
                self.epoch = self.finished_epochs
                try:
                    self.train_epoch()
                except NonFinite as error:
                    self.rollback(error)
                else:
                    self.finish_epoch()
                    self.stop_if_interrupted()
        self.final_eval()
        for network in (self.model, self.ema.ema):
            restore(network)
        self.callbacks.run("on_train_end", self)
        LOGGER.info(train_log.summary(self, self.clock.elapsed))
        self.callbacks.run("teardown", self)
        return getattr(self.validator, "metrics", None)

    def train_epoch(self) -> None:
        """Train the remaining batches of an epoch. Raises NonFinite."""
        self.callbacks.run("on_train_epoch_start", self)
        if self._scheduler is not None:
            self._scheduler.step()
        self.model.train()
        for module in self.model.modules():  # a loss, or a layer, that changes with the epoch
            if hasattr(module, "set_epoch"):
                module.set_epoch(self.epoch, self.epochs)
        check_ddp_params(self.ddp_model)
        for norm in self.frozen_norms:
            if not any(p.requires_grad for p in norm.parameters()):  # a callback may have unfrozen it
                norm.eval()
        self.step_start = self.batches_done  # gradients are accumulated from this batch of the epoch on
        if header := self.progress_string():
            LOGGER.info(header)
        with EpochProgress(self.loss_names, self.clock, self.epoch, self.batches_done, self.device) as progress:
            for batch in self.remaining_batches():
                self.set_rates()
                self.callbacks.run("on_train_batch_start", self)
                self.batch = batch = self.preprocess_batch(batch)
                is_update = self.training_step(batch)
                losses = self.mean_losses.tolist() if progress.needs_losses else None
                progress.update(losses, len(batch["cls"]), len(batch["img"]), batch["img"].shape[-1])
                self.callbacks.run("on_train_batch_end", self)
                if is_update:
                    if self.args.save and time.perf_counter() - self.saved_at >= self.args.save_minutes * 60:
                        self.save_state()
                    self.stop_if_interrupted()
        self.losses = dict(zip(self.loss_names, dist.mean_over_ranks(self.mean_losses).tolist(), strict=True))
        self.loss_sum.zero_()
        self.batches_done = 0
        self.callbacks.run("on_train_epoch_end", self)

    @property
    def sums_images(self) -> bool:
        """Return whether the loss is a sum over the images of all batches of a step, see `nn/head_protocol.py`."""
        criterion = getattr(self.model, "criterion", None)  # a published one returns the loss times images
        return getattr(criterion, "sums_images", not hasattr(criterion, "loss_items") and criterion is not None)

    def training_step(self, batch: dict) -> bool:
        """Run model, loss and backward on a batch. Return whether weights and EMA were updated.

        They are updated after the last batch of a group (nominal batch), whose gradients are accumulated.
        """
        seen = self.epoch * len(self.train_loader) + self.batches_done
        self.accumulate = self.schedule.batches(seen)
        group = min(self.accumulate, len(self.train_loader) - self.step_start)  # fewer at the end of the epoch
        is_update = self.batches_done + 1 >= self.step_start + group
        # DDP averages the gradients of the ranks in the last backward of a group only
        with self.ddp_model.no_sync() if self.world_size > 1 and not is_update else nullcontext():
            # forward: `DetectionModel.loss` runs `predict(img, batch=targets)`, then `criterion`; it returns the sum of
            # all terms and the logged terms. A single call, so that DDP and torch.compile wrap all of it
            with autocast(self.device, self.dtype):
                loss, items = self.compiled_model(batch)
            loss, items = loss.sum(), NamedItems.of(items, self.loss_names)  # of a script, the terms
            self.loss, self.loss_items = loss.detach(), items
            check_finite(loss, "the loss", dict(zip(self.loss_names, items, strict=True)))
            # backward: the mean over the batches of the group, or the sum over its images; DDP averages over ranks
            self.scaler.scale(loss * self.world_size if self.sums_images else loss / group).backward()
        if is_update:
            self.optimizer_step()
            self.updates += 1
            self.step_start = self.batches_done + 1
        self.loss_sum += items
        self.batches_done += 1
        return is_update

    def set_rates(self) -> None:
        """Set the learning rates of the next batch; after the warm-up those of a script's scheduler remain."""
        place = {"update": self.updates, "batch": self.epoch * len(self.train_loader) + self.batches_done}
        if self._scheduler is None or place[self.schedule.unit] < self.schedule.warmup:
            groups = [group for group in self.optimizer.param_groups if "initial_lr" in group]  # else of a script
            self.schedule.set_rates(groups, **place, scale=self.rate_scale)

    def optimizer_step(self) -> None:
        """Clip the gradients, step the optimizer and update the EMA."""
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.trainable, self.args.clip_grad or math.inf)
        scale = self.scaler.get_scale()
        if not self.scaler.is_enabled():  # an enabled scaler skips such steps and lowers its scale
            check_finite(norm, "the norm of the gradient")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.callbacks.run("optimizer_step", self)
        self.callbacks.run("on_before_zero_grad", self)
        self.optimizer.zero_grad(set_to_none=True)
        if self.scaler.get_scale() < scale:
            self.skipped += 1
            LOGGER.info(f"  float16 overflow: skipping step {self.updates + 1} ({self.skipped} in all)")
        elif dist.any_rank(self.ema.update(self.model) is False, self.device):
            raise NonFinite("a weight or statistic of the network is not finite after the step")

    def finish_epoch(self) -> None:
        """Validate, write results and checkpoint, and decide whether to stop."""
        if self.args.val:
            self.metrics, self.fitness = self.validate()
            if self.fitness is not None:
                self.stopper.update(self.epoch, self.fitness)
            self.best_fitness = self.stopper.best_fitness
            self.stop_reason = self.stop_reason or self.stopper.reason(self.epoch)
        if self.is_main:
            self.save_metrics(metrics=self.results_row())
        self.epoch_time, self.epoch_time_start = time.time() - self.epoch_time_start, time.time()
        self.finished_epochs = self.epoch + 1
        if self.args.save:
            self.save_model()
            self.callbacks.run("on_model_save", self)
        self.callbacks.run("on_fit_epoch_end", self)
        if self.args.time:
            self.fit_to_time()
        reasons = dist.gather(self.stop_reason)  # callbacks of the ranks may differ
        self.stop_reason = next(filter(None, reasons), "")

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Append an epoch to results.csv, with numbers by column."""
        self.files.append_results(metrics)

    def fit_to_time(self) -> None:
        """Set `epochs` and the learning rates to the number of epochs that fit into the hours of the option `time`."""
        done, before = self.finished_epochs + self.batches_done / len(self.train_loader), self.epochs
        left = dist.from_main(self.clock.epochs_left(self.args.time, done))  # clocks of the ranks differ
        self.epochs = self.clock.epochs = self.finished_epochs + left
        self.set_schedule()
        if not left:
            self.stop_reason = (
                self.stop_reason or f"another epoch does not fit into time={self.args.time:g} hours; {TIME_LIMIT}"
            )
        elif self.epochs != before and self.finished_epochs <= self.start_epoch + 1:
            LOGGER.info(f"time={self.args.time:g} hours: {counted(self.epochs, 'epoch')} fit")

    def validate(self) -> tuple[dict[str, float], float]:
        """Validate the averaged weights. Return metrics (columns of results.csv), and the fitness to be maximized."""
        dist.share_state(self.ema.ema)
        metrics = self.validator(self)
        return metrics, metrics.pop("fitness")

    def final_eval(self) -> None:
        """Validate the best weights once more, with plots; then reduce the checkpoints of a finished run."""
        if self.args.save and self.is_main:
            if not self.best.exists():  # the last checkpoint was moved away from its run before it was resumed
                self.save_state(best=True)
            best = load_checkpoint(self.best)
            self.ema.ema.load_state_dict(best["ema"] or best["model"])
        dist.share_state(self.ema.ema)
        LOGGER.info(f"Validating {self.best if self.args.save else 'the last weights'}")
        self.validator.args = self.validator.args.replace(plots=self.args.plots)
        found = self.validator(model=self.ema.ema)
        self.metrics.update({key: value for key, value in found.items() if key != "fitness"})
        self.epoch += 1  # so that callbacks count it as another epoch
        self.callbacks.run("on_fit_epoch_end", self)
        self.epoch -= 1
        if self.args.save and self.is_main and self.is_done:
            self.files.finish(strip=not self.args.save_optimizer)

    def remaining_batches(self) -> Iterator[dict]:
        """Yield the batches of the epoch from `batches_done` on, in the same order in a resumed run."""
        if self.epoch >= self.epochs - self.args.close_mosaic:
            for part in own_parts(self.train_loader.dataset):
                transforms, _ = part.transforms, part.close_mosaic(published_hyp(self.args.to_dict()))
                if part.transforms is not transforms and hasattr(self.train_loader, "close"):
                    self.train_loader.close()  # changed by a script: workers have the ones before
        batches = epoch_batches(self.train_loader, self.epoch, self.batches_done)
        for index, batch in enumerate(batches, self.batches_done):
            # Seed every batch, so that training does not depend on workers, validation, plots or an interruption.
            init_seeds(self.args.seed, self.epoch, index, self.rank)
            yield batch

    def preprocess_batch(self, batch: dict) -> dict:
        """Move a batch to the device; images become floats in 0..1, randomly resized with `multi_scale`."""
        batch = {k: v.to(self.device, non_blocking=True) if torch.is_tensor(v) else v for k, v in batch.items()}
        batch["img"] = batch["img"].float() / 255
        if self.args.multi_scale:
            seeded = random.Random(f"{self.args.seed}/{self.epoch}/{self.batches_done}")  # the same on all ranks
            side = seeded.choice(multi_scale_sides(self.args.imgsz, self.args.multi_scale, self.stride))
            shape = batch["img"].shape[2:]
            size = [math.ceil(n * side / max(shape) / self.stride) * self.stride for n in shape]
            batch["img"] = F.interpolate(batch["img"], size=size, mode="bilinear", align_corners=False)
        return batch

    def save_model(self) -> None:
        """Save last.pt after an epoch, and best.pt and epochN.pt where due; without validation the newest is best."""
        numbered = self.save_period > 0 and self.finished_epochs % self.save_period == 0
        self.save_state(best=not self.args.val or self.stopper.best_epoch == self.epoch, numbered=numbered)

    def save_state(self, *, best: bool = False, numbered: bool = False) -> None:
        """Save a checkpoint to resume from (`save=True`)."""
        self.saved_at = time.perf_counter()
        if self.is_main and self.args.save:
            self.seconds = self.clock.elapsed
            self.files.save(self.state_dict(), best=best, numbered=numbered)

    def rollback(self, error: NonFinite) -> None:
        """Return to the last checkpoint and halve the learning rate.

        Raises NonFiniteLossError the second time, or with `save=False`.
        """
        rate = max(group["lr"] for group in self.optimizer.param_groups)
        where = f"{self.place}: {error} at learning rate {rate:.2g}"
        if self.rate_scale < 1 or not self.args.save:
            file = self.files.save_batch(self.batch, self.rank)
            again = "and there is no checkpoint (save=False)"
            if self.args.save:
                again = f"for the second time; the last good state is in {self.last}"
            raise NonFiniteLossError(f"{where}, {again}. Look at the batch in {file}; try a lower lr0 or amp=False.")
        self.load_state_dict(dist.from_main(load_checkpoint(self.last) if self.is_main else None))
        self.rate_scale = 0.5
        LOGGER.warning(
            f"{where}. Rolling back to the last checkpoint, {self.place.lower()}, with half the learning rate; "
            "the next non-finite value ends the run."
        )

    def stop_if_interrupted(self) -> None:
        """If any rank received Ctrl-C or SIGTERM, save the state and raise TrainingInterrupted."""
        if not dist.any_rank(self.interrupt.requested, self.device):
            return
        if self.finished_epochs < self.epochs and self.batches_done:  # between epochs it is saved already
            self.save_state()
        message = train_log.interruption(self)
        LOGGER.warning(message)
        raise TrainingInterrupted(message)

    @property
    def tloss(self) -> NamedItems:
        """Mean losses of this epoch so far, else of the last one, (losses,), in the order of `loss_names`."""
        mean = self.mean_losses if self.batches_done else torch.tensor(list(self.losses.values()))
        return NamedItems.of(mean, self.loss_names)

    def progress_string(self) -> str:
        """Return a line to log above each epoch; none by default, as the progress has the names of its numbers."""
        return ""

    def plot_training_samples(self, batch: dict, ni: int) -> None:
        """Draw a training batch; `ni` is its number."""
        plot_images(batch, fname=self.save_dir / f"train_batch{ni}.jpg", names=self.model.names)

    def plot_training_labels(self) -> None:
        """Plot the boxes and classes of the training labels."""
        if labels := labels_of(self.train_loader.dataset):
            boxes = np.concatenate([item.boxes[~item.crowd] for item in labels])
            classes = np.concatenate([item.cls[~item.crowd] for item in labels])
            plot_labels(boxes, classes, self.model.names, self.save_dir / "labels.jpg", **self.args.figure_style)

    def plot_metrics(self) -> None:
        """Plot the curves of results.csv."""
        plot_results(self.files.results, **self.args.figure_style)

    def results_row(self) -> dict[str, float]:
        """Return the row of results.csv for this epoch: losses, metrics and the learning rate of each group."""
        row = {"epoch": self.epoch + 1, "time": round(self.clock.elapsed, 1)}
        row |= {f"train/{name}": value for name, value in self.losses.items()} | self.metrics
        return row | self.lr

    def model_size(self) -> dict[str, float]:
        """Return the parameters and the GFLOPs, with the size in pixels in its key, of the network that is saved."""
        parameters = sum(parameter.numel() for parameter in self.ema.ema.parameters())
        return {"parameters": parameters, f"GFLOPs_{self.args.imgsz}px": get_flops(self.ema.ema, self.args.imgsz)}


__getattr__ = public_names(__name__)
