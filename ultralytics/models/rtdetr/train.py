"""Training of RT-DETR."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ultralytics.data.build import EpochLoader, build_dataloader, build_dataset
from ultralytics.data.dataset import DetectionDataset
from ultralytics.data.dataset_yaml import load_dataset_config
from ultralytics.data.recommend import recommend_options
from ultralytics.engine.checkpoint import load_model_weights
from ultralytics.engine.ddp import share_of_batch
from ultralytics.engine.trainer import BaseTrainer, training_sides
from ultralytics.losses.detr import LOSS_MAP
from ultralytics.models.rtdetr.val import RTDETRValidator
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.nn.weights import Weights, known_names, load_backbone, load_weights
from ultralytics.utils import LOGGER, dist
from ultralytics.utils.errors import DataError, ModelConfigError, OptionError
from ultralytics.utils.flops import run_copy

Paths = str | Path | Iterable[Path]


class RTDETRTrainer(BaseTrainer):
    """Trains an RT-DETR on a detection data set: images stretched to a square, never padded to a rectangle.

    To be overridden by name: `get_model`, `get_dataloader`, `build_dataset`, `get_validator`, `preprocess_batch`,
    `build_optimizer`, `optimizer_step`, `validate`. See docs/en/interop.md.
    """

    loss_names = tuple(term.logged for term in LOSS_MAP.values())

    def load_data(self) -> tuple[EpochLoader, EpochLoader]:
        options = self.args
        if options.data is None:
            raise OptionError("data: which data set? Write data=shapes.yaml (built in), or the path of your data YAML.")
        self.data = load_dataset_config(options.data, ("train", "val"))
        self.datasets = {}
        return self.build_loaders()

    def build_loaders(self) -> tuple[EpochLoader, EpochLoader]:
        share, paths = share_of_batch(self.args.batch), self.data.splits
        training, validation = (self.get_dataloader(paths[s], share, dist.rank(), s) for s in ("train", "val"))
        return training, validation

    def get_dataloader(
        self, dataset_path: Paths, batch_size: int = 16, rank: int = 0, mode: str = "train"
    ) -> EpochLoader:
        """Batches of the "train" or "val" images, shuffled for training; the data set is built at the first call.

        An override may return another `EpochLoader`; its batches are those of `DetectionDataset.collate`. In a run of
        several processes `batch_size` is the share of process `rank`.
        """
        if mode not in self.datasets:
            self.datasets[mode] = self.build_dataset(dataset_path, mode, batch_size)
        options, training = self.args, mode == "train"
        share = {"batch": batch_size, "workers": options.workers, "seed": options.seed}
        return build_dataloader(self.datasets[mode], shuffle=training, **share)

    def build_dataset(self, img_path: Paths, mode: str = "train", batch: int | None = None) -> DetectionDataset:
        """The images of `img_path` with their labels, augmented when `mode` is "train".

        `batch` is for overrides: images that are all made square do not depend on it.
        """
        paths = (Path(img_path),) if isinstance(img_path, (str, Path)) else tuple(img_path)
        config = replace(self.data, splits={**self.data.splits, mode: paths})
        return build_dataset(self.args, config, mode, training=mode == "train", imgsz=self.args.imgsz)

    @property
    def test_loader(self) -> EpochLoader:
        """The validation loader."""
        return self.val_loader

    def build_model(self) -> nn.Module:
        options, names = self.args, dict(self.train_loader.dataset.names)
        model = self._resumed_model(names) if self.checkpoint is not None else self._new_model(names)
        model.names = names
        model.args = options
        model.criterion = model.init_criterion()
        model.info(detailed=True)
        self.settle_sizes(model)
        model.model[-1].set_one_to_many(options.one_to_many > 0)  # after the count: it is no part of the detector
        return model

    def settle_sizes(self, model: nn.Module) -> None:
        """Turn `multi_scale` off for a network that takes images of one size only, and say so."""
        sides = training_sides(self.args.imgsz)
        for side in {sides[0], sides[-1]} - {self.args.imgsz} if self.args.multi_scale else ():
            try:
                run_copy(model, side, lambda twin, image: twin(image))
            except ModelConfigError as error:
                LOGGER.warning(f"multi_scale: turned off, for the network takes no images of {side} px: {error}")
                self.args = self.args.replace(multi_scale=False)
                return

    def advise(self) -> None:
        lines = recommend_options(
            self.train_loader.dataset.labels,
            self.args,
            queries=self.model.model[-1].num_queries,
            pretrained=self.starts_pretrained(),
        )
        if lines:
            LOGGER.info("\n".join(["Suggested by the data (nothing was changed):", *(f"  {line}" for line in lines)]))

    def get_validator(self) -> RTDETRValidator:
        """The validator of this run."""
        return RTDETRValidator(self.test_loader, self.save_dir, self.args, self.callbacks)

    def build_validator(self, *, plots: bool) -> RTDETRValidator:
        validator = self.get_validator()
        validator.args = validator.args.replace(mode="val", plots=plots)
        return validator

    def get_model(
        self, cfg: str | Path | Mapping[str, Any], weights: Weights | None = None, verbose: bool = True
    ) -> RTDETRDetectionModel:
        """A new network for the classes of the data.

        Args:
            cfg: the model file, or its content.
            weights: those to start from, for `load` of the network; None to start anew.
            verbose: log the layer table, which the trainer does later, with all weights in place.
        """
        options, names = self.args, dict(self.train_loader.dataset.names)
        asked = {"num_queries": options.queries, "num_denoising": options.denoising, "modules": options.modules}
        changes = {key: value for key, value in asked.items() if value is not None}
        model = RTDETRDetectionModel(cfg, nc=len(names), verbose=verbose, overrides=changes)
        if weights is not None:
            load_weights(model, weights, names=names)
        return model

    def _resumed_model(self, names: dict[int, str]) -> nn.Module:
        """The network of the checkpoint, whose classes have to be those of the data."""
        if names != self.checkpoint["names"]:
            raise DataError(
                f"{self.args.data}: a resumed run keeps its classes; expected {self.checkpoint['names']}, got {names}."
            )
        return self.get_model(self.checkpoint["model_yaml"], None, verbose=False)

    def _new_model(self, names: dict[int, str]) -> nn.Module:
        """From the network, YAML or weights in `model`, with the weights of `pretrained` and `backbone_weights`.

        Rows of classes go by the classes' names; what does not fit starts anew.
        """
        options = self.args
        weights: Weights | None = None
        if self.model is not None:
            architecture, known = self.model.yaml, known_names(self.model.names)
            weights = Weights(self.model.state_dict(), options.model or "model", known)
        elif options.model and Path(options.model).suffix == ".pt":
            checkpoint = load_model_weights(options.model)
            architecture, known = checkpoint["model_yaml"], known_names(checkpoint["names"])
            weights = Weights(checkpoint["ema"] or checkpoint["model"], options.model, known)
        elif options.model:
            architecture = options.model
        else:
            raise OptionError("model: which model? Write model=rtdetr-r18.yaml, or the path of your YAML or weights.")
        if self._is_as_asked(names):
            model = self.model
        else:
            model = self.get_model(architecture, weights if options.pretrained else None, verbose=False)
        if isinstance(options.pretrained, str):
            load_weights(model, options.pretrained, names=names)
        if options.backbone_weights is not None:
            load_backbone(model, options.backbone_weights)
        return model

    def _is_as_asked(self, names: dict[int, str]) -> bool:
        """Whether the network given by the caller can go on training as it is."""
        changes = self.args.queries is not None or self.args.denoising is not None
        own = type(self).get_model is not RTDETRTrainer.get_model
        if self.model is None or changes or own or not self.args.pretrained or self.model.nc != len(names):
            return False
        return known_names(self.model.names) in (None, names)
