"""Metadata of an exported file. Keys and value formats are those of the published exporters."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ultralytics.utils import __version__
from ultralytics.utils.errors import WeightsError

TASK = "detect"
OUTPUT = "RT-DETR: RGB images in 0..1 -> (B, queries, 4 + classes): cx, cy, w, h in 0..1, class probabilities; no NMS"


@dataclass(frozen=True)
class Metadata:
    """Properties of an exported model.

    Attributes:
        imgsz: height and width of the images, in pixels.
        dynamic: whether any image size (multiples of `stride`) and any batch are accepted.
        stride: largest stride of the network, in pixels.
        precision: "float32", "float16" or "int8".
        data: the data set of the training, if known.
        model_yaml: content of the model file, if the format stores it.
        pairs: whether the output is the (B, queries, 6) of newer published exporters: box, score, class.
    """

    names: Mapping[int, str]
    imgsz: tuple[int, int]
    batch: int = 1
    dynamic: bool = False
    stride: int = 32
    precision: str = "float32"
    data: str | None = None
    model_yaml: Mapping[str, Any] | None = None
    version: str = __version__
    pairs: bool = False

    def as_text(self) -> dict[str, str]:
        """Return the entries of the file, key and text."""
        arguments = {"batch": self.batch, "dynamic": self.dynamic, "precision": self.precision, "data": self.data}
        entries = {
            "description": OUTPUT,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "version": self.version,
            "task": TASK,
            "stride": str(self.stride),
            "batch": str(self.batch),
            "imgsz": str(list(self.imgsz)),
            "names": str(dict(self.names)),
            "args": str(arguments),
        }
        return entries | ({"model_yaml": json.dumps(self.model_yaml)} if self.model_yaml is not None else {})

    @classmethod
    def from_text(cls, entries: Mapping[str, Any], where: str | Path) -> Metadata:
        """Parse the entries of a file, as texts or as values. Raise WeightsError if they describe no detector."""
        if not {"names", "stride", "imgsz"} <= set(entries):
            raise WeightsError(
                f"{where}: no class names and image size in its metadata; expected a model written by `yolo export` or "
                f"by the published package. It holds {', '.join(sorted(entries)) or 'no metadata'}."
            )
        if entries.get("task", TASK) != TASK:
            raise WeightsError(f"{where}: its task is {entries['task']}, expected {TASK}.")
        try:
            names, (height, width) = _parse(entries["names"]), _parse(entries["imgsz"])
            arguments = _parse(entries.get("args", "{}")) or {}
            published = "int8" if arguments.get("int8") else "float16" if arguments.get("half") else "float32"
            yaml = entries.get("model_yaml")
            return cls(
                names={int(index): str(name) for index, name in names.items()},
                imgsz=(int(height), int(width)),
                batch=int(entries.get("batch", 1)),
                dynamic=bool(_parse(entries.get("dynamic", arguments.get("dynamic", False)))),
                stride=int(entries["stride"]),
                precision=str(arguments.get("precision") or published),
                data=arguments.get("data"),
                model_yaml=json.loads(yaml) if yaml else None,
                version=str(entries.get("version", "unknown")),
                pairs="head" in entries,  # this key and that output came with the same version
            )
        except (ValueError, SyntaxError, TypeError, AttributeError) as error:
            raise WeightsError(f"{where}: cannot parse its metadata ({error}).") from error


def _parse(text: Any) -> Any:
    return ast.literal_eval(text) if isinstance(text, str) else text
