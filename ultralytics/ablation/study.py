"""Study files: what is compared, and the cells and runs that follow from it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, combinations
from pathlib import Path
from typing import Any

from ultralytics.ablation.patch import ACTIONS, PatchedModel
from ultralytics.cfg.options import Options, check_options, get_cfg
from ultralytics.cfg.plain_data import check_plain, key_at, read_yaml
from ultralytics.models import Model
from ultralytics.utils.errors import UserError, check_keys, counted, did_you_mean
from ultralytics.utils.files import safe_name

BASE = "base"
DESIGNS = ("one-at-a-time", "cumulative", "factorial")
CONTROLS = ("equal-cost", "null")
METRICS = {"mAP50-95": "metrics/mAP50-95(B)", "mAP50": "metrics/mAP50(B)"}
KEYS = (
    "model", "data", "train", "seeds", "folds", "changes", "design", "judge", "metric", "control", "runs", "modules",
    "images", "lang", "changed_data",
)  # fmt: skip
OWN = ("model", "data", "seed", "project", "name", "exist_ok", "resume", "device", "modules")  # not in `train`
MAX_CELLS = 100
NULL_SEEDS = 10_000  # added to the seeds of the control `null`


class StudyError(UserError):
    """Invalid study file, or a study that cannot be continued."""


@dataclass(frozen=True)
class Change:
    """One change: a whole model file, patches of rows, options of training, or several of these."""

    name: str
    model: str | None = None
    patches: tuple[Mapping[str, Any], ...] = ()
    train: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, name: str, given: Any, where: str) -> Change:
        """Check the form of a change; raise StudyError if it is wrong."""
        if isinstance(given, list):
            given = {"rows": given}
        if not isinstance(given, Mapping) or not given:
            raise StudyError(f"{where}: expected a patch such as {{after: 16, row: [1, EMA, []]}}, got {given!r}")
        columns = list(dict.fromkeys([*ACTIONS, *chain.from_iterable(ACTIONS.values())]))
        patch = {key: value for key, value in given.items() if key in columns}
        rows = given.get("rows", [])
        check_keys(given, ("model", "train", "rows", *columns), lambda _: where, StudyError)
        if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
            raise StudyError(f"{where}: rows must be a list of patches, got {rows!r}")
        if not isinstance(given.get("train", {}), Mapping):
            raise StudyError(f"{where}: train must be a mapping of options, got {given['train']!r}")
        options = _train_options(given.get("train", {}), where)
        model = given.get("model")
        if model is not None and not isinstance(model, str):
            raise StudyError(f"{where}: model must be a model file, got {model!r}")
        return cls(name, model, (*([patch] if patch else []), *rows), options)


@dataclass(frozen=True)
class Cell:
    """One configuration of a study, trained once for each seed and fold."""

    name: str
    changes: tuple[str, ...] = ()  # names of the changes in it; none for the base and its controls
    model: str = ""  # file of the network; written into the study folder if it is patched
    train: Mapping[str, Any] = field(default_factory=dict)  # options of its runs that differ from the study's
    seed_shift: int = 0  # added to each seed; other seeds than the base's for the control `null`
    equals: str | None = None  # for the control `equal-cost`, the cell whose cost it has
    folders: tuple[str, ...] = ()  # finished runs that were made by hand, in place of runs of the study

    @property
    def slug(self) -> str:
        """Return the name of its files."""
        return re.sub(r"[^\w.+-]+", "-", safe_name(self.name)).strip("-.") or "cell"


@dataclass(frozen=True)
class StudySpec:
    """A checked study file."""

    source: Mapping[str, Any]
    where: str
    model: str
    data: str
    train: Mapping[str, Any]
    seeds: tuple[int, ...]  # at least one
    folds: int  # over the data set; 0 for the split of the data YAML
    changes: Mapping[str, Change]
    cells: tuple[tuple[str, ...], ...]  # changes of each; the empty one is the base and comes first
    rule: str | int  # key `judge`: `last`, `best`, or the number of last epochs whose mean counts
    metric: str
    controls: tuple[str, ...]
    runs: Mapping[str, tuple[str, ...]]
    modules: tuple[str, ...]
    images: tuple[str, ...]
    lang: str
    changed_data: bool

    @classmethod
    def read(cls, study: str | Path | Mapping[str, Any]) -> StudySpec:
        """Read a study file, or its content. Raise StudyError with file and line if it is wrong."""
        is_file = not isinstance(study, Mapping)
        source = read_yaml(study, StudyError) if is_file else dict(check_plain(study, "study", StudyError))
        name = str(study) if is_file else "study"
        at = partial(key_at, study) if is_file else lambda key: f"study: {key}"
        check_keys(source, KEYS, at, StudyError)
        for key in ("model", "data"):
            if not isinstance(source.get(key), str):
                raise StudyError(f"{name}: {key} must be a file, got {source.get(key)!r}")
        changes = source.get("changes") or {}
        if not isinstance(changes, Mapping) or not all(isinstance(key, str) for key in changes):
            raise StudyError(f"{at('changes')}: expected lines of the form `NAME: change`, got {changes!r}")
        if odd := [key for key in changes if "+" in key or key.strip() in ("", BASE)]:
            raise StudyError(f"{at('changes')}: the name {odd[0]!r} is not possible; use words without +, not {BASE!r}")
        parsed = {key: Change.parse(key, value, f"{at('changes')}: {key}") for key, value in changes.items()}
        folds = source.get("folds") or 0
        if type(folds) is not int or folds == 1 or folds < 0:
            raise StudyError(f"{at('folds')}: folds must be a number from 2, got {folds!r}")
        return cls(
            source, name, source["model"], source["data"], _train_options(source.get("train") or {}, at("train")),
            _seeds(source.get("seeds", 1), at("seeds")), folds, parsed,
            _cells(source.get("design", DESIGNS[0]), tuple(parsed), at("design")),
            _rule(source.get("judge", "last"), at("judge")),
            _one_of(source.get("metric", "mAP50-95"), METRICS, at("metric")),
            _controls(source, at("control")),
            _past_runs(source.get("runs") or {}, at("runs")), tuple(_words(source.get("modules"))),
            tuple(_words(source.get("images"))), _one_of(source.get("lang", "en"), ("en", "zh"), at("lang")),
            _one_of(source.get("changed_data", False), (False, True), at("changed_data")),
        )  # fmt: skip

    def build_cells(self, folder: Path) -> tuple[list[Cell], list[str]]:
        """Write patched model files into `folder`; return all cells but the controls of equal cost, and all errors."""
        cells, problems = [], []
        for names in self.cells:
            name = "+".join(names) or BASE
            try:
                cells.append(self._cell(name, [self.changes[change] for change in names], folder))
            except UserError as error:
                problems.append(f"{name}: {error}")
        if "null" in self.controls:
            cells.append(Cell(f"{BASE} again", model=self.model, seed_shift=NULL_SEEDS))
        cells = [replace(cell, folders=self.runs.get(cell.name, ())) for cell in cells]  # trained by hand
        names = {cell.name for cell in cells} | {"+".join(cell) for cell in self.cells}
        cells += [Cell(name, (name,), folders=folders) for name, folders in self.runs.items() if name not in names]
        return cells, problems

    def _cell(self, name: str, changes: Sequence[Change], folder: Path) -> Cell:
        models = [change for change in changes if change.model]
        if len(models) > 1:
            both = " and ".join(repr(change.name) for change in models[:2])
            raise StudyError(f"{self.where}: {name}: {both} are whole model files, which cannot be combined")
        train: dict[str, Any] = {}
        for change in changes:
            for key, value in change.train.items():
                if train.setdefault(key, value) != value:
                    raise StudyError(f"{self.where}: {name}: two of its changes set {key}")
            train |= change.train
        model = models[0].model if models else self.model
        cell = Cell(name, tuple(change.name for change in changes), model, train)
        if not any(change.patches for change in changes):
            return cell
        patched = PatchedModel.read(model, self.modules)
        for change in changes:
            for patch in change.patches:
                patched.apply(patch, change.name)
        file = folder / f"{cell.slug}.yaml"
        patched.write(file, f"{Path(model).name} with {name}, written by `yolo ablate`", self.modules)
        return Cell(name, cell.changes, str(file), train)

    def options(self, cell: Cell) -> dict[str, Any]:
        """Return the training options of a cell, without seed and folder."""
        modules = {"modules": list(self.modules)} if self.modules else {}
        return {**self.train, **cell.train, "data": self.data, **modules}

    def checked_options(self, cell: Cell) -> Options:
        """Return the resolved training options of a cell."""
        family = Model(cell.model, modules=list(self.modules)).family
        return get_cfg(overrides={**self.options(cell), "model": cell.model, "mode": "train"}, family=family)


@dataclass(frozen=True, eq=False)
class Run:
    """One training of a cell."""

    cell: Cell
    seed: int
    fold: int  # from 1; 0 without folds
    folder: Path

    @property
    def key(self) -> tuple[int, int]:
        """Return seed of the study and fold: runs of two cells with equal keys are a pair."""
        return self.seed - self.cell.seed_shift, self.fold


def list_runs(spec: StudySpec, cells: Sequence[Cell], folder: Path) -> list[Run]:
    """Return the runs of all cells, those of one seed and fold in a row, so that early results are complete pairs."""
    runs = []
    for seed in spec.seeds:
        for fold in range(1, spec.folds + 1) if spec.folds else (0,):
            for cell in cells:
                shifted = seed + cell.seed_shift
                name = f"seed{shifted}" + (f"-fold{fold}" if fold else "")
                if not cell.folders:
                    runs.append(Run(cell, shifted, fold, folder / "runs" / cell.slug / name))
    return runs


def _train_options(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise StudyError(f"{where}: expected options such as {{epochs: 72, batch: 4}}, got {given!r}")
    if own := [key for key in given if key in OWN]:
        raise StudyError(
            f"{where}: {own[0]} is set by the study itself; write it as a key of the study or an option of "
            "`yolo ablate`, or leave it out"
        )
    return check_options(given, f"{where}: ")


def _seeds(given: Any, where: str) -> tuple[int, ...]:
    seeds = list(range(given)) if type(given) is int else given
    if not isinstance(seeds, list) or not seeds or not all(type(s) is int and s >= 0 for s in seeds):
        raise StudyError(f"{where}: expected a number of seeds from 1, or a list of seeds; got {given!r}")
    if len(set(seeds)) < len(seeds):
        raise StudyError(f"{where}: a seed is listed twice: {seeds}")
    return tuple(seeds)


def _cells(design: Any, names: tuple[str, ...], where: str) -> tuple[tuple[str, ...], ...]:
    if isinstance(design, list):
        cells = [tuple(row.split("+") if isinstance(row, str) else _words(row)) for row in design]
        for cell in cells:
            if missing := [name for name in cell if name not in names]:
                near = did_you_mean(str(missing[0]), names)
                raise StudyError(f"{where}: {missing[0]!r} is not among the changes{near}")
            if len(set(cell)) < len(cell):
                raise StudyError(f"{where}: a change is listed twice in {'+'.join(cell)}")
    elif _one_of(design, DESIGNS, where) == "one-at-a-time":
        cells = [(name,) for name in names]
    elif design == "cumulative":
        cells = [names[:count] for count in range(1, len(names) + 1)]
    else:
        cells = [chosen for count in range(1, len(names) + 1) for chosen in combinations(names, count)]
    if len(cells) >= MAX_CELLS:
        raise StudyError(f"{where}: {counted(len(cells), 'cell')}, expected fewer than {MAX_CELLS}; list some of them")
    return tuple(dict.fromkeys([(), *cells]))


def _rule(given: Any, where: str) -> str | int:
    match = re.fullmatch(r"(?:mean of the )?last (\d+)", str(given))
    if match and int(match[1]) > 0:
        return int(match[1])
    return _one_of(given, ("last", "best"), where, " or `mean of the last 5`")


def _one_of(given: Any, choices: Any, where: str, more: str = "") -> Any:
    if given not in list(choices):
        near = did_you_mean(str(given), [str(choice) for choice in choices])
        raise StudyError(f"{where}: expected {', '.join(map(str, choices))}{more}, got {given!r}{near}")
    return given


def _controls(source: Mapping[str, Any], where: str) -> tuple[str, ...]:
    given = source.get("control", [])
    words = given if isinstance(given, list) else [given]  # YAML reads the word null as None
    return tuple(_one_of("null" if word is None else word, CONTROLS, where) for word in words)


def _words(given: Any) -> list[str]:
    return [] if given is None else [str(word) for word in (given if isinstance(given, list) else [given])]


def _past_runs(given: Any, where: str) -> dict[str, tuple[str, ...]]:
    """Return the folders of runs made by hand by the name of their cell; a list has one cell for each folder."""
    if isinstance(given, list):
        names = [Path(str(folder)).name for folder in given]
        if twice := [name for name in names if names.count(name) > 1]:
            raise StudyError(f"{where}: two folders have the name {twice[0]!r}; write `NAME: [folders]` for each row")
        given = dict(zip(names, given, strict=True))
    if not isinstance(given, Mapping):
        raise StudyError(f"{where}: expected folders of runs, or lines of the form `NAME: [folders]`; got {given!r}")
    return {str(name): tuple(_words(folders)) for name, folders in given.items()}
