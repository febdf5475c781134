"""Attributes and methods of a published model that lead to its network, its file or its options."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ultralytics.cfg.options import Options, merge_file
from ultralytics.engine.model import Model
from ultralytics.trackers.track import Trackers, on_predict_postprocess_end
from ultralytics.utils.callbacks import Callbacks
from ultralytics.utils.errors import OptionError

if TYPE_CHECKING:
    from ultralytics.engine.predictor import BasePredictor
    from ultralytics.engine.results import Results

TRACKING = {"conf": 0.1, "name": "track"}  # options of `track`, by default


class PublishedAttributes:
    """Complete a subclass of `Model`.

    Args:
        model, verbose, options: as of `Model`.
        task: "detect"; as published, also at the second position.

    Attributes:
        overrides: options of every call on this model that the call does not give itself.
    """

    _trackers: Trackers | None = None  # of the last call of `track`

    def __init__(self, model: str | Path, task: str | bool | None = None, verbose: bool = True, **options: Any) -> None:
        if isinstance(task, str) and task != self.task:
            raise OptionError(f"task={task!r}: expected {self.task!r}, as this package detects boxes only")
        super().__init__(model, task if isinstance(task, bool) else verbose, **options)
        if type(self).task_map is not PublishedAttributes.task_map:  # of a script
            for key, found in self.task_map[self.task].items():
                vars(self)[f"{'network' if key == 'model' else key}_class"] = found

    @cached_property
    def overrides(self) -> dict[str, Any]:
        """Options of this model, which can be changed: `model.overrides["conf"] = 0.4`; see also INHERITED."""
        return {**self._trained(), "model": self.source, "task": self.task}

    def _trained(self) -> dict[str, Any]:
        """Return options of the training of the weights."""
        recorded = (self.checkpoint or {}).get("options") or {}
        return {key: recorded[key] for key in ("data", "imgsz", "single_cls") if recorded.get(key) is not None}

    def _use_checkpoint(self, file: Path) -> None:
        super()._use_checkpoint(file)
        self.overrides |= {**self._trained(), "model": self.source}

    def _changed(self) -> dict[str, Any]:
        """Return the options that a script has set in `overrides`."""
        kept = {**self._trained(), "model": self.overrides["model"], "task": self.task}
        return {key: value for key, value in self.overrides.items() if key not in kept or kept[key] != value}

    def _options(self, mode: str, given: dict[str, Any], **fixed: Any) -> Options:
        return super()._options(mode, {**self._changed(), **given}, **fixed)

    @property
    def ckpt(self) -> dict[str, Any]:
        """Return the content of the weights file, without its tensors once the network is built; {} without one."""
        found = self.checkpoint or {}
        return {**found, "epoch": -1} if found.get("finished") else found

    @property
    def ckpt_path(self) -> str | None:
        """Return the weights file, if the model is from one."""
        return self.source if self.checkpoint else None

    cfg = property(lambda self: None if self.checkpoint else self.source, doc="Model file, if the model is from one.")

    @property
    def model_name(self) -> str:
        """Return the file that the model is from."""
        return self.source

    @property
    def task_map(self) -> dict[str, dict[str, type]]:
        """Return the classes of the network, the trainer, the validator and the predictor."""
        kinds = {"model": self.network_class, "trainer": self.trainer_class}
        return {self.task: {**kinds, "validator": self.validator_class, "predictor": self.predictor_class}}

    def _smart_load(self, key: str) -> type:
        """Return the class of the "model", "trainer", "validator" or "predictor"."""
        return self.task_map[self.task][key]

    @property
    def transforms(self) -> None:
        """Transforms of a classifier: None, as a detector records none."""

    def reset_weights(self) -> Model:
        """Initialize the network as from its model file."""
        self._require_weights("reset_weights")
        names, args, self.model = self.names, self.model.args, type(self.model)(self.model.yaml)
        self.model.names, self.model.args, self._loaded = names, args, True
        return self

    def reset_callbacks(self) -> None:
        """Detach all callbacks."""
        self.callbacks = Callbacks()

    def track(
        self, source: Any = None, stream: bool = False, persist: bool = False,
        predictor: type[BasePredictor] | None = None, **options: Any,
    ) -> list[Results] | Iterator[Results]:  # fmt: skip
        """Predict, and follow objects across the frames of a call: `boxes.id`; ids start again with each video.

        Args:
            persist: continue the tracks of the last call, for calls with one frame.
            source, stream, predictor, **options: as in `predict`, with other defaults, see TRACKING.
        """
        last = vars(self.predictor or self).get("trackers") or self._trackers if persist else None

        def build(*arguments: Any) -> BasePredictor:
            own = (predictor or self.predictor_class)(*arguments)
            if own.args.embed:
                raise OptionError("track: embed returns no detections; remove it")
            new = Trackers(own.args.tracker)
            kept = last and getattr(last, "settings", new.settings) == new.settings  # or a list of a script
            self._trackers = own.trackers = last if kept else new
            own.args.mode = "track"
            own.tracking = partial(on_predict_postprocess_end, persist=persist)
            return own

        given = {key: value for key, value in merge_file(options).items() if value is not None or key not in TRACKING}
        return self.predict(source, stream, build, **{**TRACKING, **self._changed(), **given})

    def tune(self, use_ray: bool = False, iterations: int = 300, space: Any = None, **options: Any) -> dict[str, Any]:
        """Search hyperparameters with Optuna, and return the best ones; see `Tuner`.

        Args:
            use_ray: False, as there is no search by Ray.
            iterations: trials, with those of a study that is resumed.
            space: {option: (low, high) or choices}, a YAML file of it, or names of options.
            **options: of every trial, as for `train`; `resume` is a study.
        """
        from ultralytics.models.tuning import Tuner

        if use_ray:
            raise OptionError("tune: use_ray=True: studies run with Optuna; remove it")
        own = {"model": self.source, **self._changed(), **merge_file(options), "space": space}
        return Tuner(own, self.callbacks, model=self)(iterations)

    def benchmark(self, **options: Any) -> None:
        """Measure all exports of the weights; options as in `yolo benchmark`, see docs/en/export.md."""
        from ultralytics.models.benchmark import run_benchmark

        run_benchmark(type(self), self.source, **options)

    def __getattr__(self, name: str) -> Any:
        """Return what a module has that contains the network as `model`, as published models do."""
        if name.startswith("_") or not hasattr(nn.Module(), name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        outer = nn.ModuleDict({"model": self.model})
        found = getattr(self.model if name == "training" or name.startswith("register_") else outer, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = found(*args, **kwargs)
            return self if result is outer else result  # `eval` returns the model

        return call if callable(found) else found
