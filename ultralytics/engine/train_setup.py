"""Setup of a training run, before its first batch: options, data, model, optimizer, run folder, resume."""

import math
import os
from collections.abc import Iterable, Mapping
from functools import cached_property, partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ultralytics.cfg.family import Family, default_values
from ultralytics.cfg.options import ConfigLike, resolve_options
from ultralytics.data.build import EpochLoader, build_dataset, labels_of, loader_of
from ultralytics.data.dataset import SINGLE_CLASS, DetectionDataset
from ultralytics.data.dataset_yaml import DATASET_YAMLS, DatasetConfig, load_dataset_config
from ultralytics.data.recommend import recommend_options
from ultralytics.engine import checkpoint as checkpoints
from ultralytics.engine import train_log
from ultralytics.engine.autobatch import check_memory, default_batch, measured_batch
from ultralytics.engine.ddp import batch_per_rank, wrap_ddp
from ultralytics.engine.optim import Schedule, build_optimizer, freeze_layers, param_groups
from ultralytics.engine.train_log import RunClock, RunDir
from ultralytics.engine.train_state import TrainState
from ultralytics.engine.trust import build_recorded
from ultralytics.engine.validator import BaseValidator
from ultralytics.losses.classification import check_class_loss, class_weights
from ultralytics.losses.iou import IoULoss
from ultralytics.metrics.detection import DetMetrics
from ultralytics.nn.accelerate import for_training
from ultralytics.nn.tasks import DetectionModel
from ultralytics.nn.weights import Weights, known_names, load_backbone, load_weights
from ultralytics.utils import LOGGER, dist
from ultralytics.utils.callbacks import Callbacks, CallbacksMixin
from ultralytics.utils.checks import check_imgsz, image_stride, usable_cores
from ultralytics.utils.downloads import released
from ultralytics.utils.errors import DataError, ModelConfigError, OptionError, WeightsError, counted
from ultralytics.utils.files import run_dir, write_yaml
from ultralytics.utils.flops import run_copy
from ultralytics.utils.overrides import Default, replaced
from ultralytics.utils.torch_utils import (
    ModelEMA,
    accept_batches_of_one,
    compiled,
    count_devices,
    describe_device,
    half_dtype,
    init_seeds,
    select_device,
)

DEMO = DATASET_YAMLS / "shapes.yaml"  # trained for minutes on purpose
Paths = str | Path | Iterable[Path]


def multi_scale_sides(imgsz: int, multi_scale: bool | float = True, stride: int = 32) -> range:
    """Return the image sides of `multi_scale` in pixels: multiples of `stride`, from 0.75 to 1.25 of imgsz for True."""
    share, steps = 0.25 if multi_scale is True else multi_scale, imgsz // stride
    smallest = max(math.ceil(steps * (1 - share)), 1)
    return range(smallest * stride, math.floor(steps * (1 + share)) * stride + 1, stride)


