"""`yolo inspect model=my-model.yaml`: layer table and warnings on the terminal, table and pictures in a folder."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ultralytics.cfg.values import Range
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import ModelConfigError, UserError
from ultralytics.utils.files import run_dir, write_text

if TYPE_CHECKING:
    from ultralytics.nn.summary import Inspection
    from ultralytics.nn.tasks import DetectionModel


INSPECT_FOLDER = Path("runs") / "inspect"


@dataclass(frozen=True)
class _Folder:
    """What names the folder of an inspection; see `run_dir`."""

    project: str
    name: str | None
    exist_ok: bool = False


def command(
    model: str,
    imgsz: Annotated[int, Range(32)] = 640,
    nc: Annotated[int | None, Range(1)] = None,
    modules: str | None = None,
    project: str | None = None,
    name: str | None = None,
) -> None:
    """Show what a model file builds, or weights hold, and write it to `project`/`name`.

    Args:
        model: a model YAML, or weights (.pt).
        imgsz: side of the image in pixels.
        nc: number of classes in place of the file's.
        modules: a folder with module files, beside those that are always searched.
        project: folder of the results, `runs/inspect` by default.
        name: folder in it, the model's name by default; numbered when taken.

    Raises:
        UserError: the model cannot be read or built, or fails at this size.
    """
    from ultralytics.nn.summary import inspect_model, layer_table
    from ultralytics.utils.checks import check_imgsz

    times = [time.perf_counter()]
    network = load_model(model, nc, [modules] if modules else None)
    times.append(time.perf_counter())
    inspection = inspect_model(network, check_imgsz(imgsz))
    LOGGER.info(layer_table(inspection))
    times.append(time.perf_counter())
    folder = run_dir(_Folder(project or str(INSPECT_FOLDER), name), Path(model).stem)
    write_results(inspection, folder, Path(model).stem)
    times.append(time.perf_counter())
    built, measured, drawn = (end - start for start, end in pairwise(times))
    LOGGER.info(
        f"{folder}: layers.csv, graph.svg, graph.png, graph.html written "
        f"(built in {built:.1f} s, measured in {measured:.1f} s, drawn in {drawn:.1f} s)"
    )


def load_model(model: str, nc: int | None = None, modules: list[str] | None = None) -> DetectionModel:
    """The network of a model file, built without data where its modules allow that, or of weights.

    `modules` are folders of module files beside those that are always searched.

    Raises:
        ModelConfigError: the model file cannot be found or built.
        WeightsError: the weights cannot be read.
    """
    import torch

    from ultralytics.models.rtdetr.model import RTDETR

    detector = RTDETR(model)
    detector.modules = modules
    if detector.checkpoint is not None:
        if nc is not None:
            raise UserError(f"nc={nc}: {model} holds weights, whose number of classes is fixed; leave nc= out")
        return detector.model
    try:
        with torch.device("meta"):
            return RTDETR.network_class(model, nc=nc, overrides={"modules": modules})
    except ModelConfigError:
        # Some constructors compute with the values of tensors, which the meta device lacks. Anything else that is
        # wrong with the model is wrong here too, and raised.
        return RTDETR.network_class(model, nc=nc, overrides={"modules": modules})


def write_results(inspection: Inspection, folder: Path, title: str) -> None:
    """Write layers.csv, graph.svg, graph.html and graph.png into a folder that exists."""
    from ultralytics.inspect.drawing import draw
    from ultralytics.inspect.page import page_text
    from ultralytics.inspect.png import save_png
    from ultralytics.inspect.svg import svg_text
    from ultralytics.nn.summary import layers_csv

    drawing = draw(inspection, title)
    svg = svg_text(drawing, inspection)
    write_text(folder / "layers.csv", layers_csv(inspection))
    write_text(folder / "graph.svg", svg)
    write_text(folder / "graph.html", page_text(svg, inspection, title))
    save_png(drawing, folder / "graph.png")
