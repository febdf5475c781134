"""`yolo models`: parameters and FLOPs of every model YAML in a folder, and the reasons why some cannot be built."""

from pathlib import Path
from typing import Annotated

from ultralytics.cfg.model_yaml import MODELS_DIR
from ultralytics.cfg.values import OneOf, Range
from ultralytics.tools.common import load_network, tool_dir
from ultralytics.utils import LOGGER, progress, quiet
from ultralytics.utils.errors import DataError, UserError, counted
from ultralytics.utils.files import list_files
from ultralytics.utils.flops import count_operations, model_size, run_copy
from ultralytics.utils.tables import Column, Table

COLUMNS = (
    Column("Model"), Column("Layers", "d"), Column("Params (M)", ".3f"), Column("GFLOPs", ".2f"),
    Column("GFLOPs with attention", ".2f"),
)  # fmt: skip
ORDERS = {"name": 0, "parameters": 2, "gflops": 3}  # column of the table


def command(
    folder: str | None = None, imgsz: Annotated[int, Range(32)] = 640, nc: Annotated[int | None, Range(1)] = None,
    sort: Annotated[str, OneOf(*ORDERS)] = "gflops", modules: str | None = None, project: str | None = None,
    name: str | None = None,
) -> None:  # fmt: skip
    """Build every model YAML in a folder, without data if possible, and show the sizes.

    Args:
        folder: with subfolders; the package's own models by default.
        nc: number of classes in place of the files'.
        sort: the smallest first.
    """
    root = Path(folder) if folder else MODELS_DIR
    table, failures = measure_models(root, imgsz=imgsz, nc=nc, sort=sort, modules=modules)
    LOGGER.info(table.text())
    for file, reason in failures.rows:
        LOGGER.warning(f"cannot be built: {file}: {reason}")
    target = tool_dir("models", project, name, root.name or "models")
    table.write(target, "models", f"Models at {imgsz} pixels.")
    failures.write(target, "failures", "Models that cannot be built.")
    LOGGER.info(
        f"{counted(len(table.rows), 'model')} at {imgsz} px, {len(failures.rows)} that cannot be built; files with "
        "scales at the one they choose, or the first; GFLOPs by thop, as in papers, and by torch's counter, which "
        f"includes attention\n{target}: models and failures as .txt, .md, .tex, .csv written"
    )


def measure_models(
    root: Path, *, imgsz: int = 640, nc: int | None = None, sort: str = "gflops", modules: str | None = None
) -> tuple[Table, Table]:
    """Measure every *.yaml and *.yml in a folder, and return the table of sizes and the table of failures."""
    files = list_files(root, (".yaml", ".yml"))
    if not files:
        raise DataError(f"folder={str(root)!r}: no .yaml files; expected a folder with model YAMLs")
    rows, failures = [], []
    for file in progress(files, "model files", len(files)):
        try:
            with quiet():  # each file without a scale would warn
                network = load_network(str(file), nc, modules, meta=True)
            info = model_size(network, run_copy(network, imgsz, count_operations), imgsz)
        except UserError as error:
            failures.append((str(file.relative_to(root)), " ".join(str(error).split())))
            continue
        shown = str(file.relative_to(root).with_suffix(""))
        rows.append((shown, info.layers, info.parameters / 1e6, info.gflops, info.gflops_attention))
    rows.sort(key=lambda row: (row[ORDERS[sort]], row[0]))
    return Table(COLUMNS, rows), Table((Column("Model"), Column("Reason")), failures)
