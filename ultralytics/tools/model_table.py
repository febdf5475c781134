"""`yolo models`: parameters and operations of every model YAML, sorted; those that cannot be built, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ultralytics.cfg.model_yaml import MODELS_DIR
from ultralytics.cfg.values import OneOf, Range
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, UserError
from ultralytics.utils.tables import Column, Table

COLUMNS = (
    Column("Model"), Column("Layers", "d"), Column("Params (M)", ".3f"), Column("GFLOPs", ".2f"),
    Column("GFLOPs with attention", ".2f"),
)  # fmt: skip
ORDERS = {"name": 0, "parameters": 2, "gflops": 3}  # column of the table


@dataclass(frozen=True)
class Zoo:
    """The table of those that were built, and (file, reason) of the others."""

    table: Table
    failures: tuple[tuple[str, str], ...]


def command(
    folder: str | None = None,
    imgsz: Annotated[int, Range(32)] = 640,
    nc: Annotated[int | None, Range(1)] = None,
    sort: Annotated[str, OneOf(*ORDERS)] = "gflops",
    modules: str | None = None,
    project: str | None = None,
    name: str | None = None,
) -> None:
    """Build every model YAML below a folder, without data where that is possible, and show their sizes.

    Args:
        folder: where to look; the package's own models by default.
        imgsz: side of the image in pixels.
        nc: number of classes in place of the files'.
        sort: gflops, parameters or name; the smallest first.
        modules: a folder of module files.
        project: folder of the results, `runs/models` by default.
        name: folder in it, the name of `folder` by default; numbered when taken.

    Raises:
        UserError: there is no such folder, or no YAML in it.
    """
    from ultralytics.tools.common import tool_dir

    root = Path(folder) if folder else MODELS_DIR
    zoo = measure_zoo(root, imgsz=imgsz, nc=nc, sort=sort, modules=modules)
    LOGGER.info(zoo.table.text())
    for file, reason in zoo.failures:
        LOGGER.warning(f"cannot be built: {file}: {reason}")
    target = tool_dir("models", project, name, root.name or "models")
    zoo.table.write(target, "models", f"Models at {imgsz} pixels.")
    failed = Table((Column("Model"), Column("Reason")), zoo.failures)
    failed.write(target, "failures", "Models that cannot be built.")
    LOGGER.info(
        f"{len(zoo.table.rows)} models at {imgsz} px, {len(zoo.failures)} that cannot be built; GFLOPs by thop, as "
        f"published numbers are, and by torch's counter, which sees attention\n{target}: models and failures as .txt, "
        ".md, .tex, .csv written"
    )


def measure_zoo(
    root: Path, *, imgsz: int = 640, nc: int | None = None, sort: str = "gflops", modules: str | None = None
) -> Zoo:
    """Measure every *.yaml and *.yml below `root`. DataError where there is none."""
    from ultralytics.tools.common import load_network
    from ultralytics.utils.flops import count_operations, model_size, run_copy

    if not root.is_dir():
        raise DataError(f"folder={str(root)!r}: no such folder; expected one with model YAMLs")
    files = sorted(file for suffix in ("*.yaml", "*.yml") for file in root.rglob(suffix))
    if not files:
        raise DataError(f"folder={str(root)!r}: no .yaml files in it or below; expected model YAMLs")
    rows, failures = [], []
    for file in files:
        shown = str(file.relative_to(root).with_suffix(""))
        try:
            network = load_network(str(file), nc, modules, meta=True)
            info = model_size(network, run_copy(network, imgsz, count_operations), imgsz)
        except UserError as error:  # it gets a line with its reason, and the others go on
            failures.append((str(file.relative_to(root)), " ".join(str(error).split())))
            continue
        rows.append((shown, info.layers, info.parameters / 1e6, info.gflops, info.gflops_attention))
    rows.sort(key=lambda row: (row[ORDERS[sort]], row[0]))
    return Zoo(Table(COLUMNS, rows), tuple(failures))
