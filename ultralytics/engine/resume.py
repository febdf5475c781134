"""Going on with an interrupted run: which checkpoint, and which options may differ from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ultralytics.cfg import Options, get_cfg
from ultralytics.engine.checkpoint import load_checkpoint
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import OptionError, WeightsError
from ultralytics.utils.files import RUNS_FOLDER, resumed_weights

# Where and how long a run goes on. Everything else is part of what the run is.
MAY_CHANGE = (
    "epochs", "time", "patience", "device", "workers", "data", "cache", "save_period", "save_minutes",
    "plots", "verbose", "modules", "loggers",
)  # fmt: skip
# How the user points at the run, which is not an option of the run itself.
NOT_COMPARED = ("resume", "model", "mode", "task", "project", "name", "exist_ok")


def resume_path(options: Options) -> Path:
    """The checkpoint `options` ask to go on with: `resume=<file or run folder>`, else the weights given as `model`.

    Raises OptionError, which names the newest last.pt of the project, when neither is a weights file.
    """
    if isinstance(options.resume, str):
        return Path(resumed_weights(options.resume))
    if options.model and options.model.endswith(".pt"):
        return Path(options.model)
    raise OptionError(
        f"resume=True: which run? Give its checkpoint, resume=.../weights/last.pt; {newest_run(options)}."
    )


def newest_run(options: Options) -> str:
    """A phrase that names the newest last.pt of the project."""
    project = Path(options.project or RUNS_FOLDER)
    runs = sorted(project.glob("*/weights/last.pt"), key=lambda file: file.stat().st_mtime)
    return f"the newest here is resume={runs[-1]}" if runs else f"there is none in {project}"


def find_checkpoint(path: Path) -> tuple[Path, dict]:
    """The checkpoint at `path`, or where that cannot be read the newest of its run that can, with a warning.

    Raises WeightsError of `path` when none can.
    """
    try:
        return path, load_checkpoint(path)
    except WeightsError as error:
        others = sorted(path.parent.glob("*.pt"), key=lambda file: file.stat().st_mtime, reverse=True)
        for other in others if path.parent.name == "weights" else ():
            if (state := _readable(other)) is not None and other != path:
                LOGGER.warning(f"{error} Going on from {other}, epoch {state['epoch'] + 1}.")
                return other, state
        raise


def device_of(options: Options) -> str | None:
    """The devices of a run: those written now, else those that a resumed run was started on."""
    if options.device is not None or not options.resume:
        return options.device
    _, checkpoint = find_checkpoint(resume_path(options))
    return (checkpoint.get("options") or {}).get("device")


def _readable(path: Path) -> dict | None:
    """A checkpoint that a run can go on from, or None."""
    try:
        state = load_checkpoint(path)
    except WeightsError:
        return None
    return state if state.get("optimizer") is not None else None


def resume_options(checkpoint: Mapping[str, object], path: Path, given: Mapping[str, object]) -> Options:
    """The options of the run in `checkpoint`, with those of `given` (what the user wrote now) that may change.

    Raises OptionError for a given option that differs and may not.
    """
    saved = checkpoint.get("options")
    if not saved or checkpoint.get("optimizer") is None:
        raise OptionError(f"{path}: holds weights only, no training to resume; use it as model= to start a new run.")
    before = get_cfg(saved)
    asked = before.replace(**{key: value for key, value in given.items() if key not in NOT_COMPARED})
    if asked.batch == -1:  # it was chosen when the run began
        asked = asked.replace(batch=before.batch)
    for key, value in asked.to_dict().items():
        if key not in MAY_CHANGE and value != getattr(before, key):
            raise OptionError(
                f"{key}={value!r}: a resumed run keeps its {key}={getattr(before, key)!r}. These may change on resume: "
                f"{', '.join(MAY_CHANGE)}; for a different recipe start a new run from model={path}."
            )
    return asked.replace(resume=str(path))


def options_unlike_default(options: Options) -> dict[str, object]:
    """What somebody must have set, where the options are all that is known of what the user wrote."""
    default = get_cfg().to_dict()
    return {key: value for key, value in options.to_dict().items() if value != default[key]}
