"""The object users hold: a detector made from a model file or from weights, with train, val and predict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ultralytics.cfg.model_yaml import load_model_yaml
from ultralytics.cfg.options import Options, get_cfg
from ultralytics.engine.checkpoint import (
    TENSORS,
    RunFiles,
    load_checkpoint,
    load_model_weights,
    load_network,
    save_checkpoint,
)
from ultralytics.nn.formats import backend_name
from ultralytics.nn.tasks import DetectionModel
from ultralytics.nn.weights import known_names, load_weights, read_weights
from ultralytics.utils import setup_logging
from ultralytics.utils.callbacks import Callbacks, CallbacksMixin
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.dist import rank, started_by_torchrun
from ultralytics.utils.errors import ModelConfigError, OptionError, UserError, WeightsError
from ultralytics.utils.torch_utils import count_devices

if TYPE_CHECKING:  # what trains, validates, predicts or exports is imported when it is used
    from ultralytics.engine.predictor import BasePredictor
    from ultralytics.engine.results import Results
    from ultralytics.engine.trainer import BaseTrainer
    from ultralytics.engine.validator import BaseValidator
    from ultralytics.metrics.detection import DetMetrics
    from ultralytics.metrics.summary_table import PaperTable

# What validation and prediction take over from the training of the weights, unless told otherwise.
INHERITED = {
    "val": ("data", "imgsz", "single_cls", "classes"), "predict": ("imgsz",), "export": ("data", "imgsz"),
}  # fmt: skip


class Model(CallbacksMixin):
    """A detector.

    A subclass names its network and the classes that train, validate and predict with it.

    Args:
        model: a model file (`.yaml`, or the name of one in the package), or weights (`.pt`), also
            those of the published package.
        verbose: whether messages go to the terminal.

    Raises:
        ModelConfigError: the model file cannot be found or its form is wrong.
        WeightsError: the weights cannot be read.
    """

    task = "detect"
    network_class: type[DetectionModel]
    trainer_class: type[BaseTrainer]
    validator_class: type[BaseValidator]
    predictor_class: type[BasePredictor]

    def __init__(self, model: str | Path, verbose: bool = True) -> None:
        setup_logging(verbose)
        self.source = str(model)
        self.callbacks = Callbacks()
        self.trainer: BaseTrainer | None = None
        self.predictor: BasePredictor | None = None  # of the last prediction
        self.metrics: DetMetrics | None = None
        self.modules: list[str] | None = None  # folders of module files that an option named
        self._validated: dict[str, int | None] = {}  # imgsz and batch of the validation that gave `metrics`
        self._loaded = False  # weights that are not those of `source`
        suffix = Path(self.source).suffix.lower()
        if suffix in (".yaml", ".yml"):
            load_model_yaml(self.source)  # a wrong file is told here, not at the first use
            self.checkpoint: dict[str, Any] | None = None
        elif backend_name(self.source) is not None:
            self.checkpoint = None
            if not Path(self.source).exists():
                raise WeightsError(f"{self.source}: no such file.")
        elif suffix in (".pt", ".safetensors"):
            self.checkpoint = load_model_weights(self.source)
        else:
            raise ModelConfigError(
                f"model {self.source!r}: expected a model file (.yaml), weights (.pt) or an exported model"
            )

    @cached_property
    def model(self) -> DetectionModel:
        """The network, built when it is first needed; of an exported model the `AutoBackend` that runs it."""
        if self.is_exported:
            from ultralytics.nn.autobackend import AutoBackend

            return AutoBackend(self.source)
        if self.checkpoint is None:
            return self.network_class(self.source, overrides={"modules": self.modules})
        network = load_network(self.checkpoint, self.network_class, self.modules)
        self.checkpoint = {key: value for key, value in self.checkpoint.items() if key not in TENSORS}  # not twice
        return network

    @property
    def is_exported(self) -> bool:
        """Whether it is an exported model, to validate and predict with."""
        return backend_name(self.source) is not None

    @property
    def names(self) -> dict[int, str]:
        """Class names by index."""
        return self.model.names

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.model.parameters()).device

    def train(self, trainer: type[BaseTrainer] | None = None, **options: Any) -> DetMetrics:
        """Train with options (see `yolo cfg`), then hold the best weights. Returns the metrics of the last validation.

        `trainer` is a class of your own, derived from `RTDETRTrainer`. `resume=True` goes on with the run whose
        `last.pt` this model was made from.
        """
        from ultralytics.engine.checkpoint import device_of
        from ultralytics.metrics.detection import DetMetrics
        from ultralytics.metrics.summary_table import write_table

        self._require_weights("train")
        args = self._options("train", options, model=self.source)
        if not started_by_torchrun() and count_devices(device := device_of(args)) > 1:
            return self._train_on_several_devices(args.replace(device=device), options, trainer or self.trainer_class)
        network = self.model.requires_grad_(True) if self._loaded else None  # an averaged network is frozen
        self.trainer = (trainer or self.trainer_class)(args, options, self.callbacks)
        self.trainer.take(network)
        self.metrics = self.trainer.train()
        self.model = self.trainer.ema.ema
        self._loaded = True
        if self.trainer.args.save:
            self._take_weights(self.trainer.best)
        self._validated = {"imgsz": self.trainer.args.imgsz, "batch": self.trainer.args.batch}
        if self.trainer.args.plots and isinstance(self.metrics, DetMetrics) and not rank():
            write_table(self.paper_table(), self.trainer.save_dir)
        return self.metrics

    def _train_on_several_devices(
        self, args: Options, given: dict[str, Any], trainer_class: type[BaseTrainer]
    ) -> DetMetrics:
        """Train in a process for each device; the best weights come back as a file."""
        from ultralytics.engine.ddp import launch, train_process
        from ultralytics.metrics.summary_table import write_table

        if not args.save:
            raise OptionError("save=False: weights come back from several devices by a file; leave it out.")
        network = None
        if self._loaded:
            state = {"model_yaml": self.model.yaml, "nc": self.model.nc, "names": self.names, "ema": None}
            network = partial(
                load_network, {**state, "model": self.model.state_dict()}, self.network_class, self.modules
            )
        rest = (self.callbacks, network, given)
        self.metrics, folder = launch(args, train_process, trainer_class, args, *rest)
        self.trainer = trainer_class(args.replace(device="cpu"))  # not set up: it tells where things are
        self.trainer.save_dir, files = folder, RunFiles(folder)
        self.trainer.best, self.trainer.last, self.trainer.metrics = files.best, files.last, self.metrics.results_dict
        self._take_weights(files.best)
        self.__dict__.pop("model", None)
        self._validated = {"imgsz": args.imgsz, "batch": args.batch if args.batch > 0 else None}
        if args.plots:
            write_table(self.paper_table(), folder)
        return self.metrics

    def _take_weights(self, file: Path) -> None:
        self.source, self._loaded = str(file), False
        self.checkpoint = load_checkpoint(file)

    def val(self, validator: type[BaseValidator] | None = None, **options: Any) -> DetMetrics:
        """Validate; without `data=` on the data set that the weights were trained on.

        `validator` is a class of your own, derived from `RTDETRValidator`.
        """
        from ultralytics.metrics.summary_table import write_table

        args = self._options("val", options, model=self.source)
        validator = (validator or self.validator_class)(None, None, args, self.callbacks)
        self.metrics = validator(model=self.model)
        self._validated = {"imgsz": check_imgsz(args.imgsz, int(max(self.model.stride))), "batch": args.batch}
        if (args.plots or args.save_json) and not rank():
            write_table(self.paper_table(), validator.save_dir)
        return self.metrics

    def paper_table(self) -> PaperTable:
        """Size, speed and accuracy by the last validation, a training's included, as text, Markdown, LaTeX and CSV.

        Raises:
            UserError: nothing was validated yet.
        """
        from ultralytics.metrics.summary_table import table_of

        if self.metrics is None:
            raise UserError("paper_table: there are no metrics yet; call val(data='my.yaml') first")
        return table_of(self.model, self.metrics, self.source, **self._validated)

    def predict(
        self, source: Any = None, stream: bool = False, predictor: type[BasePredictor] | None = None, **options: Any
    ) -> list[Results] | Iterator[Results] | list[Tensor]:
        """Detect in images, videos, folders, arrays and so on.

        Args:
            source: path, pattern, list, BGR array (H, W, 3), PIL image, RGB tensor (B, 3, H, W) in 0..1, camera number.
            stream: return an iterator that holds one batch at a time, instead of a list.
            predictor: a class of your own, derived from `RTDETRPredictor`.
            **options: see `yolo cfg`.
        """
        named = source if isinstance(source, str) else None
        args = self._options("predict", {"batch": 1, "save": False, **options}, model=self.source, source=named)
        if source is None and args.source is None:
            raise UserError("predict: source= is missing; for example source='image.jpg'")
        self.predictor = (predictor or self.predictor_class)(args, options, self.callbacks)
        return self.predictor(source, model=self.model, stream=stream)

    __call__ = predict

    def export(self, **options: Any) -> str:
        """Write the network for another runtime and compare it with PyTorch; see docs/en/export.md.

        Args:
            **options: `format` ("onnx" unless given), `imgsz`, `batch` (1 unless given), `dynamic`, `half`, `int8` with
                `data`, and others; see `yolo cfg`.

        Returns:
            The path of the file, or of OpenVINO's folder.

        Raises:
            UserError: the format does not have what is asked for, or the exported model computes something else.
        """
        from ultralytics.engine.exporter import Exporter  # only exports need it

        self._require_weights("export")
        args = self._options("export", {"batch": 1, **options}, model=self.source)
        return Exporter(args, options, self.callbacks)(self.model, self.source)

    def benchmark(self, **options: Any) -> None:
        """Measure every export of the weights, see docs/en/benchmark.md; options are those of `yolo benchmark`."""
        from ultralytics.engine.benchmark import command

        command(self.source, **options)

    def embed(self, source: Any, layers: Sequence[int] | None = None, **options: Any) -> list[Tensor]:
        """One vector an image: the maps of `layers` (the last before the head by default), averaged and joined."""
        layers = [self.model.model[-2].i] if layers is None else list(layers)
        return self.predict(source, embed=layers, **options)

    def to(self, device: torch.device | str | int) -> Model:
        """Move the network to a device. Training, validation and prediction go by their option `device`."""
        self.model.to(device)
        return self

    def info(self, imgsz: int = 640, detailed: bool = False, verbose: bool = True) -> tuple:
        """Layers, parameters, gradients and GFLOPs; see `utils.flops.model_info`."""
        self._require_weights("info")
        return self.model.info(imgsz=imgsz, detailed=detailed, verbose=verbose)

    def fuse(self) -> Model:
        """Rewrite the network itself for inference (`nn/optimise`); it cannot be trained afterwards.

        Validation and prediction do so on a copy: this is for those who call the network.
        """
        self._require_weights("fuse")
        self.model.fuse()
        return self

    def load(self, weights: str | Path) -> Model:
        """Load whatever fits of a weights file into the network; the log says what did not. See docs/en/weights.md.

        A network that nobody told its classes takes over their names with the rows of all classes.

        Raises:
            WeightsError: the file cannot be read, or nothing in it fits.
        """
        self._require_weights("load")
        read = read_weights(weights)
        report = load_weights(self.model, read)
        scores = any(name.endswith("enc_score_head.weight") for name in report.matched)
        if read.names and scores and known_names(self.names) is None:
            self.model.names = dict(read.names)
        self._loaded = True
        return self

    def save(self, file: str | Path) -> None:
        """Write the network as weights (`.pt`) that this class reads; not after `fuse`."""
        self._require_weights("save")
        if self.model.fused:
            raise UserError(
                f"{file}: a fused network cannot be saved; save it before fuse(), or load the weights again"
            )
        kept = self.checkpoint or {}
        state = {"model_yaml": self.model.yaml, "names": self.names, "nc": self.model.nc, "ema": None}
        options = {"options": kept.get("options"), "optimizer": None}
        save_checkpoint(file, {**state, **options, "model": self.model.state_dict()})

    def _require_weights(self, what: str) -> None:
        if self.is_exported:
            raise OptionError(f"{what}: {self.source} is an exported model, which runs only; use its weights (.pt).")

    def _options(self, mode: str, given: dict[str, Any], **fixed: Any) -> Options:
        """Options of a run: what the weights were trained with, then what is given."""
        trained = self._trained_options()
        inherited = {key: trained[key] for key in INHERITED.get(mode, ()) if trained.get(key) is not None}
        fixed = {key: value for key, value in fixed.items() if value is not None}
        options = get_cfg(overrides={**inherited, **given, **fixed, "mode": mode})
        setup_logging(options.verbose)
        self.modules = options.modules or self.modules
        return options

    def _trained_options(self) -> dict[str, Any]:
        """What is known of the training; of an exported model the size of its images and the data set."""
        if self.is_exported:
            said = self.model.metadata
            return {"imgsz": list(said.imgsz), "data": said.data}
        return (self.checkpoint or {}).get("options") or {}
