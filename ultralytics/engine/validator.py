"""Validation: run the model over a labeled split, match its detections, log, draw and save the metrics."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ultralytics.cfg.family import Family
from ultralytics.cfg.options import ConfigLike, resolve_options
from ultralytics.data.build import build_dataset, loader_of
from ultralytics.data.dataset import DetectionDataset
from ultralytics.data.dataset_yaml import load_dataset_config
from ultralytics.data.labels import read_coco_json
from ultralytics.engine.checkpoint import resolve_network, with_branch
from ultralytics.engine.results import Results
from ultralytics.engine.train_state import NamedItems, TrainState
from ultralytics.metrics.boxes import EvalBoxes
from ultralytics.metrics.coco_files import as_json, coco_annotations, label_columns, numbered
from ultralytics.metrics.detection import DetMetrics
from ultralytics.metrics.error_report import write_error_report
from ultralytics.metrics.matching import IOU_THRESHOLDS, as_rows, by_name, true_positives
from ultralytics.metrics.protocols import evaluate, find_protocol
from ultralytics.nn.accelerate import for_inference
from ultralytics.nn.head_protocol import can_augment, multi_scale
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER, dist, progress
from ultralytics.utils.callbacks import Callback, Callbacks, CallbacksMixin
from ultralytics.utils.checks import check_imgsz, image_stride
from ultralytics.utils.errors import DataError, OptionError, counted, reported
from ultralytics.utils.files import run_dir, short_name, write_text
from ultralytics.utils.ops import box_iou, scale_boxes, xywh2xyxy
from ultralytics.utils.overrides import Default
from ultralytics.utils.plotting import plot_images
from ultralytics.utils.torch_utils import Stopwatch, autocast, compiled, half_dtype, select_device

DEFAULT_CONF = 0.001  # AP needs detections of low confidence
CONFUSION_CONF = 0.25
PLOTTED_BATCHES = 3


class BaseValidator(CallbacksMixin):
    """Validate a model. Subclasses implement `postprocess`. Methods to override: see docs/en/train.md.

    Args:
        dataloader: batches of the split; built from the options at the first call by default.
        save_dir: folder for images and predictions.json; a new run folder, created on first use, by default.
        args: the options, a YAML file or mapping of some, or None for the defaults.
        _callbacks: functions for the on_val_... events, which receive the validator.

    Attributes:
        metrics: result of the last call; it is `final` if it is no epoch of a training.
        loss_items: mean loss over the batches of the last call, if requested.
        boxes: detections and labels of the last call, in pixels of the original images, for `metrics.protocols`.
    """

    family: Family | None = None
    network_class: type[DetectionModel] = DetectionModel  # built from the file in the option `model`
    seen, speed, confusion_matrix = (Default(attrgetter(f"metrics.{n}")) for n in ("seen", "speed", "confusion_matrix"))
    names, is_coco = Default(attrgetter("dataset.names")), Default(lambda self: self.dataset.json_file is not None)
    class_map, loss = (Default(attrgetter(name)) for name in ("_category_ids", "loss_items"))
    metrics = Default(lambda self: DetMetrics())  # until the first run
    iouv, niou, final, is_lvis = torch.from_numpy(IOU_THRESHOLDS).float(), len(IOU_THRESHOLDS), False, False
    nc, training = Default(lambda self: len(self.names)), Default(lambda self: not self.final)

    def __init__(
        self, dataloader: Any = None, save_dir: Path | None = None, args: ConfigLike = None,
        _callbacks: Callbacks | Mapping[str, Callback] | None = None,
    ) -> None:  # fmt: skip
        self.args = args = resolve_options(args, None, "val", self.family)
        if save_dir is not None:
            self.save_dir = Path(save_dir)
        self.dataloader = dataloader
        self.callbacks = _callbacks if isinstance(_callbacks, Callbacks) else Callbacks(_callbacks)
        self.conf = DEFAULT_CONF if args.conf is None else args.conf

    @cached_property
    def save_dir(self) -> Path:
        """Folder of the run, created on first use."""
        return run_dir(self.args.project, self.args.name or "val", exist_ok=self.args.exist_ok)

    def __call__(self, trainer: Any = None, model: nn.Module | str | Path | None = None) -> dict:
        """Return metrics and fitness, by the columns of results.csv, of the model of `run`, perhaps the first argument.

        With a trainer, validate its averaged weights in its epoch, and add the mean losses.
        """
        losses = ()
        if isinstance(trainer, TrainState):
            self.data, self.stride = trainer.data, trainer.stride
            self.run(trainer.ema.ema, loss=True, epoch=trainer.epoch)
            losses = zip(trainer.loss_names, self.loss_items.tolist(), strict=True)
        else:
            self.run(trainer if model is None else model)
        return {key: float(value) for key, value in self.stats.items()} | {f"val/{name}": v for name, v in losses}

    def run(
        self, model: nn.Module | str | Path | None = None, *, loss: bool = False, epoch: int | None = None
    ) -> DetMetrics:
        """Return the metrics of `model`; they are nan, with a warning, without any labeled object.

        Args:
            model: the network, or its file; by default that of the option `model`.
            loss: also compute `loss_items`.
            epoch: epoch of a training, from 0; logs one line, and skips predictions.json and the official COCO metrics.
        """
        args, self.final, self._found, self.jdict = self.args, epoch is None, [], []
        model = self._setup_model(model or args.model, accelerate=None if loss else args.accelerate)
        self.layout = getattr(model, "layout", None)
        call = compiled(model) if args.compile else model
        if self.dataloader is None:
            self.dataloader = self.build_dataloader(model)
        self.dataset = self.dataloader.dataset
        self._check_classes(model)
        self._check_image_ids()
        own = self.dataset.config.evaluation
        name = args.protocol or own.get("protocol") or "coco"
        self._protocol = find_protocol(name, own.get("areas"), own.get("limit"))
        self.init_metrics(model)
        watch, losses = Stopwatch(self.device, "loss"), []
        if args.plots or args.save_json:
            self.save_dir.mkdir(parents=True, exist_ok=True)

        self.callbacks.run("on_val_start", self)
        with torch.no_grad():  # not inference mode: tensors that a model caches must be usable in training
            for index, batch in enumerate(progress(self.dataloader, self.get_desc(), shown=args.verbose)):
                self.batch_i = index
                self.callbacks.run("on_val_batch_start", self)
                with watch("preprocess"):
                    self.batch = batch = self.preprocess(batch)
                with watch("inference"):
                    outputs = self.inference(call, batch["img"])
                if loss:
                    with watch("loss"):
                        losses.append(NamedItems.of(model.loss(batch, outputs)[1]).cpu())
                with watch("postprocess"):
                    preds = self.postprocess(outputs)
                self.update_metrics(preds, batch)
                if args.plots and index < PLOTTED_BATCHES and not dist.rank():
                    self.plot_val_samples(batch, index)
                    self.plot_predictions(batch, preds, index)
                self.callbacks.run("on_val_batch_end", self)
        self._merge_ranks(losses, watch)
        self.metrics.save_dir = Path(vars(self).get("save_dir", "."))
        self.metrics.data = (Path(self._data).name, self.dataset.split, self.dataset.fingerprint)
        with reported("protocol"):
            self._evaluate()
        self.stats = self.get_stats()
        self.metrics.speed = watch.per_image(self.metrics.seen)
        self.print_results()
        if not dist.rank():
            self.finalize_metrics()
            if self.final and args.save_json:
                with reported("predictions.json"):
                    write_text(self.save_dir / "predictions.json", json.dumps(self.jdict))
                self.stats = self.eval_json(self.stats)
        self.callbacks.run("on_val_end", self)
        return self.metrics

    def _setup_model(self, model: Any, *, accelerate: bool | None) -> nn.Module:
        """Select the device; return the network on it, in eval mode. None in training: the weights change."""
        self.device = select_device(self.args.device)
        if self.args.half and self.device.type != "cuda":
            LOGGER.warning(f"half=True needs a CUDA GPU; {self.device} runs in float32")
        model = resolve_network(model, self.network_class, self.args.modules, trust=self.args.trust)
        augment = self.args.augment and accelerate is not None
        model = with_branch(model, self.args.end2end, self.args.max_det, augment)
        self.augment = augment and can_augment(model)
        model = model if accelerate is None else for_inference(model, self.device, rewrite=accelerate)
        return model.to(self.device).eval()

    def build_dataloader(self, model: nn.Module) -> Any:
        """Build the batches of the options `data` and `split`."""
        args = self.args
        if args.data is None:
            raise OptionError("val: no data set given; write data=my.yaml (or data=shapes.yaml for the built-in one)")
        self.data, self.stride = load_dataset_config(args.data, (args.split,)), image_stride(model)
        self.rect = args.rect is not False and not getattr(model, "fixed_size", False)
        return self.get_dataloader(self.data.splits[args.split], args.batch)

    def get_dataloader(self, dataset_path: str | Path | Iterable[Path], batch_size: int) -> Any:
        """Return the batches of the images of a path."""
        args, dataset = self.args, self.build_dataset(dataset_path, self.args.split, batch_size)
        return loader_of(dataset, batch=batch_size, workers=args.workers, shuffle=False, seed=args.seed)

    def build_dataset(
        self, img_path: str | Path | Iterable[Path], mode: str = "val", batch: int | None = None
    ) -> DetectionDataset:
        """Return the labeled images of `img_path` for the split `mode`."""
        return build_dataset(
            self.args, self.data.with_split(mode, img_path), mode, training=False, stride=self.stride, rect=self.rect,
            imgsz=check_imgsz(self.args.imgsz, self.stride), resize=self.family.resize if self.family else "stretch",
        )  # fmt: skip

    def get_desc(self) -> str:
        """Return the text before the progress bar."""
        return "Validating"

    def init_metrics(self, model: nn.Module) -> None:
        """Start the metrics of a run."""
        conf = CONFUSION_CONF if self.args.conf is None else self.args.conf
        self.metrics = DetMetrics(self.dataset.names, confusion_conf=conf)

    def preprocess(self, batch: dict) -> dict:
        """Move the batch to the device; images become float RGB in 0..1."""
        batch = {k: v.to(self.device, non_blocking=True) if torch.is_tensor(v) else v for k, v in batch.items()}
        return {**batch, "img": batch["img"].float() / 255}

    def inference(self, model: nn.Module, images: Tensor) -> Any:
        """Return the network's output for images (B, 3, H, W)."""
        with autocast(self.device, half_dtype(self.device) if self.args.half else None):
            return (multi_scale(model, images, model.stride), None) if self.augment else model(images)

    def postprocess(self, preds: Any) -> list[dict[str, Tensor]]:
        """Return the detections of each image of `self.batch`: bboxes x1, y1, x2, y2 in pixels of `img`, conf, cls.

        Rows (n, 6) of these are accepted, too.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement postprocess(preds)")

    def plot_val_samples(self, batch: dict, ni: int) -> None:
        """Draw the labels of a batch; `ni` is its number."""
        plot_images(batch, fname=self.save_dir / f"val_batch{ni}_labels.jpg", names=self.names)

    def plot_predictions(self, batch: dict, preds: list[dict[str, Tensor]], ni: int) -> None:
        """Draw the detections of a batch."""
        rows = [as_rows(found) for found in preds]
        plot_images(batch, fname=self.save_dir / f"val_batch{ni}_pred.jpg", names=self.names, detections=rows)

    def get_stats(self) -> dict[str, float]:
        """Compute the metrics from all batches; return them by name, in a training for the columns of results.csv."""
        self.metrics.process()
        return self.metrics.results_dict

    def update_metrics(self, preds: list[dict[str, Tensor]], batch: dict) -> None:
        """Match the detections of each image of a batch with its labels."""
        batch = {**batch, **{key: batch[key].cpu() for key in ("batch_idx", "cls", "bboxes")}}
        for si, found in enumerate(preds):
            predn, pbatch = self._prepare_pred(found), self._prepare_batch(si, batch)
            own = {"target_cls": pbatch["cls"], "pred_cls": predn["cls"], "conf": predn["conf"]}.items()
            self.metrics.update_stats({k: x.cpu().numpy() for k, x in own} | self._process_batch(predn, pbatch))
            self.confusion_matrix.process_batch(predn, pbatch)
            if "ori_shape" not in batch:  # of another loader
                continue
            scaled, pbatch["image_id"] = self.scale_preds(predn, pbatch), batch["image_id"][si]
            self._found.append(as_json(scaled, self._image_of[pbatch["image_id"]]))
            file = self.args.save_txt and self.save_dir / "labels" / short_name(Path(pbatch["im_file"]).stem, ".txt")
            if self.final and file:
                file.unlink(missing_ok=True)  # of an earlier run with exist_ok
            if not self.final or not len(predn["cls"]):
                continue
            if self.args.save_json:
                self.pred_to_json(scaled, pbatch)
            if file:
                self.save_one_txt(scaled, self.args.save_conf, batch["ori_shape"][si], file)

    def _prepare_batch(self, si: int, batch: dict) -> dict[str, Any]:
        """Return the labels of image `si` of a batch: cls (m,), bboxes (m, 4) in pixels of `img`, and of its file."""
        mine, size = batch["batch_idx"] == si, batch["img"].shape[2:]
        boxes = xywh2xyxy(batch["bboxes"][mine]) * torch.tensor([*size[::-1]] * 2)
        own = {key: batch[key][si] for key in ("ori_shape", "ratio_pad", "im_file") if key in batch}
        return {"cls": batch["cls"][mine].view(-1), "bboxes": boxes, "imgsz": size, **own}

    def _prepare_pred(self, pred: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the detections of an image on the CPU."""
        return by_name(as_rows(pred))

    def _process_batch(self, preds: dict[str, Tensor], batch: dict[str, Any]) -> dict[str, np.ndarray]:
        """Return whether each detection of an image is a true positive, `tp` (n, 10)."""
        if not len(preds["cls"]) or not len(batch["cls"]):
            return {"tp": np.zeros((len(preds["cls"]), self.niou), bool)}
        iou = box_iou(batch["bboxes"], preds["bboxes"])
        return {"tp": self.match_predictions(preds["cls"], batch["cls"], iou).cpu().numpy()}

    def match_predictions(self, pred_classes: Tensor, true_classes: Tensor, iou: Tensor) -> Tensor:
        """Match the detections of an image, by descending score, with its labels; iou is (m, n), the result (n, 10)."""
        return torch.from_numpy(true_positives(*(x.cpu().numpy() for x in (iou, pred_classes, true_classes))))

    def scale_preds(self, predn: dict[str, Tensor], pbatch: dict[str, Any]) -> dict[str, Tensor]:
        """Return the detections of an image with boxes in pixels of its file."""
        boxes = scale_boxes(pbatch["imgsz"], predn["bboxes"], pbatch["ori_shape"], pbatch["ratio_pad"])
        return {**predn, "bboxes": boxes}

    def pred_to_json(self, predn: dict[str, Tensor], pbatch: dict[str, Any]) -> None:
        """Append the detections of an image to `jdict`, the entries of a COCO results file."""
        categories = self.class_map
        self.jdict += [
            {"image_id": pbatch["image_id"], "category_id": categories[int(cls)], "bbox": box, "score": score}
            for _, cls, score, *box in as_json(predn).tolist()
        ]

    def save_one_txt(self, predn: dict[str, Tensor], save_conf: bool, shape: tuple[int, int], file: Path) -> None:
        """Write the detections of an image of `shape` (height, width) to a label file."""
        Results(np.empty((*shape, 3), np.uint8), str(file), self.names, as_rows(predn)).save_txt(file, save_conf)

    def eval_json(self, stats: dict[str, float]) -> dict[str, float]:
        """Return the metrics of a run with predictions.json; an override may add those of another evaluator."""
        return stats

    @property
    def _category_ids(self) -> list[int]:
        """COCO category id of each class: from the data set's JSON, else from 1."""
        stated = None if self.args.single_cls else self.dataset.category_ids
        return list(stated or numbered(self.names))

    @cached_property
    def _image_of(self) -> dict[int | str, int]:
        """Index of each image in the data set by its id."""
        return {item.image_id: i for i, item in enumerate(self.dataset.source.labels)}

    @cached_property
    def _labels(self) -> list[np.ndarray]:
        """Columns of the labels: of the data set's JSON unless options or turned images change it."""
        dataset = self.dataset
        if dataset.json_file is None or self.args.single_cls or self.args.classes is not None:
            content = coco_annotations(dataset.source.labels, self.names, self._category_ids)
        else:
            content = read_coco_json(dataset.json_file, named=False).truth()
            known = self._image_of  # a part of the images with `fraction`
            content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in known]
        return label_columns(content, self._image_of, {c: i for i, c in enumerate(self._category_ids)})

    def _merge_ranks(self, losses: list[Tensor], watch: Stopwatch) -> None:
        """Merge the results of all ranks, in the order of the images."""
        parts = dist.gather((self.metrics, self._found, self.jdict, losses, watch.seconds))
        if len(parts) > 1:
            metrics, found, entries, by_rank, seconds = zip(*parts, strict=True)
            self.metrics = DetMetrics.merge(metrics, self.dataloader.batch_size)
            self._found, self.jdict = list(chain(*found)), list(chain(*entries))
            for stage, profile in watch.stages.items():
                profile.t = sum(part[stage] for part in seconds)
            losses = list(chain(*by_rank))
        self.loss_items = torch.stack(losses).mean(0) if losses else None

    def _evaluate(self) -> None:
        """Evaluate by the rules of `protocol` beside those of the published package."""
        if not self._found or not self.metrics.labels.sum():
            return
        image, cls, score, *box = np.concatenate(self._found).T
        found = (image.astype(np.int64), cls.astype(np.int64), score, np.column_stack(box))
        files = [str(item.file) for item in self.dataset.source.labels]
        self.boxes = EvalBoxes.build(list(self._image_of), self.names, found, self._labels, files)
        self.metrics.evaluation = evaluate(self.boxes, self._protocol)

    def print_results(self) -> None:
        """Log metrics and speed."""
        metrics = self.metrics
        if not metrics.labels.sum():
            LOGGER.warning(
                f"{self._data}, {self.dataset.split}: none of {counted(metrics.seen, 'image')} has a labeled object, "
                "so precision, recall and AP are nan; check the label files"
            )
        elif self.final:
            LOGGER.info(metrics.table(classes=self.args.verbose))
        else:
            p, r, map50, map_ = metrics.mean_results()
            best = f"P {p:.3f}  R {r:.3f} at confidence {metrics.box.conf:.3f}"
            LOGGER.info(f"  val: {best}  mAP50 {map50:.3f}  mAP50-95 {map_:.3f}  ({counted(metrics.seen, 'image')})")
        if self.final:
            speed = ", ".join(f"{ms:.1f} ms {stage}" for stage, ms in metrics.speed.items())
            LOGGER.info(f"Speed: {speed} per image")

    def finalize_metrics(self) -> None:
        """Save plots, and show the official COCO metrics, by the options."""
        metrics, args = self.metrics, self.args
        if self.final and args.coco_eval and metrics.evaluation:
            LOGGER.info(str(metrics.evaluation))
        if args.plots:
            with reported("plots"):
                metrics.box.plot(metrics.names, self.save_dir, **args.figure_style)
                for normalize in (False, True):
                    metrics.confusion_matrix.plot(normalize=normalize, save_dir=self.save_dir, **args.figure_style)
        if self.final and args.plots and metrics.evaluation:
            with reported("report.html"):
                how = {"conf": metrics.confusion_matrix.conf, "files": self.boxes.files, **args.figure_style}
                how["limit"] = self._protocol.limits[-1]
                write_error_report(self.boxes, self.save_dir, ", ".join(metrics.data[:2]), **how)
        if self.final and (args.plots or args.save_json or args.save_txt):
            LOGGER.info(f"Results saved to {self.save_dir}")

    def _check_classes(self, model: nn.Module) -> None:
        """Warn of classes that the data set lacks or has under other names; raise DataError if the model has fewer."""
        if self.args.single_cls:
            return
        if len(model.names) != len(self.names):
            differ = f"{self._data}: has {counted(len(self.names), 'class')}, the model {len(model.names)}; "
            if len(model.names) < len(self.names):
                raise DataError(f"{differ}validate with the data set of its training, or one with the same classes")
            known = self.names if self.args.classes is None else set(self.args.classes) & {*self.names}
            self.args = self.args.replace(classes=[*known])
            LOGGER.warning(f"{differ}detections of classes that the data set lacks are left out")
        if other := sorted(self.names.items() - model.names.items()):
            more = f" and {len(other) - 3} more" if len(other) > 3 else ""
            LOGGER.warning(f"{self._data}: the classes {dict(other[:3])}{more} have other names in the model")

    def _check_image_ids(self) -> None:
        """Before a run with save_json: raise for what would end it afterwards, and show unusual ids."""
        if not self.final or not self.args.save_json:
            return
        ids = [item.image_id for item in self.dataset.source.labels]
        if doubled := [image_id for image_id, count in Counter(ids).items() if count > 1]:
            raise DataError(f"{self._data}: several images have the id {doubled[0]!r}, expected unique ids in the json")
        if self.dataset.json_file is None and self.dataset.category_ids is not None:
            LOGGER.warning(
                f"{self._data}: sizes in the json are not those of the images, but predictions.json has pixels of the "
                "upright images; compare it with the json that `yolo yolo2coco data=...` writes"
            )
        if self.dataset.category_ids is None and str(ids[0]).endswith(self.dataset.source.labels[0].file.name):
            LOGGER.warning(f"{self._data}: images share a name, so their ids are paths, such as {ids[0]!r}")

    @property
    def _data(self) -> str:
        """Data set in messages."""
        return str(self.dataset.config.yaml_file or "data")
