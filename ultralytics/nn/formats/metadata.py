"""What an exported file says of the model in it. Keys and forms are those of the published exporters."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from torch import Tensor

from ultralytics.utils import __version__
from ultralytics.utils.errors import WeightsError

TASK = "detect"


@dataclass(frozen=True)
class Metadata:
    """What is known of an exported model.

    Attributes:
        names: class names by index.
        imgsz: height and width of the images, in pixels.
        batch: images at a time.
        dynamic: whether it takes any size (multiples of `stride`) and any number of images.
        stride: largest stride of the network, in pixels.
        precision: "float32", "float16" or "int8".
        data: the data set it was trained on, where the file says so.
        model_yaml: the model file's content, where the file has it.
        version: of the package that wrote it.
        smallest: side in pixels of the smallest square image of a dynamic model, with a position for every query; 0
            where it is not known.
        pairs: whether its output is the (B, queries, 6) of newer published exporters: box, score, class.
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
    smallest: int = 0
    pairs: bool = False

    def as_text(self) -> dict[str, str]:
        """Texts by key, as formats keep them."""
        arguments = {"batch": self.batch, "dynamic": self.dynamic, "precision": self.precision, "data": self.data}
        arguments |= {"smallest": self.smallest} if self.dynamic else {}
        entries = {
            "description": "RT-DETR: images (B, 3, H, W), RGB in 0..1 -> (B, queries, 4 + classes): cx, cy, w, h in "
            "0..1 of the image, then a probability for each class; no NMS",
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
        """From the texts (or values) by key that a file holds.

        Raises:
            WeightsError: it says nothing of a detector, or not what is needed to run it.
        """
        if not {"names", "stride", "imgsz"} <= set(entries):
            raise WeightsError(
                f"{where}: says nothing of its classes and image size; expected a model that `yolo export`, or the "
                f"published package, has written. It holds {', '.join(sorted(entries)) or 'no metadata at all'}."
            )
        if entries.get("task", TASK) != TASK:
            raise WeightsError(f"{where}: is a model to {entries['task']}, expected one to {TASK}.")
        try:
            names, size = _value(entries["names"]), _value(entries["imgsz"])
            size = size if isinstance(size, list | tuple) else [size, size]
            arguments = _value(entries.get("args", "{}")) or {}
            yaml = entries.get("model_yaml")
            return cls(
                names={int(index): str(name) for index, name in names.items()},
                imgsz=(int(size[0]), int(size[-1])),
                batch=int(entries.get("batch", 1)),
                dynamic=bool(_value(entries.get("dynamic", arguments.get("dynamic", False)))),
                stride=int(entries["stride"]),
                precision=str(arguments.get("precision") or _published_precision(arguments)),
                data=arguments.get("data"),
                model_yaml=json.loads(yaml) if yaml else None,
                version=str(entries.get("version", "unknown")),
                smallest=int(arguments.get("smallest", 0)),
                pairs="head" in entries,  # a key as old as that output
            )
        except (ValueError, SyntaxError, TypeError, AttributeError, IndexError) as error:
            raise WeightsError(f"{where}: what it says of its model cannot be read ({error}).") from error


@dataclass(frozen=True)
class Opened:
    """An exported model that is ready to run.

    Attributes:
        metadata: what the file says.
        run: images (B, 3, H, W), float32 RGB in 0..1 -> (B, queries, 4 + classes), or the published exporters'
            (B, queries, 6) of box, score and class. The batch is `metadata.batch` unless it is dynamic.
    """

    metadata: Metadata
    run: Callable[[Tensor], Tensor]


def _value(text: Any) -> Any:
    return ast.literal_eval(text) if isinstance(text, str) else text


def _published_precision(arguments: Mapping[str, Any]) -> str:
    return "int8" if arguments.get("int8") else "float16" if arguments.get("half") else "float32"