def warn_if_busy() -> None:
    """Warn if other processes use the cores while the threads of OpenMP spin, which makes both many times slower."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 1.5 * usable_cores() and torch.get_num_threads() > 1 and "OMP_WAIT_POLICY" not in os.environ:
        LOGGER.warning(
            f"load average {load:.1f} on {usable_cores()} cores: start Python with OMP_WAIT_POLICY=PASSIVE, so that "
            "waiting threads do not take the time of other processes (`yolo` and train.py do so), or OMP_NUM_THREADS=1"
        )


class TrainerSetup(TrainState, CallbacksMixin):
    """Build data, model, optimizer and run folder of a training run from its options.

    A subclass sets `loss_names`, `model_class` and `validator_class`, and may override the methods that build.

    Args:
        cfg: options, or a YAML file or mapping of some; None for the defaults.
        overrides: options set by the user, which a resumed run must distinguish from defaults.
        model: a network to continue from, instead of a new one.
    """

    family: Family | None = None
    stride = 32  # image sides are multiples of it
    loss_names: tuple[str, ...] = ()
    model_class: type[DetectionModel]
    validator_class: type[BaseValidator]
    save_period, epoch_time = Default(attrgetter("args.save_period")), None  # seconds of the last epoch
    resume = Default(lambda self: bool(self.args.resume))
    amp = Default(lambda self: getattr(self, "dtype", None) is not None)
    lf = Default(lambda self: lambda epoch: self.schedule.decay(min(epoch / self.epochs, 1.0)))  # factor of the rates

    def __init__(
        self, cfg: ConfigLike = None, overrides: Mapping[str, object] | None = None,
        _callbacks: Callbacks | Mapping | None = None, *, model: nn.Module | None = None,
    ) -> None:  # fmt: skip
        options = resolve_options(cfg, overrides, "train", self.family)
        self.checkpoint: dict | None = None  # to resume from, until it is loaded
        if options.resume:
            path, self.checkpoint = checkpoints.find_checkpoint(checkpoints.resume_path(options))
            defaults = default_values(self.family)
            changed = {key: value for key, value in options.to_dict().items() if value != defaults[key]}
            given = changed if overrides is None else overrides
            options = checkpoints.resume_options(self.checkpoint, path, given, self.family)
        super().__init__(options)
        if options.resume and path.parent.name == "weights":  # continue in the same run folder
            self.save_dir = path.parent.parent
        self.finished = checkpoints.finished_run(self.checkpoint, options) if options.resume else ""
        if self.finished:
            self.best, self.last = next(filter(Path.exists, (path.with_name("best.pt"), path))), path
        self.launches = count_devices(options.device) > 1 and not dist.started_by_torchrun()
        self.device, self._given = select_device("cpu" if self.launches else options.device), overrides
        self.callbacks = _callbacks.copy() if isinstance(_callbacks, Callbacks) else Callbacks(_callbacks)
        self.files: RunDir | None = None
        self.model = model
        self.is_pretrained = False
        self.datasets: dict[str, DetectionDataset] = {}

    def _setup_train(self, world_size: int = 1) -> None:
        """Build model, data, optimizer and run folder; the folder comes last, so that an error leaves no empty one."""
        init_seeds(self.args.seed)
        self.rank, self.world_size, self.is_main = dist.rank(), dist.world_size(), dist.rank() == 0
        self.args = self.args.replace(mode="train", imgsz=check_imgsz(self.args.imgsz))
        check_class_loss(self.args.loss_class)  # before the data is read, which may take minutes
        IoULoss.from_options(self.args, default="giou")
        is_auto_batch = self.args.batch == -1
        if is_auto_batch:  # until the model is built and can be measured
            self.args = self.args.replace(batch=default_batch())
        if self.device.type == "cpu":
            check_memory(self.args)
        self.dtype = half_dtype(self.device) if self.args.amp else None
        LOGGER.info(f"{self.world_size} x {describe_device(self.device)}; mixed precision {self.dtype or 'off'}")
        warn_if_busy()
        with dist.main_first():
            self.setup_model()
            self.complete_model()
            self.train_loader, self.val_loader = self.load_data()
        self.setup_loss()
        self.environment = checkpoints.environment(self.device) if self.is_main else {}
        if self.is_main:  # before `for_training`, which substitutes classes
            self.environment["fingerprints"] = checkpoints.fingerprints(self.datasets, self.model)
        self.set_model_attributes()
        if self.args.accelerate:
            for_training(self.model)
        if is_auto_batch:
            self.args = self.args.replace(batch=self.auto_batch())
            self.train_loader, self.val_loader = self.build_loaders()
        if self.args.sync_bn:
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        self.setup_optimizer()
        self.ddp_model = self.model
        if self.world_size > 1:
            self.ddp_model = wrap_ddp(self.model, self.preprocess_batch(next(iter(self.train_loader))), self.device)
        self.compiled_model = compiled(self.ddp_model) if self.args.compile else self.ddp_model
        self.setup_run_dir()
        if self._scheduler is not None:
            self._scheduler.last_epoch = self.start_epoch - 1
        LOGGER.info(
            f"Training epochs {self.epoch + 1} to {self.epochs}, {counted(len(self.train_loader), 'batch')} each, at "
            f"{self.args.imgsz} px; results are saved to {self.save_dir}"
        )

    def auto_batch(self) -> int:
        """Return the batch of all ranks together that fits into the memory, for `batch=-1`."""
        side = multi_scale_sides(self.args.imgsz, self.args.multi_scale, self.stride)[-1]
        return measured_batch(self.model, self.train_loader.dataset, self.device, self.dtype, side)

    def load_data(self) -> tuple[EpochLoader, EpochLoader]:
        """Read the data YAML and return the training and validation loaders."""
        return self.build_loaders()

    @cached_property
    def data(self) -> DatasetConfig:
        """Return the checked data set."""
        return load_dataset_config(self.get_dataset(), ("train", "val"))

    def get_dataset(self) -> Any:
        """Return the data set as `load_dataset_config` takes it: a data YAML, its content, or its checked content."""
        if self.args.data is None:
            raise OptionError("data: which data set? Write data=shapes.yaml, or the path of your data YAML.")
        return load_dataset_config(self.args.data, ("train", "val"))

    def build_loaders(self) -> tuple[EpochLoader, EpochLoader]:
        """Return the training and validation loaders; called again when `batch=-1` has chosen the batch."""
        batch, paths = batch_per_rank(self.args.batch), self.data.splits
        training, validation = (self.get_dataloader(paths[s], batch, dist.rank(), s) for s in ("train", "val"))
        return training, validation

    def get_dataloader(
        self, dataset_path: Paths, batch_size: int = 16, rank: int = 0, mode: str = "train"
    ) -> EpochLoader:
        """Return a loader of the "train" or "val" images, shuffled for training, with `batch_size` images per rank."""
        if mode not in self.datasets:
            self.datasets[mode] = self.build_dataset(dataset_path, mode, batch_size)
        share = {"batch": batch_size, "workers": self.args.workers, "seed": self.args.seed}
        return loader_of(self.datasets[mode], shuffle=mode == "train", **share)

    def build_dataset(self, img_path: Paths, mode: str = "train", batch: int | None = None) -> DetectionDataset:
        """Return the labeled images of `img_path`, augmented for "train"."""
        return build_dataset(
            self.args, self.data.with_split(mode, img_path), mode, training=mode == "train", imgsz=self.args.imgsz,
            resize=self.family.resize if self.family else "stretch", rect=bool(self.args.rect), stride=self.stride,
        )  # fmt: skip

    @property
    def test_loader(self) -> EpochLoader:
        """Validation loader, by its name in `get_validator`."""
        return self.val_loader

    @property
    def names(self) -> dict[int, str]:
        """Return the class names of the data set."""
        return {0: SINGLE_CLASS} if self.args.single_cls else dict(self.data.names)

    def setup_model(self) -> None:
        """Build the network, `model`, with its initial weights."""
        names, options = self.names, self.args
        if self.checkpoint is None:
            self.model = self.build_new_model(names)
        elif names == self.checkpoint["names"]:
            build = partial(self.get_model, weights=None, verbose=False)
            self.model = build_recorded(build, self.checkpoint, options.resume, options.modules, trust=options.trust)
        else:
            raise DataError(
                f"{self.args.data}: a resumed run keeps its classes; expected {self.checkpoint['names']}, got {names}."
            )

    def complete_model(self) -> None:
        """Move the network to the device with its names and options; round image sizes up to its stride."""
        model = self.model = self.model.to(self.device)
        model.names, model.args = {**model.names, **self.names}, self.args
        checkpoints.with_branch(model, self.args.end2end)  # raises where the head does not have it
        self.stride = image_stride(model)
        self.args = self.args.replace(imgsz=check_imgsz(self.args.imgsz, self.stride))
        model.info(detailed=True, imgsz=self.args.imgsz)
        self.disable_multi_scale_if_fixed(model)

    def setup_loss(self) -> None:
        """Build the loss, with weights of the classes by the option `cls_pw`; `model(batch)` is then (loss, items)."""
        if self.args.cls_pw:
            found = np.concatenate([item.cls[~item.crowd] for item in labels_of(self.train_loader.dataset)])
            counts = torch.bincount(torch.from_numpy(found).long(), minlength=len(self.names))
            self.model.model[-1].class_weights = class_weights(counts, self.args.cls_pw)
        self.model.criterion = self.model.criterion or self.model.init_criterion()
        self.loss_names = getattr(self.model.criterion, "loss_names", self.loss_names)

    def build_new_model(self, names: dict[int, str]) -> nn.Module:
        """Build from the network, YAML or weights in `model`, and load `pretrained` and `backbone_weights`."""
        options = self.args
        weights: Weights | None = None
        loaded: dict | None = None
        if self.model is not None:
            architecture = self.model.yaml
            weights = Weights(self.model.state_dict(), options.model or "model", known_names(self.model.names))
        elif options.model and (Path(options.model).suffix == ".pt" or released(options.model)):
            loaded = checkpoints.load_model_weights(options.model)
            weights = Weights(loaded.get("ema") or loaded["model"], options.model, known_names(loaded["names"]))
        elif options.model:
            architecture = options.model
        else:
            raise OptionError("model: which model? Write model=FILE, the path or name of a YAML or weights.")
        self.is_pretrained = bool(options.pretrained and (weights or isinstance(options.pretrained, str)))
        build = partial(self.get_model, weights=weights if options.pretrained else None, verbose=False)
        if loaded is None:
            model = build(architecture)
        else:
            model = build_recorded(build, loaded, options.model, options.modules, trust=options.trust)
        if isinstance(options.pretrained, str):
            load_weights(model, options.pretrained, names=names)
        if options.backbone_weights is not None:
            load_backbone(model, options.backbone_weights)
        return model

    def get_model(
        self, cfg: str | Path | Mapping[str, Any], weights: Weights | None = None, verbose: bool = True
    ) -> DetectionModel:
        """Return a network for the classes of the data, from a model YAML or its content, and from `weights` if any."""
        names = self.names
        settings = {**self.model_settings(), "modules": self.args.modules}
        build = replaced(self.model_class.__name__) or self.model_class
        given = {"overrides": settings} if any(settings.values()) else {}  # a script's class may not have it
        model = build(cfg, nc=len(names), verbose=verbose, **given)
        if weights is not None:
            load_weights(model, weights, names=names)
        return model

    def model_settings(self) -> dict[str, Any]:
        """Return settings of the model YAML that options override; None keeps the setting of the YAML."""
        return {}

    def starts_pretrained(self) -> bool:
        """Return whether the backbone has pretrained weights, which decides the default of `backbone_lr_ratio`."""
        backbone = (self.model.model[i] for i in self.model.backbone_layers)
        return self.is_pretrained or any(getattr(layer, "pretrained", None) for layer in backbone)

    def disable_multi_scale_if_fixed(self, model: nn.Module) -> None:
        """Turn `multi_scale` off for a network that accepts images of one size only, with a warning."""
        sides = multi_scale_sides(self.args.imgsz, self.args.multi_scale, self.stride)
        try:
            for side in {sides[0], sides[-1]} - {self.args.imgsz}:
                run_copy(model, side, lambda twin, image: twin(image))
        except ModelConfigError as error:
            LOGGER.warning(f"multi_scale: turned off, as the network does not accept images of {side} px: {error}")
            self.args = self.args.replace(multi_scale=False)

    def set_model_attributes(self) -> None:
        """Change the network on its device, before the optimizer is built and DDP wraps it."""
        accept_batches_of_one(self.model)

    def get_validator(self) -> BaseValidator:
        """Return the validator of this run."""
        return self.validator_class(self.test_loader, self.save_dir, self.args, self.callbacks)

    def setup_optimizer(self) -> None:
        """Freeze layers; build optimizer, schedule, gradient scaler and EMA."""
        self.frozen_norms = freeze_layers(self.model, self.args.freeze)
        if self.args.backbone_lr_ratio is None:  # the paper's 0.1 for a pretrained backbone
            self.args = self.args.replace(backbone_lr_ratio=0.1 if self.starts_pretrained() else 1.0)
        options = self.args
        steps = self.set_schedule()
        rates = {"lr": options.lr0, "momentum": options.momentum, "decay": options.weight_decay}
        self.optimizer = self.build_optimizer(self.model, options.optimizer, **rates, iterations=steps)
        self.set_schedule()  # `build_optimizer` may have chosen the rates
        self._setup_scheduler()
        groups = self.optimizer.param_groups
        for number, group in enumerate(groups):  # groups of an overridden build_optimizer may have neither
            group.setdefault("initial_lr", group["lr"])  # the schedule multiplies it
            group.setdefault("name", f"group {number}")
        self.trainable = [parameter for group in groups for parameter in group["params"]]
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.ema = ModelEMA(self.model, options.ema_decay, options.ema_warmup)
        LOGGER.info(train_log.optimizer_line(self.args, self.model, groups, self.schedule))

    def _setup_scheduler(self) -> None:
        """Take the learning rates of the options; an override may set `scheduler`, of `torch.optim`, for all epochs."""
        self._scheduler = None

    def set_schedule(self) -> int:
        """Set the learning rates of `epochs` epochs; return the number of optimizer steps."""
        self.accumulate = max(round(self.args.nbs / self.args.batch), 1)
        steps = self.epochs * math.ceil(len(self.train_loader) / self.accumulate)
        self.schedule = self.build_schedule(steps)
        return steps

    def log_recommendations(self, queries: int | None = None) -> None:
        """Log options recommended for this data set, unless the run is resumed or a demo; `queries` of a decoder."""
        labels = labels_of(self.train_loader.dataset)
        if labels and self.checkpoint is None and self.data.yaml_file != DEMO:
            for line in recommend_options(labels, self.args, queries=queries, pretrained=self.starts_pretrained()):
                LOGGER.info(f"Recommended for this data set: {line}")

    def build_schedule(self, steps: int) -> Schedule:
        """Return the learning rates of a run of so many optimizer steps."""
        options = self.args
        return Schedule(steps, min(options.warmup_iters, steps // 10), options.lrf, options.cos_lr, self.accumulate)

    def build_optimizer(
        self, model: nn.Module, name: str = "auto", lr: float = 0.001, momentum: float = 0.9, decay: float = 1e-5,
        iterations: float = 1e5,
    ) -> torch.optim.Optimizer:  # fmt: skip
        """Build the optimizer for a run of so many steps; the schedule multiplies the rate of each of its groups."""
        groups = param_groups(model, lr=lr, weight_decay=decay, backbone_lr_ratio=self.args.backbone_lr_ratio)
        return build_optimizer(name, groups, momentum=momentum)

    @cached_property
    def save_dir(self) -> Path:
        """Folder of the run, created on first use."""
        return run_dir(self.args.project, self.args.name or "train", exist_ok=self.args.exist_ok)

    def setup_run_dir(self) -> None:
        """Create the run folder and load the checkpoint of a resumed run."""
        is_new = Path(self.args.resume or "").parent.name != "weights"
        self.save_dir = dist.from_main(self.save_dir if self.is_main else None)
        self.files = RunDir(self.save_dir)
        vars(self.args)["save_dir"] = str(self.save_dir)  # no option, but public scripts read it there
        self.best, self.last = self.files.best, self.files.last
        if self.is_main:
            self.files.lock()
            if is_new:
                self.files.report_unfinished()
                self.files.set_aside()
            write_yaml(self.save_dir / "args.yaml", {**self.args.to_dict(), "environment": self.environment})
            if self.args.plots:
                train_log.add_plots(self.callbacks)
        self.validator = self.get_validator()
        self.loss_sum = torch.zeros(len(self.loss_names), device=self.device)  # it may set the names
        self.validator.args = self.validator.args.replace(mode="val", plots=False)  # plots are drawn at the end
        if self.args.val:  # zeros until the first validation, for callbacks
            self.metrics = dict.fromkeys([*DetMetrics.keys, *self.label_loss_items(prefix="val")], 0.0)
        if self.checkpoint is not None:
            self.resume_training(self.checkpoint)
            self.checkpoint = None  # free it: model, EMA and optimizer state have been loaded from it
        self.clock = RunClock(self.epochs, len(self.train_loader), self.seconds)

    def resume_training(self, saved: Mapping[str, Any]) -> None:
        """Continue an earlier run; only its final validation if it was interrupted there."""
        if self.is_main:
            before = saved.get("environment") or {}
            checkpoints.check_unchanged(before.get("fingerprints", {}), self.environment["fingerprints"], self.args)
        try:
            self.load_state_dict(saved)
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise WeightsError(f"{self.args.resume}: its state does not fit this run: {reason}") from error
        if (before := saved["options"]["batch"]) != self.args.batch:  # count the same images in batches of the new size
            done, self.batches_done = self.batches_done, self.batches_done * before // self.args.batch
            self.loss_sum *= self.batches_done / max(done, 1)
        if not self.best.exists():  # the checkpoint was moved away from its run: start a new best.pt
            self.stopper.best_fitness, self.stopper.best_epoch = None, self.epoch - 1
        if self.epoch and not self.batches_done:
            self.stop_reason = self.stopper.reason(self.epoch - 1)
        LOGGER.info(f"Resuming {self.args.resume} in epoch {self.epoch + 1}, batch {self.batches_done + 1}")
