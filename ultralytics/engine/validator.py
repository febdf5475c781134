"""Validation: the model over a labelled split, its detections judged, and the results told, drawn and saved."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ultralytics.cfg.options import ConfigLike, resolve_options
from ultralytics.data.build import build_dataloader, build_dataset
from ultralytics.data.dataset_yaml import load_dataset_config
from ultralytics.engine.checkpoint import resolve_network
from ultralytics.metrics.coco_eval import CocoMetrics, coco_annotations, evaluate_coco
from ultralytics.metrics.detection import DetMetrics
from ultralytics.nn.accelerate import for_inference
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER, dist
from ultralytics.utils.callbacks import Callback, Callbacks, CallbacksMixin
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.errors import DataError, OptionError
from ultralytics.utils.files import run_dir, write_text
from ultralytics.utils.ops import scale_boxes, xywh2xyxy
from ultralytics.utils.plotting import plot_images
from ultralytics.utils.torch_utils import autocast, clock, compiled, half_dtype, select_device

DEFAULT_CONF = 0.001  # AP needs the uncertain detections, too
PLOTTED_BATCHES = 3
STAGES = ("preprocess", "inference", "postprocess")
T = TypeVar("T")


class BaseValidator(CallbacksMixin):
    """Validates a model; a task says how the network's output is read.

    Args:
        dataloader: batches of the split; made from the options at the first call when None.
        save_dir: where pictures and predictions.json go; a new run folder, made when first needed, when None.
        args: the options, or a YAML file or mapping of some, or None for the defaults.
        _callbacks: functions for the on_val_... events, which are given the validator.

    Attributes:
        metrics: result of the last call.
        loss_items: mean loss over the batches of the last call, when it was asked for.
        predictions: entries for predictions.json, with the options save_json or coco_eval.
    """

    network_class: type[DetectionModel] = DetectionModel  # for a file in the option `model`

    def __init__(
        self,
        dataloader: Any = None,
        save_dir: Path | None = None,
        args: ConfigLike = None,
        _callbacks: Callbacks | Mapping[str, Callback] | None = None,
    ) -> None:
        self.args = args = resolve_options(args, None, "val")
        if save_dir is not None:
            self.save_dir = Path(save_dir)
        self.dataloader = dataloader
        self.callbacks = _callbacks if isinstance(_callbacks, Callbacks) else Callbacks(_callbacks)
        self.conf = DEFAULT_CONF if args.conf is None else args.conf
        self.metrics: DetMetrics | None = None
        self.loss_items: Tensor | None = None
        self.predictions: list[dict] = []

    @cached_property
    def save_dir(self) -> Path:
        """The run folder, made when it is first needed."""
        return run_dir(self.args, "val")

    def __call__(
        self, model: nn.Module | str | Path | None = None, *, loss: bool = False, epoch: int | None = None
    ) -> DetMetrics:
        """Validate `model`, which is moved to the device of the options and put in eval mode.

        Args:
            model: the network, or its file; by default that of the option `model`.
            loss: also compute `loss_items`.
            epoch: of a training, counted from 0; told in one line, without predictions.json and official AP.

        Without a single labelled object the metrics are nan, which is said.
        """
        self.device = select_device(self.args.device)
        if self.args.half and self.device.type != "cuda":
            LOGGER.warning(f"half=True needs a CUDA GPU; {self.device} runs in float32")
        model = resolve_network(model or self.args.model, self.network_class, self.args.modules)
        if self.args.accelerate and not loss:  # in training the weights change between calls
            model = for_inference(model, self.device)
        model = model.to(self.device).eval()
        call = compiled(model) if self.args.compile else model
        if self.dataloader is None:
            self.dataloader = self.build_dataloader(model)
        self.dataset = self.dataloader.dataset
        self._check_classes(model)
        self.metrics = DetMetrics(
            self.dataset.names, **({} if self.args.conf is None else {"confusion_conf": self.conf})
        )
        self.predictions, self.seconds = [], dict.fromkeys(STAGES, 0.0)
        self.final = epoch is None
        losses: list[Tensor] = []
        if self.args.plots or self.args.save_json:
            self.save_dir.mkdir(parents=True, exist_ok=True)

        self.callbacks.run("on_val_start", self)
        with torch.no_grad():  # not inference mode: what a model caches must stay usable in training
            for index, batch in enumerate(self._progress()):
                self.callbacks.run("on_val_batch_start", self)
                batch = self._timed("preprocess", self.preprocess, batch)
                outputs = self._timed("inference", self.inference, call, batch["img"])
                if loss:
                    losses.append(model.loss(batch, outputs)[1])
                detections = self._timed("postprocess", self.postprocess, outputs, batch)
                self.update(detections, batch)
                if self.args.plots and index < PLOTTED_BATCHES and not dist.rank():
                    self._plot_batch(index, batch, detections)
                self.callbacks.run("on_val_batch_end", self)
        self._gather(losses)
        self._finish()
        self.callbacks.run("on_val_end", self)
        return self.metrics

    # What a task may change -------------------------------------------------------------------------------------------

    def build_dataloader(self, model: nn.Module) -> Any:
        """Batches of the option `split` of the option `data`."""
        if self.args.data is None:
            raise OptionError("val: no data set given; write data=my.yaml (or data=shapes.yaml for the built-in one)")
        config = load_dataset_config(self.args.data, (self.args.split,))
        size = check_imgsz(self.args.imgsz, int(max(model.stride)))
        dataset = build_dataset(self.args, config, self.args.split, training=False, imgsz=size)
        return build_dataloader(
            dataset, batch=self.args.batch, workers=self.args.workers, shuffle=False, seed=self.args.seed
        )

    def preprocess(self, batch: dict) -> dict:
        """Move the batch to the device; images become float RGB in 0..1."""
        batch = {k: v.to(self.device, non_blocking=True) if torch.is_tensor(v) else v for k, v in batch.items()}
        return {**batch, "img": batch["img"].float() / 255}

    def inference(self, model: nn.Module, images: Tensor) -> Any:
        """Output of the network for images (B, 3, H, W)."""
        with autocast(
            self.device, half_dtype(self.device) if self.args.half else None
        ):  # half precision without changing the caller's weights
            return model(images)

    def postprocess(self, outputs: Any, batch: dict) -> list[Tensor]:
        """Detections of each image: (n, 6) on the CPU, x1, y1, x2, y2 in pixels of `batch["img"]`, score, class."""
        raise NotImplementedError(f"{type(self).__name__} must say how the output of its network is read")

    # The rest ---------------------------------------------------------------------------------------------------------

    def update(self, detections: list[Tensor], batch: dict) -> None:
        """Judge the detections of a batch against its labels."""
        height, width = batch["img"].shape[2:]
        labels = torch.cat([batch["batch_idx"][:, None], batch["cls"], batch["bboxes"]], 1).cpu()  # (N, 6)
        boxes = xywh2xyxy(labels[:, 2:]) * labels.new_tensor([width, height, width, height])
        self.metrics.add_batch(detections, labels[:, 0], boxes, labels[:, 1])
        if self.final and (self.args.save_json or self.args.coco_eval):
            for i, found in enumerate(detections):
                self.predictions += self._coco_entries(found, batch, i)

    def _coco_entries(self, found: Tensor, batch: dict, i: int) -> list[dict]:
        """Detections of image i as entries of a COCO results file, in pixels of the original image."""
        size, original = batch["img"].shape[2:], batch["ori_shape"][i]
        corners = scale_boxes(size, found[:, :4], original, ratio_pad=batch["ratio_pad"][i]).double()
        corners[:, 2:] -= corners[:, :2]  # x1, y1, x2, y2 -> x, y, w, h
        category_ids = self._category_ids
        return [
            {
                "image_id": batch["image_id"][i],
                "category_id": category_ids[int(cls)],
                "bbox": [round(v, 3) for v in box],
                "score": round(score, 6),
            }
            for box, (score, cls) in zip(corners.tolist(), found[:, 4:].tolist(), strict=True)
        ]

    @property
    def names(self) -> dict[int, str]:
        """Class names by index, as the data set has them."""
        return self.dataset.names

    @property
    def _category_ids(self) -> list[int]:
        """COCO category id of each class: what the data set's json says, else the class index."""
        stated = None if self.args.single_cls else self.dataset.category_ids
        return list(stated or self.dataset.names)

    def _gather(self, losses: list[Tensor]) -> None:
        """Put together what the processes of a distributed run have found, in the order of the images."""
        parts = dist.gather((self.metrics, self.predictions, [items.cpu() for items in losses], self.seconds))
        if len(parts) > 1:
            metrics, predictions, by_rank, seconds = zip(*parts, strict=True)
            self.metrics = DetMetrics.merge(metrics, self.dataloader.batch_size)
            self.predictions = [entry for part in predictions for entry in part]
            self.seconds = {stage: sum(part[stage] for part in seconds) for stage in STAGES}
            losses = dist.interleave(by_rank)
        self.loss_items = torch.stack(losses).mean(0) if losses else None

    def _finish(self) -> None:
        """Compute the metrics, tell them, and write what was asked for."""
        metrics = self.metrics.process()
        metrics.speed = {stage: 1000 * s / max(metrics.seen, 1) for stage, s in self.seconds.items()}
        if not metrics.labels.sum():
            LOGGER.warning(
                f"{self.dataset.config.yaml_file or 'data'}, {self.dataset.split}: none of the {metrics.seen} images "
                "has a labelled object, so precision, recall and AP do not exist (nan); check the label files"
            )
        elif self.final:
            LOGGER.info(metrics.table(classes=self.args.verbose))
        else:
            p, r, map50, map_ = metrics.mean_results()
            LOGGER.info(f"  val: P {p:.3f}  R {r:.3f}  mAP50 {map50:.3f}  mAP50-95 {map_:.3f}  ({metrics.seen} images)")
        if self.final:
            LOGGER.info(
                "Speed: " + ", ".join(f"{ms:.1f} ms {stage}" for stage, ms in metrics.speed.items()) + " an image"
            )
        if dist.rank():
            return
        if self.args.plots:
            metrics.box.plot(metrics.names, self.save_dir)
            for normalize in (False, True):
                metrics.confusion_matrix.plot(normalize=normalize, save_dir=self.save_dir)
        if self.final and self.args.save_json:
            write_text(self.save_dir / "predictions.json", json.dumps(self.predictions))
        if self.final and self.args.coco_eval and metrics.labels.sum():
            metrics.coco = self._official_metrics()
            LOGGER.info(str(metrics.coco))
        if self.final and (self.args.plots or self.args.save_json):
            LOGGER.info(f"Results saved to {self.save_dir}")

    def _official_metrics(self) -> CocoMetrics:
        """COCO's own numbers, by the data set's json where its classes are judged as they are, else by the labels."""
        dataset = self.dataset
        annotations = dataset.config.annotations.get(dataset.split)
        if annotations is None or self.args.single_cls or self.args.classes is not None:
            annotations = coco_annotations(dataset.labels, dataset.names, self._category_ids)
        return evaluate_coco(annotations, self.predictions, [item.image_id for item in dataset.labels])

    def _check_classes(self, model: nn.Module) -> None:
        """The classes of model and data set must be the same in number; other names are only remarked on."""
        where, names = self.dataset.config.yaml_file or "data", self.dataset.names
        if self.args.single_cls:
            return
        if len(model.names) != len(names):
            raise DataError(
                f"{where}: has {len(names)} classes, the model {len(model.names)}; validate with the data set it was "
                "trained on, or with one of the same classes"
            )
        for index, name in names.items():
            if model.names[index] != name:
                LOGGER.warning(f"{where}: class {index} is {name!r}, for the model it is {model.names[index]!r}")
                return

    def _plot_batch(self, index: int, batch: dict, detections: list[Tensor]) -> None:
        plot_images(batch, self.save_dir / f"val_batch{index}_labels.jpg", self.dataset.names)
        plot_images(batch, self.save_dir / f"val_batch{index}_pred.jpg", self.dataset.names, detections=detections)

    def _progress(self) -> tqdm:
        shown = self.args.verbose and sys.stderr.isatty()
        return tqdm(self.dataloader, "Validating", leave=False, dynamic_ncols=True, disable=not shown)

    def _timed(self, stage: str, work: Callable[..., T], *arguments: Any) -> T:
        """The result of `work`, its time (the GPU's included) added to the stage."""
        start = clock(self.device)
        result = work(*arguments)
        self.seconds[stage] += clock(self.device) - start
        return result
