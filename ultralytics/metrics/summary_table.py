"""The summary table of a validated model: size, and accuracy of every class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ultralytics.metrics.detection import DetMetrics
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.files import size_of
from ultralytics.utils.flops import get_flops
from ultralytics.utils.tables import Column, Table, write_tables

STEM = "summary_table"  # of the files
MODEL_COLUMNS = (
    Column("Model"), Column("Size (px)", "d"), Column("Params (M)", ".3f"), Column("GFLOPs", ".2f"),
    Column("File (MB)", ".1f"),
)  # fmt: skip
DATA_COLUMNS = (Column("Data"), Column("Split"), Column("Fingerprint"))  # in the CSV
NOTES = (
    "mAP: by the rules of the published package (protocol ultralytics); other AP: by the protocol in the title.",
    "P, R, F1: at the confidence Conf, that of the highest mean F1 (smoothed). GFLOPs: by thop, at this size. "
    "File: 1 MB = 1,000,000 bytes. Speed: `yolo fps`; the times of a validation depend on its batches and loading.",
)


@dataclass(frozen=True)
class SummaryTable:
    """Two tables: one row for the model; a row `all` and a row for each class with labels."""

    model: Table
    classes: Table
    data: tuple[str | None, str | None, str | None]  # cells of DATA_COLUMNS

    @classmethod
    def build(
        cls, metrics: DetMetrics, *, name: str, imgsz: int, parameters: int | None, gflops: float | None,
        file_bytes: int | None,
    ) -> SummaryTable:  # fmt: skip
        """Build the tables from computed `metrics` and facts of the model; None for unknown numbers."""
        millions, megabytes = (None if number is None else number / 1e6 for number in (parameters, file_bytes))
        row = [name, imgsz, millions, gflops, megabytes]
        classes = [list(row.values()) for row in metrics.rows()]
        return cls(Table(MODEL_COLUMNS, [row]), Table(metrics.columns, classes), metrics.data)

    def text(self) -> str:
        """Return both tables and their notes for the terminal."""
        return "\n\n".join([self.model.text(), self.classes.text(), "\n".join(NOTES)])

    def markdown(self) -> str:
        """Return both tables and their notes in Markdown."""
        return "\n\n".join([self.model.markdown(), self.classes.markdown(), *NOTES])

    def _repr_html_(self) -> str:  # of notebooks
        return self.model.html() + self.classes.html()

    def latex(self) -> str:
        """Return two floating tables for a document with `\\usepackage{booktabs}`."""
        name = self.model.rows[0][0]
        return "\n\n".join([
            r"% \usepackage[T1]{fontenc} \usepackage{booktabs}; non-Latin names need XeLaTeX",
            self.model.latex(f"Size of {name}.", "tab:model"),
            self.classes.latex(f"Results of {name} for each class.", "tab:classes"),
        ])  # fmt: skip

    def csv(self) -> str:
        """Return one table: the cells of the model and the data, repeated before those of each class."""
        rows = [(*self.model.rows[0], *self.data, *row) for row in self.classes.rows]
        return Table((*self.model.columns, *DATA_COLUMNS, *self.classes.columns), rows).csv()

    def save(self, folder: str | Path) -> list[Path]:
        """Write summary_table.txt, .md, .tex and .csv into a folder, log the model's row, and return their paths."""
        files = write_tables(Path(folder), STEM, self.text(), self.markdown(), self.latex(), self.csv())
        LOGGER.info(f"{self.model.text()}\n{folder}: summary_table.txt, .md, .tex, .csv written")
        return files


def summary_table(network: nn.Module, metrics: DetMetrics, source: str, *, imgsz: int) -> SummaryTable:
    """Build the table of a network from its validation (`metrics`, `imgsz`) and its file `source`.

    GFLOPs that cannot be counted are left out, with a warning. An exported model has no parameters.
    """
    file = Path(source)
    parameters = sum(p.numel() for p in network.parameters())
    gflops = None
    if parameters:
        try:
            gflops = get_flops(network, imgsz)
        except ModelConfigError as error:
            LOGGER.warning(f"summary table: the GFLOPs cannot be counted: {error}")
    model_file = (getattr(network, "yaml", None) or {}).get("yaml_file")
    has_size = file.suffix not in (".yaml", ".yml") and file.exists()
    facts = {"name": Path(model_file or file).stem, "parameters": parameters or None, "gflops": gflops}
    file_bytes = size_of(file) if has_size else None
    return SummaryTable.build(metrics, imgsz=imgsz, file_bytes=file_bytes, **facts)
