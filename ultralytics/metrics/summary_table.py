"""The paper's table of a validated model: what `utils/paper_table.py` writes, found out from the network itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from ultralytics.metrics.detection import DetMetrics
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.files import size_of, write_text
from ultralytics.utils.flops import get_flops
from ultralytics.utils.tables import SUFFIXES, Cell, Column, Table

if TYPE_CHECKING:
    from ultralytics.metrics.detection import DetMetrics


STEM = "paper_table"
MODEL_COLUMNS = (
    Column("Model"),
    Column("Size (px)", "d"),
    Column("Batch", "d"),
    Column("Params (M)", ".3f"),
    Column("GFLOPs", ".2f"),
    Column("Pre (ms)", ".2f"),
    Column("Model (ms)", ".2f"),
    Column("Post (ms)", ".2f"),
    Column("FPS", ".1f"),
    Column("FPS (model)", ".1f"),
    Column("File (MB)", ".1f"),
)
CLASS_COLUMNS = (
    Column("Class"),
    Column("Images", "d"),
    Column("Instances", "d"),
    *(Column(title, ".3f") for title in ("P", "R", "F1", "mAP50", "mAP75", "mAP50-95")),
)
NOTES = (
    "Times: of this validation, an image, in its batches; Pre is the way to the device and the scaling, reading and "
    "resizing go on beside it. FPS counts all three, (model) the model alone. `yolo fps` measures with warm-up.",
    "P, R, F1: at the confidence where the mean F1 is largest. GFLOPs: by thop. File: 1 MB is 1,000,000 bytes.",
)


@dataclass(frozen=True)
class ModelFacts:
    """What the table says of the model beside its accuracy; None where it is not known.

    Attributes:
        name: as it shall stand in the table.
        imgsz: side of the images in pixels.
        batch: images that went through the model together.
        parameters: how many numbers it holds.
        gflops: for one image of that size, by thop.
        speed: milliseconds an image of preprocess, inference and postprocess.
        file_bytes: size of the weights file.
    """

    name: str
    imgsz: int
    batch: int | None
    parameters: int | None
    gflops: float | None
    speed: Mapping[str, float]
    file_bytes: int | None

    def row(self) -> list[Cell]:
        """Cells for MODEL_COLUMNS."""
        pre, model, post = (self.speed[stage] for stage in ("preprocess", "inference", "postprocess"))
        millions = None if self.parameters is None else self.parameters / 1e6
        megabytes = None if self.file_bytes is None else self.file_bytes / 1e6
        rates = (_per_second(pre + model + post), _per_second(model))
        return [self.name, self.imgsz, self.batch, millions, self.gflops, pre, model, post, *rates, megabytes]


@dataclass(frozen=True)
class PaperTable:
    """Both parts: one row about the model, and a row for each class with labels after the row `all`."""

    model: Table
    classes: Table

    @property
    def joined(self) -> Table:
        """One table for programs: the model's cells stand before those of every class."""
        rows = [(*self.model.rows[0], *row) for row in self.classes.rows]
        return Table((*self.model.columns, *self.classes.columns), rows)

    def text(self) -> str:
        """Both parts as lines for the terminal."""
        return "\n\n".join([self.model.text(), self.classes.text(), "\n".join(NOTES)])

    def markdown(self) -> str:
        """Both parts in Markdown."""
        return "\n\n".join([self.model.markdown(), self.classes.markdown(), *NOTES])

    def latex(self) -> str:
        """Two floating tables, for a document with `\\usepackage{booktabs}`."""
        name = self.model.rows[0][0]
        return "\n\n".join([
            r"% \usepackage[T1]{fontenc} \usepackage{booktabs}; names in other scripts than Latin need XeLaTeX",
            self.model.latex(f"Size and speed of {name}.", "tab:model"),
            self.classes.latex(f"Results of {name} for each class.", "tab:classes"),
        ])  # fmt: skip

    def csv(self) -> str:
        """The joined table."""
        return self.joined.csv()

    def write(self, folder: str | Path) -> list[Path]:
        """Write paper_table.txt, .md, .tex and .csv into a folder; returns their paths."""
        texts = (self.text(), self.markdown(), self.latex(), self.csv())
        return [
            write_text(Path(folder) / f"{STEM}.{suffix}", text.rstrip("\n") + "\n")
            for suffix, text in zip(SUFFIXES, texts, strict=True)
        ]


def paper_table(metrics: DetMetrics, facts: ModelFacts) -> PaperTable:
    """The table of a validation whose `metrics` are computed."""
    rows = [[row[column.title] for column in CLASS_COLUMNS] for row in metrics.summary()]
    return PaperTable(Table(MODEL_COLUMNS, [facts.row()]), Table(CLASS_COLUMNS, rows))


def _per_second(milliseconds: float) -> float | None:
    return 1000 / milliseconds if milliseconds > 0 else None


def table_of(network: nn.Module, metrics: DetMetrics, source: str, *, imgsz: int, batch: int | None) -> PaperTable:
    """The table of a network.

    Args:
        network: it is not run and not changed; of an exported model its size in numbers and operations stays open.
        metrics: of its validation.
        source: the weights, the exported model or the model file it comes from.
        imgsz, batch: side of the images in pixels and how many went together, in that validation.

    GFLOPs that cannot be counted are left open in the table, and the log says why.
    """
    file = Path(source)
    parameters = sum(p.numel() for p in network.parameters())
    gflops = None
    if parameters:  # an exported model has none that could be counted
        try:
            gflops = get_flops(network, imgsz)
        except ModelConfigError as error:
            LOGGER.warning(f"paper table: the GFLOPs stay open: {error}")
    facts = ModelFacts(
        name=_name(network, file),
        imgsz=imgsz,
        batch=batch,
        parameters=parameters or None,
        gflops=gflops,
        speed=metrics.speed,
        file_bytes=_size(file),
    )
    return paper_table(metrics, facts)


def _size(file: Path) -> int | None:
    """Bytes of weights or of an exported model, which may be a folder; None for a model file, which holds none."""
    return None if file.suffix in (".yaml", ".yml") or not file.exists() else size_of(file)


def _name(network: nn.Module, file: Path) -> str:
    """The name of the model file where the network remembers it, else of the weights."""
    stated = (getattr(network, "yaml", None) or {}).get("yaml_file")
    return Path(stated).stem if stated else file.stem


def write_table(table: PaperTable, folder: Path) -> None:
    """Write the four files and tell the model's row and where they are."""
    table.write(folder)
    LOGGER.info(f"{table.model.text()}\n{folder}: paper_table.txt, .md, .tex, .csv written")
