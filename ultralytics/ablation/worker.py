"""One run of a study in a process of its own: `python -m ultralytics.ablation.worker FOLDER`.

The folder has `run.yaml` with the options. The run is trained in `train/`, and resumed if it was interrupted there;
`done.json` has its result. The process ends when its parent does, however that ends: it reads a pipe of the parent.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

from ultralytics.cfg.plain_data import read_yaml
from ultralytics.utils.errors import UserError
from ultralytics.utils.files import parse_json, read_text, write_text
from ultralytics.utils.tables import read_csv

CONFIG, DONE, ERROR, LOG, TRAIN = "run.yaml", "done.json", "error.txt", "log.txt", "train"
WATCH = "ULTRALYTICS_WATCH_PARENT"  # set by the queue: standard input is a pipe of the parent
FAILED = 1  # exit code


def train_run(folder: Path, device: str | None = None) -> dict[str, Any]:
    """Train the run of a folder, or what is left of it, and return its result, which is also written to done.json."""
    from ultralytics.engine.train_log import RunDir
    from ultralytics.models import Model

    if (folder / DONE).exists():
        return read_result(folder)
    (folder / ERROR).unlink(missing_ok=True)
    options = read_yaml(folder / CONFIG) | ({"device": device} if device else {})
    files = RunDir(folder / TRAIN)
    if any(files.weights.glob("*.pt")):
        allowed = {key: options[key] for key in ("device", "workers", "modules", "verbose") if key in options}
        Model(files.last, modules=options.get("modules"), trust=True).train(resume=True, trust=True, **allowed)
    else:
        shutil.rmtree(files.folder, ignore_errors=True)  # killed before the first checkpoint
        model = Model(options.pop("model"), modules=options.get("modules"))
        model.train(**options, project=str(folder), name=TRAIN, exist_ok=True)
    result = collect_result(files.folder)
    write_text(folder / DONE, json.dumps(result, indent=1))
    return result


def collect_result(train: Path) -> dict[str, Any]:
    """Return the result of a finished training: metrics and minutes of every epoch, options and versions."""
    results, arguments = train / "results.csv", train / "args.yaml"
    for file in (results, arguments):
        if not file.is_file():
            raise UserError(f"{train}: no {file.name} in it; expected the folder of a finished training")
    rows = read_csv(results)
    try:
        columns = [key for key in rows[0] if key.startswith("metrics/") or "/AP" in key]
        metrics = {key: [float(row[key]) for row in rows] for key in columns}
    except (KeyError, ValueError) as error:
        raise UserError(f"{results}: expected numbers in the metrics of every epoch ({error})") from error
    options = read_yaml(arguments)
    environment = options.pop("environment", None) or {}
    return {
        "metrics": metrics,
        "options": options,
        "environment": environment,
        "minutes": [float(row.get("time") or 0) / 60 for row in rows],  # until the end of each epoch
    }


def read_result(folder: Path) -> dict[str, Any]:
    return parse_json(read_text(folder / DONE), str(folder / DONE))


def _end_with_parent() -> None:
    """End this process at once when the parent closes its end of standard input, as it does when it is killed."""
    while os.read(0, 1024):
        pass
    os._exit(FAILED)


def main() -> int:
    """Train the run of the folder named on the command line; return the exit code."""
    folder = Path(sys.argv[1])
    if os.environ.pop(WATCH, None):
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        train_run(folder, *sys.argv[2:])
    except KeyboardInterrupt:
        return FAILED
    except Exception as error:
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        write_text(folder / ERROR, f"{kind}{error}\n")
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
