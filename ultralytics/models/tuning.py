"""Search of hyperparameters: a study of Optuna whose trials are training runs, pruned by epochs."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ultralytics.cfg.family import Family
from ultralytics.cfg.options import (
    AUGMENTED,
    Options,
    check_key,
    check_options,
    describe_options,
    get_cfg,
    option_types,
)
from ultralytics.cfg.plain_data import read_yaml
from ultralytics.cfg.values import OneOf, Range, alternatives, rules_of
from ultralytics.engine.model import Model
from ultralytics.utils import LOGGER, PACKAGE_ROOT
from ultralytics.utils.callbacks import Callback, Callbacks
from ultralytics.utils.checks import require
from ultralytics.utils.errors import DataError, ModelConfigError, OptionError, UserError, typed
from ultralytics.utils.files import first_line, run_dir, runs_folder, write_text, write_yaml
from ultralytics.utils.plotting import new_figure, save_figure
from ultralytics.utils.tables import Column, Table
from ultralytics.utils.torch_utils import count_devices

SPACE = PACKAGE_ROOT / "cfg" / "space.yaml"
OWN = ("space", "resume", "trainer", "model", "task", "mode")  # no options of trials
FIRST_TRIALS = 4  # before the median of their epochs prunes others
LOG_RATIO = 100  # of the ends of a range that is searched on a logarithmic scale


def search_space(space: Any, options: Options, family: Family) -> dict[str, Any]:
    """Return Optuna's distribution of each hyperparameter.

    Args:
        space: {option: (low, high), choices, or None for those of SPACE or its schema}, a YAML file of that, or names
            of options; None for SPACE, without what trials with these options do not read.

    Raises:
        OptionError: unknown option, one without effect in the trials, or values that it does not accept.
    """
    if space is None or str(space).endswith((".yaml", ".yml")):
        given = read_yaml(SPACE if space is None else space)
    else:
        names = space.split(",") if isinstance(space, str) else space
        given = space if isinstance(space, Mapping) else dict.fromkeys(name.strip() for name in names)
    found, usual = {}, read_yaml(SPACE)
    for name, values in given.items():
        check_key(name)
        values = values or usual.get(name) or _schema_values(name)
        if isinstance(values, str) or not isinstance(values, Sequence) or len(values) < 2:
            raise OptionError(f"space: {name}: expected (low, high) or a list of choices, got {values!r}")
        if not (problem := _problem(name, values, options, family)):
            found[name] = _distribution(name, values)
        elif space is not None:
            raise OptionError(f"space: {problem}")
    if not found:
        raise OptionError("space: is empty, expected {option: (low, high)} or names of options")
    return found


def _schema_values(name: str) -> Sequence[Any]:
    annotation = option_types()[name]
    ranges = [(rule.low, rule.high) for rule in rules_of(annotation) if isinstance(rule, Range)]
    choices = [rule.choices for rule in rules_of(annotation) if isinstance(rule, OneOf)]
    values = next(iter(ranges or choices), (False, True) if bool in alternatives(annotation) else ())
    if not values or math.inf in values:
        raise OptionError(f"space: {name} has no limited range; write {{{name}: [low, high]}} or its choices")
    return values


def _problem(name: str, values: Sequence[Any], options: Options, family: Family) -> str:
    """Return why an option cannot take all of the values in these trials, or has no effect; or ''."""
    row = next(row for row in describe_options() if row.name == name)
    read = AUGMENTED.get(options.augmentation)
    if "train" not in row.modes:
        return f"{name} is no option of training"
    if read and row.section == "Augmentation" and name not in read:
        return f"{name} has no effect with augmentation={options.augmentation}"
    if name in ("lr0", "momentum") and options.optimizer == "auto":
        return f"{name} has no effect with optimizer=auto; give optimizer=AdamW or SGD"
    try:
        for value in values:
            get_cfg(options, {name: value}, family=family)
    except OptionError as error:
        return str(error)
    return ""


def _distribution(name: str, values: Sequence[Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        return CategoricalDistribution(values)
    low, high = values[0], values[-1]
    if len(values) > 2 or low >= high:
        raise OptionError(f"space: {name}: expected (low, high) with low < high, got {values!r}")
    if float not in alternatives(option_types()[name]):
        return IntDistribution(low, high)
    return FloatDistribution(low, high, log=low > 0 and high / low >= LOG_RATIO)


class Tuner:
    """Search of hyperparameters, as published: `Tuner(args)(iterations)`. `Model.tune` uses it.

    The folder has study.db (Optuna's storage), tune_results.csv, best_hyperparameters.yaml, study.html, plots, the runs
    of all trials, and the weights of the best one.

    Args:
        args: options of every trial, as for `train`, and `model` (unless that is given), `space`, and `resume`: the
            folder of a study, or True for that of `project` and `name`; it has the options and the space, too.
        _callbacks: functions for the events of every trial.
    """

    def __init__(
        self, args: Mapping[str, Any], _callbacks: Callbacks | Mapping[str, Callback] | None = None, *,
        model: Model | None = None,
    ) -> None:  # fmt: skip
        given = {key: value for key, value in args.items() if key not in OWN}
        given, resume = check_options(given), args.get("resume")
        self.optuna = require("optuna", "optuna>=4.0", "tune")
        self.optuna.logging.set_verbosity(self.optuna.logging.WARNING)
        self.states = self.optuna.trial.TrialState
        self.trainer = args.get("trainer")
        self.model = model or Model(args["model"], modules=args.get("modules"), trust=args.get("trust", False))
        self.model._require_weights("tune")
        self.callbacks = _callbacks if isinstance(_callbacks, Callbacks) else Callbacks(_callbacks)
        project, name = given.pop("project", None), given.pop("name", None) or "tune"
        self.folder = Path(resume if isinstance(resume, str) else Path(project or runs_folder(), name))
        if resume and not (self.folder / "study.db").is_file():
            raise UserError(f"resume: there is no study.db in {self.folder}; write resume=FOLDER of a study")
        if not resume:
            options = self.model._options("train", given, model=self.model.source)
            search_space(args.get("space"), options, self.model.family)  # an error before there is a folder
            self.folder = run_dir(project, name, exist_ok=bool(given.get("exist_ok")))
        self.study = self.optuna.create_study(
            storage=f"sqlite:///{(self.folder / 'study.db').absolute()}", study_name="tune", direction="maximize",
            load_if_exists=True,
        )  # fmt: skip
        self.given = {**self.study.user_attrs.get("options", {}), **given}
        self.study.set_user_attr("options", self.given)
        self.options = options = self.model._options("train", self.given, model=self.model.source)
        if count_devices(options.device) > 1:
            raise OptionError(f"tune: a trial runs on one device, got device={options.device!r}")
        trials, space = self.study.trials, args.get("space")
        resumed = trials and space is None
        self.space = trials[0].distributions if resumed else search_space(space, options, self.model.family)
        self.study.sampler = self.optuna.samplers.TPESampler(seed=options.seed + len(trials))
        self.study.pruner = self.optuna.pruners.MedianPruner(FIRST_TRIALS, max(1, options.epochs // 3))

    def __call__(self, iterations: int = 300) -> dict[str, Any]:
        """Run trials until there are `iterations`, and return the best hyperparameters.

        The first has the values of the options. One that fails is recorded, and the study continues. Raises UserError
        if none has ended, or the first has no data or model to begin with.
        """
        study, state = self.study, self.states
        if not study.trials:
            values = {name: getattr(self.options, name) for name in self.space}
            study.enqueue_trial({name: value for name, value in values.items() if _contains(self.space[name], value)})
        for trial in study.get_trials(states=(state.RUNNING,)):  # interrupted
            study.tell(trial.number, state=state.FAIL)
            study.enqueue_trial(trial.params)
        if self.model._loaded:
            self.model.save(self.folder / "start.pt")
        LOGGER.info(f"Tuning {', '.join(self.space)}; to resume: {typed(resume=self.folder)}")
        ended = [trial for trial in study.trials if trial.state.is_finished()
                 and (trial.state != state.FAIL or "error" in trial.user_attrs)]  # fmt: skip
        try:
            for _ in range(len(ended), iterations):
                self._run_trial()
        finally:
            self._write_page()
        if not (best := self.best):
            raise UserError(f"tune: no trial has ended; their errors are in {self.folder / 'tune_results.csv'}")
        LOGGER.info(f"Best: trial {best.number}, fitness {best.value:.4f}; see {self.folder / 'study.html'}")
        return best.params

    @property
    def best(self) -> Any:
        """Return the trial with the highest fitness; None before one has ended."""
        complete = self.study.get_trials(states=(self.states.COMPLETE,))
        return max(complete, key=lambda trial: trial.value, default=None)

    def _run_trial(self) -> None:
        trial = self.study.ask(self.space)
        try:
            self.study.tell(trial, self._train(trial))
        except self.optuna.TrialPruned:
            self.study.tell(trial, state=self.states.PRUNED)
        except Exception as error:  # of any kind: other hyperparameters may work
            trial.set_user_attr("error", first_line(error))
            self.study.tell(trial, state=self.states.FAIL)
            if trial.number == 0 and isinstance(error, DataError | ModelConfigError | OptionError):
                raise
            LOGGER.warning(f"trial {trial.number} failed: {first_line(error)}")
        best, weights = self.best, self.folder / f"trial{trial.number}" / "weights"
        if best and best.number == trial.number:
            write_yaml(self.folder / "best_hyperparameters.yaml", best.params)
            shutil.rmtree(self.folder / "weights", ignore_errors=True)
            if weights.exists():
                weights.rename(self.folder / "weights")
        shutil.rmtree(weights, ignore_errors=True)
        write_text(self.folder / "tune_results.csv", self.table().csv())

    def _train(self, trial: Any) -> float:
        """Return the fitness of a trial. Raises TrialPruned at an epoch below the median of earlier trials."""

        def report(trainer: Any) -> None:
            known = trainer.fitness is not None and math.isfinite(trainer.fitness)
            if known and trainer.epoch < trainer.finished_epochs:  # not after the final validation
                trial.report(trainer.fitness, trainer.epoch)
                if trainer.epoch + 1 < trainer.epochs and trial.should_prune():
                    raise self.optuna.TrialPruned

        known = {"verbose": self.options.verbose, "modules": self.model.folders, "trust": self.model.trust}
        model = type(self.model)(self.folder / "start.pt" if self.model._loaded else self.model.source, **known)
        model.callbacks = self.callbacks.copy()
        model.add_callback("on_fit_epoch_end", report)
        run = {"project": str(self.folder), "name": f"trial{trial.number}", "exist_ok": True}
        fitness = model.train(self.trainer, **{"plots": False, **self.given, **trial.params, **run}).fitness
        if not math.isfinite(fitness):
            raise DataError(f"the fitness is {fitness}: are there labels to validate on?")
        return fitness

    def table(self) -> Table:
        """Return a row for each trial: its number, fitness, state, epochs, hyperparameters and error."""
        columns = Column("trial", "d"), Column("fitness", ".5f"), Column("state"), Column("epochs", "d")
        names = [Column(name, "" if hasattr(kind, "choices") else ".5g") for name, kind in self.space.items()]
        rows = [
            [one.number, one.value, one.state.name.lower(), len(one.intermediate_values),
             *map(one.params.get, self.space), one.user_attrs.get("error", "")]
            for one in self.study.trials
        ]  # fmt: skip
        return Table([*columns, *names, Column("error")], rows)

    def _write_page(self) -> None:
        """Write the table, and plot the fitness over the trials and over each hyperparameter."""
        table = self.table()
        rows = [row for row in table.rows if row[1] is not None]
        columns = [0, *range(4, 4 + len(self.space))]
        across = min(5, len(columns))
        down = math.ceil(len(columns) / across)
        figure = new_figure(3 * across, 2.4 * down)
        for axes, i in zip(figure.subplots(down, across, squeeze=False).flat, columns, strict=False):
            places = [row[i] if table.columns[i].form else str(row[i]) for row in rows]
            axes.scatter(places, [row[1] for row in rows], s=12)
            axes.set(title=table.titles[i], ylabel="fitness")
            if getattr(self.space.get(table.titles[i]), "log", False):
                axes.set_xscale("log")
        save_figure(figure, self.folder / "tune_scatter_plots.png")
        picture = '<img src="tune_scatter_plots.png" style="max-width: 100%">'
        write_text(self.folder / "study.html", f'<!doctype html><meta charset="utf-8">{picture}{table.html()}\n')


def _contains(kind: Any, value: Any) -> bool:
    choices = getattr(kind, "choices", None)
    return value in choices if choices else value is not None and kind.low <= value <= kind.high
