"""Training of RT-DETR."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ultralytics.data.advice import small_data_advice
from ultralytics.data.build import EpochLoader, build_dataloader, build_dataset
from ultralytics.data.utils import load_dataset_config
from ultralytics.engine.checkpoint import load_model_weights
from ultralytics.engine.distribute import share_of_batch
from ultralytics.engine.trainer import BaseTrainer, training_sides
from ultralytics.models.rtdetr.val import RTDETRValidator
from ultralytics.models.utils.loss import RTDETRDetectionLoss
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.nn.weights import Weights, known_names, load_backbone, load_weights
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, ModelConfigError, OptionError
from ultralytics.utils.flops import run_copy


class RTDETRTrainer(BaseTrainer):
    """Trains an RT-DETR on a detection data set: images stretched to a square, never padded to a rectangle."""

    loss_names = ("giou_loss", "cls_loss", "l1_loss")

    def load_data(self) -> tuple[EpochLoader, EpochLoader]:
        options = self.args
        if options.data is None:
            raise OptionError("data: which data set? Write data=shapes.yaml (built in), or the path of your data YAML.")
        self.data = load_dataset_config(options.data, ("train", "val"))
        self.datasets = {
            split: build_dataset(options, self.data, split, training=split == "train", imgsz=options.imgsz)
            for split in ("train", "val")
        }
        return self.build_loaders()

    def build_loaders(self) -> tuple[EpochLoader, EpochLoader]:
        options = self.args
        share = {"batch": share_of_batch(options.batch), "workers": options.workers, "seed": options.seed}
        training, validation = self.datasets["train"], self.datasets["val"]
        return build_dataloader(training, shuffle=True, **share), build_dataloader(validation, shuffle=False, **share)

    def build_model(self) -> nn.Module:
        options, names = self.args, dict(self.train_loader.dataset.names)
        model = self._resumed_model(names) if self.checkpoint is not None else self._new_model(names)
        model.names = names
        gains = {"class": options.loss_cls, "bbox": options.loss_bbox, "giou": options.loss_giou}
        model.criterion = RTDETRDetectionLoss(
            nc=model.nc, loss_gain=gains, loss_class=options.loss_class, one_to_many=options.one_to_many
        )
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
        lines = small_data_advice(
            self.train_loader.dataset.labels,
            self.args,
            queries=self.model.model[-1].num_queries,
            pretrained=self.starts_pretrained(),
        )
        if lines:
            LOGGER.info("\n".join(["Suggested by the data (nothing was changed):", *(f"  {line}" for line in lines)]))

    def build_validator(self, *, plots: bool) -> RTDETRValidator:
        options = self.args.replace(mode="val", plots=plots)
        return RTDETRValidator(options, save_dir=self.save_dir, dataloader=self.val_loader, callbacks=self.callbacks)

    def _resumed_model(self, names: dict[int, str]) -> nn.Module:
        """The network of the checkpoint, whose classes have to be those of the data."""
        if names != self.checkpoint["names"]:
            raise DataError(
                f"{self.args.data}: a resumed run keeps its classes; expected {self.checkpoint['names']}, got {names}."
            )
        folders = {"modules": self.args.modules}
        return RTDETRDetectionModel(self.checkpoint["model_yaml"], nc=self.checkpoint["nc"], overrides=folders)

    def _new_model(self, names: dict[int, str]) -> nn.Module:
        """From the network, YAML or weights in `model`, with the weights of `pretrained` and `backbone_weights`.

        Rows of classes go by the classes' names; what does not fit starts anew.
        """
        options = self.args
        asked = {"num_queries": options.queries, "num_denoising": options.denoising, "modules": options.modules}
        changes = {key: value for key, value in asked.items() if value is not None}
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
        if self._is_as_asked(names, set(changes) - {"modules"}):
            model = self.model
        else:
            model = RTDETRDetectionModel(architecture, nc=len(names), overrides=changes)
            if weights is not None and options.pretrained:
                load_weights(model, weights, names=names)
        if isinstance(options.pretrained, str):
            load_weights(model, options.pretrained, names=names)
        if options.backbone_weights is not None:
            load_backbone(model, options.backbone_weights)
        return model

    def _is_as_asked(self, names: dict[int, str], changes: set[str]) -> bool:
        """Whether the network given by the caller can go on training as it is."""
        if self.model is None or changes or not self.args.pretrained or self.model.nc != len(names):
            return False
        return known_names(self.model.names) in (None, names)
