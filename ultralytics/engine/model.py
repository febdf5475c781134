"""`Model`: the user interface, built from a model file or weights, with train, val, predict and export."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from textwrap import shorten
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ultralytics.cfg.family import Family
from ultralytics.cfg.model_yaml import ModelSpec, load_model_yaml
from ultralytics.cfg.options import Options, check_options, get_cfg, merge_file, unread_options
from ultralytics.engine import checkpoint as checkpoints
from ultralytics.engine.trust import recorded_data
from ultralytics.metrics.detection import DetMetrics
from ultralytics.metrics.summary_table import SummaryTable, summary_table
from ultralytics.nn.formats import find_format
from ultralytics.nn.head_protocol import resembles
from ultralytics.nn.registry import find_class
from ultralytics.nn.tasks import DetectionModel
from ultralytics.nn.weights import CLASS_ROWS, as_weights, known_names, load_weights
from ultralytics.utils import ASSETS, LOGGER, setup_logging
from ultralytics.utils.callbacks import Callbacks, CallbacksMixin
from ultralytics.utils.checks import check_imgsz, image_stride
from ultralytics.utils.dist import rank, started_by_torchrun
from ultralytics.utils.downloads import released
from ultralytics.utils.errors import ModelConfigError, OptionError, UserError, WeightsError, explained_memory, reported
from ultralytics.utils.flops import ModelInfo
from ultralytics.utils.public import public_names
from ultralytics.utils.tables import Column, Table
from ultralytics.utils.torch_utils import checksum, count_devices, is_edited

if TYPE_CHECKING:  # imported on first use, by the subclass
    from ultralytics.engine.predictor import BasePredictor
    from ultralytics.engine.results import Results
    from ultralytics.engine.trainer import BaseTrainer
    from ultralytics.engine.validator import BaseValidator

BUILDING = Lock()  # one thread builds a network, others wait for it
# Options that a mode takes from the training of the weights by default.
INHERITED = {"train": ("imgsz", "single_cls"), "val": ("data", "imgsz", "single_cls", "classes")}
INHERITED |= {"predict": ("imgsz",), "export": ("data", "imgsz")}


class Model(CallbacksMixin):
    """A detector. Subclasses state the classes of its network, trainer, validator and predictor.

    An instance is of the subclass that its file belongs to, by the last row of the model file.

    Args:
        model: a model file (`.yaml`, or the name of one in the package), weights (`.pt`, also published ones, or
            `.safetensors`), an exported model, or the name of released weights (`yolo11n.pt`, `rtdetr_r18vd`).
        verbose: log to the terminal.
        modules: folders with module files, searched when the network is built.
        trust: import the module folders that the weights record, and use the data set that they record.

    Raises:
        ModelConfigError: the model file does not exist or is not valid.
        WeightsError: the weights cannot be read.
    """

    task = "detect"
    family: Family
    head_class: type[nn.Module]  # the last layer of its networks
    layouts: tuple[str, ...]  # of its exported models
    network_class: type[DetectionModel] = DetectionModel
    trainer_class: type[BaseTrainer]
    validator_class: type[BaseValidator]
    predictor_class: type[BasePredictor]

    def __init__(
        self, model: str | Path, verbose: bool = True, *, modules: str | list[str] | None = None, trust: bool = False
    ) -> None:
        setup_logging(verbose)
        self.source = str(model)
        self.callbacks = Callbacks()
        self.trainer: BaseTrainer | None = None
        self.predictor: BasePredictor | None = None
        self.metrics: DetMetrics | None = None
        self.folders, self.trust = [modules] if isinstance(modules, str) else modules, trust  # or the option `modules`
        self.checkpoint: dict[str, Any] | None = None
        self._validated_imgsz = 0  # of the validation that gave `metrics`
        self._loaded, self._checksum = False, 0.0  # whether the weights are not those of `source`; of these
        suffix = Path(self.source).suffix.lower()
        spec: ModelSpec | None = None
        if suffix in (".yaml", ".yml"):
            spec = load_model_yaml(self.source)  # report errors of the file now, not at the first use
        elif suffix in (".pt", ".safetensors") or released(self.source):
            try:
                self.checkpoint = checkpoints.load_model_weights(self.source)
            except WeightsError:  # `train(resume=True)` takes an older checkpoint of the run; every other use raises
                if not checkpoints.older_checkpoint(Path(self.source)):
                    raise
        elif not self.is_exported:
            raise ModelConfigError(
                f"model {self.source!r}: expected a model file (.yaml), weights (.pt) or an exported model"
            )
        if recorded := self.checkpoint or (suffix == ".pt" and checkpoints.older_checkpoint(Path(self.source))[1]):
            architecture = recorded["model_yaml"]
            spec = load_model_yaml({**architecture, "modules": architecture.get("modules") if trust else None})
        self._choose_class(spec)

    def _choose_class(self, spec: ModelSpec | None) -> None:
        """Become an instance of the subclass for the last row of the model file, or the layout of an exported model."""
        families = [cls for cls in Model.__subclasses__() if "family" in vars(cls)]
        found, head = spec.rows[-1].module if spec else self.model.layout, None
        if spec:
            try:
                head = find_class(found, (*(self.folders or ()), *spec.modules))
            except ModelConfigError as error:
                if type(self) is Model:  # otherwise reported when the network is built
                    if self.checkpoint is not None:  # with the folders that the file records
                        settings = self.network_class, self.folders, self.source
                        checkpoints.load_network(self.checkpoint, *settings, trust=self.trust)
                    raise ModelConfigError(f"{spec.rows[-1].where}: {error}") from error
        fits = [cls for cls in families if (head and resembles(head, cls.head_class)) or found in cls.layouts]
        if not fits and type(self) is Model:
            heads = ", ".join(cls.head_class.__name__ for cls in families)
            raise ModelConfigError(f"{self.source}: the last layer is {found}, expected {heads} or a subclass")
        if fits and not isinstance(self, fits[0]) and type(self) in (Model, *families):  # not of a user
            if type(self) is not Model:
                LOGGER.info(f"{self.source}: has {found}: {fits[0].__name__} in place of {type(self).__name__}")
            self.__class__ = fits[0]

    @cached_property
    def model(self) -> nn.Module:
        """Network, built on first use; an `ExportedModel` for an exported model."""
        with BUILDING:
            if "model" not in vars(self):
                settings = self.network_class, self.folders
                if self.checkpoint is None:
                    self.model = checkpoints.resolve_network(self.source, *settings, trust=self.trust)
                else:
                    self.model = checkpoints.load_network(self.checkpoint, *settings, self.source, trust=self.trust)
                    self.checkpoint = {**self.checkpoint, **dict.fromkeys(checkpoints.TENSORS)}  # free memory
                if not self.is_exported:
                    self._checksum = checksum(self.model)
                    recorded = (self.checkpoint or {}).get("options") or {}
                    kept = {key: recorded[key] for key in ("data", "imgsz", "single_cls") if key in recorded}
                    self.model.args = get_cfg(check_options(kept, f"{self.source}: "), family=self.family)
            return vars(self)["model"]

    @property
    def is_exported(self) -> bool:
        """Exported models can only validate and predict."""
        return find_format(self.source) is not None

    @property
    def names(self) -> dict[int, str]:
        """Class names by index."""
        return self.model.names

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.model.parameters()).device

    def train(self, trainer: type[BaseTrainer] | None = None, **options: Any) -> DetMetrics:
        """Train, then load the best weights. Return the metrics of the last validation.

        None if the run to resume has nothing left to do; then its best weights are loaded.

        Args:
            trainer: a subclass of `RTDETRTrainer`.
            **options: see `yolo cfg`. `resume=True` resumes the run whose `last.pt` this model was built from.

        Examples:
            >>> from ultralytics import RTDETR
            >>> model, options = RTDETR("rtdetr-efficientvit-m0.yaml"), {"imgsz": 64, "epochs": 1, "workers": 0}
            >>> metrics = model.train(data="shapes8.yaml", plots=False, **options)
            >>> 0 <= metrics.box.map <= 1, str(model.trainer.best)
            (True, 'runs/detect/train/weights/best.pt')
        """
        self._require_weights("train")
        options = merge_file(options)
        args = self._options("train", options, model=self.source)
        options = {**options, **{key: getattr(args, key) for key in ("modules", "trust") if getattr(args, key)}}
        trainer_class = trainer or self.trainer_class
        self._loaded |= is_edited(vars(self).get("model"), self._checksum)  # by a script
        if not started_by_torchrun() and count_devices(device := checkpoints.resume_device(args)) > 1:
            args = args.replace(device=device)
            self._train_ddp(args, options, trainer_class)
        else:
            network = self.model.requires_grad_(True) if self._loaded else None  # EMA weights are frozen
            self.trainer = trainer_class(args, options, self.callbacks)
            self.trainer.model = network
            self.metrics = self.trainer.train()
            args = self.trainer.args
            if self.trainer.finished:
                self.__dict__.pop("model", None)
            else:
                self.model, self._loaded = self.trainer.ema.ema, True
                self._checksum = checksum(self.model)
            if args.save:
                self._use_checkpoint(self.trainer.best)
        self._validated_imgsz = args.imgsz
        self.trust = self.trust or not args.resume  # the weights are those of this run
        if args.plots and isinstance(self.metrics, DetMetrics) and not rank():
            with reported("summary_table"):
                self.summary_table().save(self.trainer.save_dir)
        return self.metrics

    def _train_ddp(self, args: Options, given: dict[str, Any], trainer_class: type[BaseTrainer]) -> None:
        """Train in one process per device; the best weights come back as a file."""
        from ultralytics.engine.ddp import launch
        from ultralytics.engine.train_log import RunDir

        if not args.save:
            raise OptionError("save=False: training on several devices returns its weights in a file; remove it.")
        state = self._state() if self._loaded else None
        network = state and partial(checkpoints.load_network, state, self.network_class, trust=True)  # built here
        self.metrics, folder = launch(args, trainer_class, self.callbacks, network, given)
        self.trainer = trainer_class(args.replace(device="cpu"))  # not set up: holds the paths and metrics
        self.__dict__.pop("model", None)
        if self.metrics is None:  # nothing was left to do
            return self._use_checkpoint(self.trainer.best)
        files = RunDir(folder)
        self.trainer.save_dir, self.trainer.best, self.trainer.last = folder, files.best, files.last
        self.trainer.metrics = self.metrics.results_dict
        self._use_checkpoint(files.best)

    def _use_checkpoint(self, file: Path) -> None:
        self.source, self._loaded = str(file), False
        self.checkpoint = checkpoints.load_checkpoint(file)

    def val(self, validator: type[BaseValidator] | None = None, **options: Any) -> DetMetrics:
        """Validate, by default on the data set that the weights were trained on.

        Args:
            validator: a subclass of `RTDETRValidator`.
            **options: see `yolo cfg`.

        Examples:
            >>> from ultralytics import RTDETR
            >>> model = RTDETR("runs/detect/train/weights/best.pt")  # of the example of `train`
            >>> metrics = model.val(data="shapes8.yaml", imgsz=64, workers=0, plots=False)
            >>> 0 <= metrics.box.map50 <= 1
            True
        """
        args = self._options("val", merge_file(options), model=self.source)
        args = args.replace(imgsz=check_imgsz(args.imgsz, image_stride(self.model)))
        validator = (validator or self.validator_class)(None, None, args, self.callbacks)
        with explained_memory(args):
            validator(model=self.model)
            self.metrics = validator.metrics
        self._validated_imgsz = args.imgsz
        if (args.plots or args.save_json) and not rank():
            with reported("summary_table"):
                self.summary_table().save(validator.save_dir)
        return self.metrics

    def summary_table(self) -> SummaryTable:
        """Return size and accuracy in the last validation or training, for text, Markdown, LaTeX and CSV."""
        if self.metrics is None:
            raise UserError("summary_table: there are no metrics yet; call val(data='my.yaml') first")
        return summary_table(self.model, self.metrics, self.source, imgsz=self._validated_imgsz)

    def predict(
        self, source: Any = None, stream: bool = False, predictor: type[BasePredictor] | None = None, **options: Any
    ) -> list[Results] | Iterator[Results] | list[Tensor]:
        """Detect objects in images, videos, folders, arrays and so on.

        Args:
            source: path, pattern, list, BGR array (H, W, 3), PIL image, RGB tensor (B, 3, H, W) in 0..1, camera number.
            stream: return an iterator that holds one batch at a time, instead of a list.
            predictor: a subclass of `RTDETRPredictor`.
            **options: see `yolo cfg`.

        Examples:
            >>> import numpy as np
            >>> from ultralytics import RTDETR
            >>> model = RTDETR("rtdetr-efficientvit-m0.yaml")
            >>> (result,) = model.predict(np.zeros((48, 64, 3), np.uint8), imgsz=64, conf=0.0)
            >>> result.orig_shape, len(result)
            ((48, 64), 84)
        """
        options, named = merge_file(options), source if isinstance(source, str) else None
        args = self._options("predict", {"batch": 1, "save": False, **options}, model=self.source, source=named)
        if source is None and args.source is None:
            LOGGER.warning(f"predict: source= is not given; using the sample images in {ASSETS}")
            source = ASSETS
        # threads may share this object: a call only reads its own predictor
        self.predictor = own = (predictor or self.predictor_class)(args, options, self.callbacks)
        return own(source, model=self.model, stream=stream)

    __call__ = predict

    def export(self, **options: Any) -> str:
        """Export the network to another runtime, compare its outputs with PyTorch, and return the path.

        Args:
            **options: `format` (default "onnx"), `imgsz`, `batch` (default 1), `dynamic`, `half`, `int8` with `data`,
                and others; see `yolo cfg` and docs/en/export.md.

        Raises:
            UserError: the format does not support an option, or the outputs differ.

        Examples:
            >>> from ultralytics import RTDETR
            >>> RTDETR("rtdetr-efficientvit-m0.yaml").export(format="torchscript", imgsz=64)
            'rtdetr-efficientvit-m0.torchscript'
        """
        from ultralytics.engine.exporter import Exporter

        self._require_weights("export")
        options = merge_file(options)
        args = self._options("export", {"batch": 1, **options}, model=self.source)
        with explained_memory(args):
            return Exporter(args, options, self.callbacks)(self.model, self.source)

    def embed(self, source: Any, layers: Sequence[int] | None = None, **options: Any) -> list[Tensor]:
        """Return a feature vector per image: the mean over the maps of `layers`, by default the last before the head.

        The vectors of several layers are concatenated.
        """
        layers = [self.model.model[-2].i] if layers is None else list(layers)
        return self.predict(source, embed=layers, **options)

    def to(self, device: torch.device | str | int) -> Model:
        """Move the network to a device. Training, validation and prediction use their option `device`."""
        self.model.to(device)
        return self

    def info(self, detailed: bool = False, verbose: bool = True, imgsz: int = 640) -> ModelInfo:
        """Return the numbers of layers, parameters and gradients, and the GFLOPs at `imgsz`, by name or in this order.

        Examples:
            >>> from ultralytics import RTDETR
            >>> RTDETR("rtdetr-efficientvit-m0.yaml").info(imgsz=64, verbose=False).parameters
            11008848
        """
        self._require_weights("info")
        return self.model.info(detailed, verbose, imgsz)

    def fuse(self) -> Model:
        """Fuse the layers of the network for inference, in place; it cannot be trained afterwards.

        Validation and prediction fuse a copy; this is for code that calls the network itself.
        """
        self._require_weights("fuse")
        self.model.fuse()
        return self

    def load(self, weights: str | Path | nn.Module) -> Model:
        """Load the tensors of a file or network that fit, and log those that do not; see docs/en/weights.md.

        A network without class names takes those of the file if the rows of all classes fit.

        Raises:
            WeightsError: the file cannot be read, or nothing in it fits.
        """
        self._require_weights("load")
        read = as_weights(weights)
        scores = any(map(CLASS_ROWS.search, load_weights(self.model, read).matched))
        if read.names and scores and known_names(self.names) is None:
            self.model.names = dict(read.names)
        self._loaded = True
        return self

    def save(self, filename: str | Path = "saved_model.pt") -> None:
        """Save the network as weights (`.pt`). Raise UserError after `fuse`."""
        self._require_weights("save")
        if self.model.fused:
            raise UserError(f"{filename}: a fused network cannot be saved; save before fuse(), or load it again")
        options = (self.checkpoint or {}).get("options")
        checkpoints.save_checkpoint(filename, {**self._state(), "options": options, "optimizer": None})

    def _state(self) -> dict[str, Any]:
        """Return the content of a checkpoint with the current weights."""
        network = self.model
        state = {"model_yaml": network.yaml, "nc": network.nc, "names": network.names}
        return {**state, "model": network.state_dict(), "ema": None}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.source!r})"

    def _repr_html_(self) -> str:  # of notebooks; it builds the network
        names = list(self.names.values())
        facts = {
            "model": self.source,
            "classes": f"{len(names)}: {shorten(', '.join(names), 200, placeholder=' ...')}",
            "parameters": f"{sum(p.numel() for p in self.model.parameters()):,}",
            "device": str(self.device) if not self.is_exported else str(self.model.device),
        }
        return Table([Column(type(self).__name__), Column("")], list(facts.items())).html()

    def _require_weights(self, method: str) -> None:
        if self.is_exported:
            raise OptionError(f"{method}: {self.source} is an exported model; use its weights (.pt).")

    def _options(self, mode: str, given: dict[str, Any], **fixed: Any) -> Options:
        """Return the options of a run: defaults, then those of the training in INHERITED, then the given ones."""
        if self.is_exported:
            trained = {"imgsz": list(self.model.metadata.imgsz), "data": self.model.metadata.data}
        else:
            trained = (self.checkpoint or {}).get("options") or {}
        inherited = {key: trained[key] for key in INHERITED.get(mode, ()) if trained.get(key) is not None}
        own = {"modules": self.folders, "trust": self.trust or None, **fixed}
        own = {key: value for key, value in own.items() if value is not None and (key in fixed or key not in given)}
        data = None if "data" in given else inherited.pop("data", None)
        options = get_cfg(
            overrides={**check_options(inherited, f"{self.source}: "), **given, **own, "mode": mode}, family=self.family
        )
        setup_logging(options.verbose)
        if unread := unread_options(options, given, self.family):
            LOGGER.warning(unread)
        self.folders, self.trust = options.modules, options.trust
        if data is not None and (mode == "val" or options.int8):
            data = data if self.trust else recorded_data(data, (options.split,), self.source)
        return options if data is None else options.replace(data=data)


__getattr__ = public_names(__name__)
