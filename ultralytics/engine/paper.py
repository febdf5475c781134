"""The paper's table of a validated model: what `utils/paper_table.py` writes, found out from the network itself."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ultralytics.utils import LOGGER
from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.files import size_of
from ultralytics.utils.flops import get_flops
from ultralytics.utils.metrics import DetMetrics
from ultralytics.utils.paper_table import ModelFacts, PaperTable, paper_table


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
