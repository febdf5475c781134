"""Training: the loop, one step of which reads as the recipe in the paper. Subclasses say what is trained on what."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ultralytics.cfg.options import ConfigLike, resolve_options
from ultralytics.engine import train_log
from ultralytics.engine.autobatch import measured_batch, provisional_batch
from ultralytics.engine.checkpoint import (
    RunFiles,
    find_checkpoint,
    load_checkpoint,
    options_unlike_default,
    resume_options,
    resume_path,
)
from ultralytics.engine.ddp import distribute, processes_of, require_exchanged, synchronise_norms
from ultralytics.engine.optim import (
    build_optimizer,
    freeze_layers,
    learning_rate_factor,
    param_groups,
    set_learning_rate,
)
from ultralytics.engine.train_log import EpochProgress, RunClock, add_plots
from ultralytics.engine.train_state import (
    EarlyStopping,
    NonFinite,
    TrainingInterrupted,
    go_back,
    halve_batch,
    interruptible,
    memory_explained,
    on_cpu,
    require_finite,
    take_state,
    time_limit_reason,
)
from ultralytics.engine.train_state import resume as resume_run
from ultralytics.nn.accelerate import for_training, restore
from ultralytics.nn.batch_of_one import accept_batches_of_one
from ultralytics.utils import LOGGER, dist
from ultralytics.utils.callbacks import Callbacks, CallbacksMixin
from ultralytics.utils.callbacks.loggers import run_loggers
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.files import run_dir
from ultralytics.utils.torch_utils import (
    ModelEMA,
    autocast,
    compiled,
    deterministic_algorithms,
    half_dtype,
    init_seeds,
    select_device,
)

STRIDE = 32  # image sides are multiples of it
SMALLEST, LARGEST = 0.75, 1.25  # of imgsz: 480 to 800 for 640, as in the official code


def training_sides(imgsz: int) -> range:
    """Sides of the images with `multi_scale`: multiples of STRIDE around `imgsz`, in pixels."""
    steps = imgsz // STRIDE
    return range(math.ceil(steps * SMALLEST) * STRIDE, math.floor(steps * LARGEST) * STRIDE + 1, STRIDE)


def at_random_size(images: Tensor, imgsz: int, *place: int) -> Tensor:
    """(B, 3, H, W) resized to (B, 3, side, side).

    The side is a function of the place in the run (seed, epoch, batch), so that a resumed run draws the same ones.
    """
    side = random.Random("/".join(map(str, place))).choice(training_sides(imgsz))
    return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)


class BaseTrainer(CallbacksMixin):
    """Trains a model with the given options.

    A subclass names its losses and builds the data, the model and the validator. What it is at (`epoch`, `model`,
    `ema`, `optimizer`, `metrics`, `save_dir`, ...) are attributes for callbacks to read.

    `cfg` are the options, a YAML file or mapping of some, or None for the defaults; `overrides` are those that the user
    wrote, which a resumed run needs to tell them from defaults. `model` is a network to go on training instead of a new
    one.
    """

    loss_names: tuple[str, ...] = ()

    def __init__(
        self,
        cfg: ConfigLike = None,
        overrides: Mapping[str, object] | None = None,
        _callbacks: Callbacks | Mapping | None = None,
        *,
        model: nn.Module | None = None,
    ) -> None:
        options = resolve_options(cfg, overrides, "train")
        self.checkpoint: dict | None = None
        self.save_dir: Path | None = None
        self.resumed = bool(options.resume)  # `checkpoint` is let go once it has been put back
        if self.resumed:
            path, self.checkpoint = find_checkpoint(resume_path(options))
            given = options_unlike_default(options) if overrides is None else overrides
            options = resume_options(self.checkpoint, path, given)
            if path.parent.name == "weights":  # go on in the run's own folder
                self.save_dir = path.parent.parent
        self.args = options
        self.device = select_device(options.device)
        self.callbacks = _callbacks.copy() if isinstance(_callbacks, Callbacks) else Callbacks(_callbacks)
        self.take(model)
        self.epochs = options.epochs
        self.epoch, self.batches_done = 0, 0  # the one under way, counting from 0; its batches
        self.updates = 0  # optimiser steps since the run began
        self.rate_scale = 1.0  # on the learning rate; lowered after numbers that were not finite
        self.skipped = 0  # steps that the gradient scaler left out because of an overflow
        self.loss_sum = torch.zeros(len(self.loss_names), device=self.device)
        self.mark_step()
        self.batch_was_halved = False  # because it did not fit into memory
        self.metrics: dict[str, float] = {}
        self.fitness = self.best_fitness = None
        self.losses: dict[str, float] = {}
        self.stopper = EarlyStopping(options.patience)
        self.stop_reason = ""
        self.seconds_before = 0.0  # spent before the run was resumed

    def take(self, model: nn.Module | None) -> None:
        """A network to go on training, before the run; None for a new one."""
        self.model = model
        self.given = model is not None  # a network that has learned something already

    # What a subclass provides -----------------------------------------------------------------------------------------

    def load_data(self) -> tuple[object, object]:
        """The training and validation loaders, which give batch dicts.

        That for training has `set_epoch(epoch, done)`: the epoch's batches without the first `done`.
        """
        raise NotImplementedError

    def build_loaders(self) -> tuple[object, object]:
        """Both loaders anew over the same data, after `options.batch` has changed."""
        raise NotImplementedError

    def build_model(self) -> nn.Module:
        """The network to train, with the weights it starts from. `self.model` is what the caller gave, or None."""
        raise NotImplementedError

    def build_validator(self, *, plots: bool):
        """A validator for the validation loader; called with (model, loss=True) it returns metrics."""
        raise NotImplementedError

    def advise(self) -> None:
        """Tell what the data suggests about the options; nothing is changed."""

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
        loggers = run_loggers(self.args.loggers, self.callbacks)
        with dist.process_group(self.device), processes_of(self), memory_explained(self), loggers:
            return self.run()

    def run(self) -> object:
        """The run, in each of its processes."""
        self.callbacks.run("on_pretrain_routine_start", self)
        self.setup()
        self.callbacks.run("on_pretrain_routine_end", self)
        with interruptible() as self.interrupt, deterministic_algorithms(self.args.deterministic):
            self.callbacks.run("on_train_start", self)
            while self.epoch < self.epochs and not self.stop_reason:
                if self.try_epoch():
                    self.finish_epoch()
                    self.stop_if_interrupted()
        if self.stop_reason:
            LOGGER.info(f"Stopped after epoch {self.epoch}: {self.stop_reason}")
        result = self.final_validation()
        restore(self.model), restore(self.ema.ema)
        self.callbacks.run("on_train_end", self)
        LOGGER.info(train_log.summary(self))
        self.callbacks.run("teardown", self)
        return result

    def try_epoch(self) -> bool:
        """Train an epoch. False when something went wrong and the run is now where it can go on from."""
        try:
            self.train_epoch()
            return True
        except NonFinite as failure:
            go_back(self, failure)
            return False
        except torch.cuda.OutOfMemoryError:
            pass  # answered below, where the traceback, which holds the tensors of the step, is gone
        halve_batch(self)
        return False

    def train_epoch(self) -> None:
        """Every batch of `self.epoch` that has not been done yet. Raises NonFinite, with the state as it then is."""
        self.callbacks.run("on_train_epoch_start", self)
        self.model.train()
        require_exchanged(self.network)
        for norm in self.frozen_norms:
            if not any(p.requires_grad for p in norm.parameters()):  # a callback may have thawed it
                norm.eval()
        self.clock.start_epoch()
        with EpochProgress(self.loss_names, self.clock, self.epoch, self.batches_done, self.device) as progress:
            for batch in self.remaining_batches():
                self.callbacks.run("on_train_batch_start", self)
                self.batch = batch = self.preprocess_batch(batch)
                self.training_step(batch)
                self.clock.batch_done()
                losses = self.mean_losses().tolist() if progress.wants_losses else None
                count, _, _, size = batch["img"].shape
                progress.update(losses, len(batch["cls"]), count, size)
                self.callbacks.run("on_train_batch_end", self)
                if self.is_update_due(self.batches_done - 1):
                    self.save_by_time()
                    if self.interrupted():
                        break
        if self.batches_done < len(self.train_loader):
            self.stop_if_interrupted()
        self.losses = dict(zip(self.loss_names, dist.mean_over_ranks(self.mean_losses()).tolist(), strict=True))
        self.loss_sum.zero_()
        self.batches_done = 0
        self.mark_step()
        self.callbacks.run("on_train_epoch_end", self)

    def training_step(self, batch: dict) -> None:
        """Forward, backward and, once the nominal batch is complete, an update of the weights and their average."""
        due = self.is_update_due(self.batches_done)
        alone = isinstance(self.network, DistributedDataParallel) and not due  # gradients are exchanged at the update
        with self.network.no_sync() if alone else nullcontext():
            with autocast(self.device, self.dtype):
                loss, items = self.network_call(batch)
            require_finite(self, loss, "the loss", items)
            share = loss / self.group_length(self.batches_done)
            self.scaler.scale(share).backward()
        if due:
            set_learning_rate(self.optimizer, self.learning_rate_factor() * self.rate_scale)
            self.optimizer_step()
            self.updates += 1
        self.loss_sum += items
        self.batches_done += 1
        if due:
            self.mark_step()

    def optimizer_step(self) -> None:
        """Clip, step at the rate that the groups have now, and move the average."""
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.trainable, self.args.clip_grad or math.inf)
        scale = self.scaler.get_scale()
        if not self.scaler.is_enabled():  # the scaler skips such steps itself and lowers its scale
            require_finite(self, norm, "the norm of the gradient")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.callbacks.run("optimizer_step", self)
        self.callbacks.run("on_before_zero_grad", self)
        self.optimizer.zero_grad(set_to_none=True)
        if self.scaler.get_scale() < scale:
            self.skipped += 1
            LOGGER.info(
                f"  float16: the gradient overflows; step {self.updates + 1} is skipped ({self.skipped} in all)"
            )
        elif dist.any_rank(not self.ema.update(), self.device):
            raise NonFinite("a weight or statistic of the network is not finite after the step")

    def finish_epoch(self) -> None:
        """Validate, write the results and the checkpoint, and decide whether to go on."""
        best = not self.args.val  # without validation the newest is taken for the best
        if self.args.val:
            self.metrics, self.fitness = self.validate()
            best = self.stopper.update(self.epoch, self.fitness)
            self.best_fitness = self.stopper.best_fitness
            self.stop_reason = self.stopper.reason(self.epoch)
        self.clock.end_epoch()
        if self.is_main:
            self.files.append_results(self.results_row())
        self.callbacks.run("on_fit_epoch_end", self)
        self.epoch += 1
        if self.epoch < self.epochs and not self.stop_reason:
            reason = time_limit_reason(self.elapsed, self.clock.epoch_seconds, self.args.time)
            self.stop_reason = dist.from_main(reason)  # the processes' clocks differ
        numbered = self.args.save_period > 0 and self.epoch % self.args.save_period == 0
        self.keep_state(best=best, numbered=numbered)
        if self.args.save:
            self.callbacks.run("on_model_save", self)

    def validate(self) -> tuple[dict[str, float], float]:
        """Validate the averaged weights. Sets and returns `metrics` and `fitness`, by which the best are kept."""
        dist.share_state(self.ema.ema)
        measured = self.validator(self.ema.ema, loss=True, epoch=self.epoch)
        results = {key: float(value) for key, value in measured.results_dict.items()}
        self.fitness = results.pop("fitness")
        losses = zip(self.loss_names, self.validator.loss_items.tolist(), strict=True)
        self.metrics = {**results, **{f"val/{name}": value for name, value in losses}}
        return self.metrics, self.fitness

    # Preparation ------------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Data, model, optimiser and run folder; the folder comes late, so that a typo leaves no empty one behind."""
        init_seeds(self.args.seed)
        self.rank, self.world_size, self.is_main = dist.rank(), dist.world_size(), dist.rank() == 0
        self.args = self.args.replace(mode="train", imgsz=check_imgsz(self.args.imgsz, STRIDE))
        choose_batch = self.args.batch == -1
        if choose_batch:  # until there is a model to be measured
            self.args = self.args.replace(batch=provisional_batch())
        self.dtype = self.mixed_precision()
        LOGGER.info(train_log.device(self))
        with dist.main_first():
            self.train_loader, self.val_loader = self.load_data()
        self.model = self.build_model().to(self.device)
        self.set_model_attributes()
        if self.args.accelerate and (applied := for_training(self.model)):
            LOGGER.info(f"accelerate: {', '.join(applied)} (accelerate=False switches this off)")
        if choose_batch:
            self.choose_batch()
        if self.args.sync_bn:
            self.model = synchronise_norms(self.model, self.device)
        self.setup_optimization()
        if self.checkpoint is None:
            self.advise()
        self.network = distribute(self) if dist.world_size() > 1 else self.model
        self.network_call = compiled(self.network) if self.args.compile else self.network
        if self.is_main and not self.save_dir:
            self.save_dir = run_dir(self.args.project, self.args.name or "train", exist_ok=self.args.exist_ok)
        self.save_dir = dist.from_main(self.save_dir)
        self.files = RunFiles(self.save_dir)
        self.best, self.last = self.files.best, self.files.last
        if self.is_main:
            self.files.create(self.args.to_dict())
            if self.args.plots:
                add_plots(self.callbacks)
        self.validator = self.build_validator(plots=False)
        self.clock = RunClock(self.epochs, len(self.train_loader))
        if self.checkpoint is not None:
            resume_run(self, self.checkpoint)
            self.checkpoint = None  # four times the weights in memory, which the run has taken over
            if self.is_main:
                self.files.keep_results(self.epoch)
        self.keep_state()  # a run that is killed in its first epoch can be resumed, too
        LOGGER.info(
            f"Training epochs {self.epoch + 1} to {self.epochs}, {len(self.train_loader)} batches each, at "
            f"{self.args.imgsz} px; results go to {self.save_dir}"
        )

    def set_model_attributes(self) -> None:
        """Last changes to the network, on its device, before the optimiser is made and several processes share it."""
        accept_batches_of_one(self.model)

    def choose_batch(self) -> None:
        """`batch=-1`: as many images as the memory holds of the largest that will come."""
        side = training_sides(self.args.imgsz)[-1] if self.args.multi_scale else self.args.imgsz
        self.args = self.args.replace(batch=measured_batch(self, side))
        self.train_loader, self.val_loader = self.build_loaders()

    def mixed_precision(self) -> torch.dtype | None:
        """The 16-bit type in which the network computes where it can, or None for float32."""
        return half_dtype(self.device) if self.args.amp else None

    def setup_optimization(self) -> None:
        """Frozen layers, parameter groups, schedule, gradient scaler and average."""
        options = self.args
        self.frozen_norms = freeze_layers(self.model, options.freeze)
        self.settle_backbone_rate()
        self.accumulate = max(round(options.nbs / options.batch), 1)
        self.total_updates = self.epochs * math.ceil(len(self.train_loader) / self.accumulate)
        rates = {"lr": options.lr0, "momentum": options.momentum, "decay": options.weight_decay}
        self.optimizer = self.build_optimizer(self.model, options.optimizer, **rates, iterations=self.total_updates)
        for number, group in enumerate(self.optimizer.param_groups):  # an override's groups may have neither
            group.setdefault("initial_lr", group["lr"])  # what the schedule multiplies
            group.setdefault("name", f"group {number}")
        self.trainable = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.scaler = self.new_scaler()
        self.ema = ModelEMA(self.model, options.ema_decay, options.ema_warmup)
        self.warmup = min(options.warmup_iters, self.total_updates // 10)
        LOGGER.info(train_log.optimization(self))

    def build_optimizer(
        self, model: nn.Module, name: str, lr: float, momentum: float, decay: float, iterations: float
    ) -> torch.optim.Optimizer:
        """The optimiser over what is not frozen; the schedule is applied to the rate that each of its groups has.

        `iterations`, the updates of the whole run, serve overrides that choose by the length of the run.
        """
        groups = param_groups(model, lr=lr, weight_decay=decay, backbone_lr_ratio=self.args.backbone_lr_ratio)
        return build_optimizer(name, groups, momentum=momentum)

    def new_scaler(self) -> torch.amp.GradScaler:
        """The scaler of the loss, which is in use for float16 only."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    def settle_backbone_rate(self) -> None:
        """`backbone_lr_ratio=null`: the paper's 0.1 preserves a pretrained backbone but leaves a new one untrained."""
        if self.args.backbone_lr_ratio is None:
            self.args = self.args.replace(backbone_lr_ratio=0.1 if self.starts_pretrained() else 1.0)

    # Batches ----------------------------------------------------------------------------------------------------------

    def remaining_batches(self) -> Iterator[dict]:
        """Batches of the epoch from `batches_done` on: a resumed run gets the rest of its epoch in the same order."""
        if self.epoch >= self.epochs - self.args.close_mosaic:
            self.train_loader.dataset.close_mosaic()
        self.train_loader.set_epoch(self.epoch, self.batches_done)
        for index, batch in enumerate(self.train_loader, self.batches_done):
            # Every batch has random numbers of its own, so that nothing around it (workers, validation, plots, an
            # interruption) changes what is trained.
            init_seeds(self.args.seed, self.epoch, index, self.rank)
            yield batch

    def preprocess_batch(self, batch: dict) -> dict:
        """Move a batch to the device; images become floats in 0..1, at a random size with `multi_scale`."""
        batch = {k: v.to(self.device, non_blocking=True) if torch.is_tensor(v) else v for k, v in batch.items()}
        images = batch["img"].float() / 255
        if self.args.multi_scale:
            images = at_random_size(images, self.args.imgsz, self.args.seed, self.epoch, self.batches_done)
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
        shape = {"lrf": self.args.lrf, "cosine": self.args.cos_lr}
        return learning_rate_factor(self.updates, warmup=self.warmup, total=self.total_updates, **shape)

    # What is kept -----------------------------------------------------------------------------------------------------

    def keep_state(self, *, best: bool = False, numbered: bool = False) -> None:
        """Keep the state to return to: in last.pt, or in memory with save=False."""
        self.saved_at = time.perf_counter()
        if not self.is_main:
            return
        state = take_state(self)
        if self.args.save:
            self.files.save(state, best=best, numbered=numbered)
        else:
            self.kept = on_cpu(state)

    def good_state(self) -> dict:
        """What `keep_state` has kept last."""
        return load_checkpoint(self.last) if self.args.save else self.kept

    def save_by_time(self) -> None:
        """Within an epoch, after an update: keep the state every `save_minutes`."""
        if self.args.save and time.perf_counter() - self.saved_at >= self.args.save_minutes * 60:
            self.keep_state()

    # Ends -------------------------------------------------------------------------------------------------------------

    def interrupted(self) -> bool:
        """Whether Ctrl-C or SIGTERM has reached any process."""
        self.interrupt.requested = dist.any_rank(self.interrupt.requested, self.device)
        return self.interrupt.requested

    def stop_if_interrupted(self) -> None:
        """After Ctrl-C: save where the run is and raise TrainingInterrupted, which says how to go on."""
        if not self.interrupted():
            return
        if self.args.save and self.epoch < self.epochs and self.batches_done:  # between epochs it is saved already
            self.keep_state()
        message = train_log.interruption(self)
        LOGGER.warning(message)
        raise TrainingInterrupted(message)

    def final_validation(self) -> object:
        """Validate the best weights once more, this time with plots."""
        weights = "the last weights"
        if self.args.save:
            if self.is_main:
                self.files.slim_best()
                self.ema.ema.load_state_dict(load_checkpoint(self.best)["ema"])
            weights = str(self.best)
        dist.share_state(self.ema.ema)
        LOGGER.info(f"Validating {weights}")
        self.validator = self.build_validator(plots=self.args.plots)
        result = self.validator(self.ema.ema)
        self.metrics.update({key: float(value) for key, value in result.results_dict.items() if key != "fitness"})
        return result

    # State ------------------------------------------------------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        """Seconds of training, those before a resume included."""
        return self.seconds_before + self.clock.elapsed

    @property
    def tloss(self) -> torch.Tensor:
        """(losses,) means over the last epoch, in the order of `loss_names`."""
        return torch.tensor(list(self.losses.values()))

    def results_row(self) -> dict[str, float]:
        """A row of results.csv."""
        return train_log.results_row(self)

    def model_size(self) -> dict[str, float]:
        """Return `parameters` and, if they can be counted, `GFLOPs` of the network that is saved."""
        return train_log.model_size(self.ema.ema, self.args.imgsz)

    def mark_step(self) -> None:
        """Remember the batches and losses up to this step of the optimiser, see `start_group`."""
        self.at_step = (self.batches_done, self.loss_sum.clone())

    def start_group(self) -> None:
        """Back to the last step of the optimiser: the batches since then come again."""
        self.batches_done, self.loss_sum = self.at_step[0], self.at_step[1].clone()
        self.optimizer.zero_grad(set_to_none=True)
        state, self.scaler = self.scaler.state_dict(), self.new_scaler()  # which may be in the middle of a step
        if state:
            self.scaler.load_state_dict(state)

    def mean_losses(self) -> torch.Tensor:
        """(losses,) means over the batches of the epoch done so far."""
        return self.loss_sum / self.batches_done


def _is_weights(model: str | None) -> bool:
    return bool(model) and Path(model).suffix == ".pt"
