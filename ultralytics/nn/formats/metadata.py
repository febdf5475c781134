"""Metadata of an exported file. Keys and value formats are those of the published exporters."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ultralytics.cfg.plain_data import check_plain, parse_literal
from ultralytics.nn.head_protocol import PAIRS, SCORES
from ultralytics.utils import __version__
from ultralytics.utils.errors import WeightsError
from ultralytics.utils.files import first_line, parse_json

TASK = "detect"
HEAD = "RTDETRDecoder"  # under the key of newer published exporters
MAX_CLASSES, MAX_SIDE, MAX_STRIDE, MAX_PIXELS = 100_000, 1 << 16, 1 << 10, 1 << 27  # the last of a batch
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
        layout: SCORES, or PAIRS of newer published exporters; "" if the file does not state it.
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
    layout: str = SCORES

    def as_text(self) -> dict[str, str]:
        """Return the entries of the file, key and text."""
        arguments = {"batch": self.batch, "dynamic": self.dynamic, "precision": self.precision, "data": self.data}
        entries = {
            "description": OUTPUT,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "version": self.version,
            "task": TASK,
            "layout": self.layout,
            "stride": str(self.stride),
            "batch": str(self.batch),
            "imgsz": str(list(self.imgsz)),
            "names": str(dict(self.names)),
            "args": str(arguments),
        }
        return entries | ({"model_yaml": json.dumps(self.model_yaml)} if self.model_yaml is not None else {})

    @classmethod
    def from_text(cls, entries: Any, where: str | Path) -> Metadata:
        """Parse the entries of a file, as texts or as values. Raise WeightsError if they describe no detector."""
        check_plain(entries, f"{where}: its metadata", WeightsError)
        if not isinstance(entries, Mapping) or not {"names", "stride", "imgsz"} <= set(entries):
            found = ", ".join(sorted(map(str, entries))) if isinstance(entries, Mapping) else ""
            raise WeightsError(
                f"{where}: no class names and image size in its metadata; expected a model written by `yolo export` or "
                f"by the published package. It holds {found or 'no metadata'}."
            )
        if entries.get("task", TASK) != TASK:
            raise WeightsError(f"{where}: its task is {entries['task']}, expected {TASK}.")
        layout = _layout(entries, where)
        try:
            names, (height, width) = _parse(entries["names"]), _parse(entries["imgsz"])
            arguments = _parse(entries.get("args") or "{}") or {}
            published = "int8" if arguments.get("int8") else "float16" if arguments.get("half") else "float32"
            yaml = entries.get("model_yaml")
            metadata = cls(
                names={int(index): str(name) for index, name in names.items()},
                imgsz=(int(height), int(width)),
                batch=int(entries.get("batch", 1)),
                dynamic=bool(_parse(entries.get("dynamic", arguments.get("dynamic", False)))),
                stride=int(entries["stride"]),
                precision=str(arguments.get("precision") or published),
                data=arguments["data"] if isinstance(arguments.get("data"), str) else None,
                model_yaml=check_plain(parse_json(yaml, "model_yaml"), "model_yaml") if yaml else None,
                version=str(entries.get("version", "unknown")),
                layout=layout,
            )
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
            raise WeightsError(f"{where}: cannot parse its metadata ({first_line(error)}).") from error
        return metadata.checked(where)

    def checked(self, where: str | Path) -> Metadata:
        """Return the metadata; raise WeightsError if a number is out of range, or there is no name for each class."""
        ranges = [("stride", self.stride, MAX_STRIDE), ("batch", self.batch, MAX_PIXELS // (32 * 32))]
        for key, value, limit in [*ranges, *(("imgsz", side, MAX_SIDE) for side in self.imgsz)]:
            if not 1 <= value <= limit:
                raise WeightsError(f"{where}: metadata: {key} is {value}, expected a number from 1 to {limit}.")
        if self.batch * self.imgsz[0] * self.imgsz[1] > MAX_PIXELS:
            raise WeightsError(f"{where}: metadata: batch {self.batch} of imgsz {self.imgsz} is too large.")
        if not 0 < len(self.names) <= MAX_CLASSES or set(self.names) != set(range(len(self.names))):
            raise WeightsError(f"{where}: metadata: names must be numbered from 0 without gaps, got {self.names}.")
        if self.model_yaml is not None and not isinstance(self.model_yaml, Mapping):
            raise WeightsError(f"{where}: metadata: model_yaml must be a mapping, got {self.model_yaml!r}.")
        return self


def _layout(entries: Mapping[str, Any], where: str | Path) -> str:
    """Return the layout of the output: that of our exporter, of a published RT-DETR, or "" if it is not stated.

    Raises WeightsError for a model that is no RT-DETR, such as a YOLO, whose boxes have another scale.
    """
    head, layout = entries.get("head", HEAD), entries.get("layout")
    if head != HEAD or ("head" not in entries and str(entries.get("end2end", False)) == "True"):
        kind = f"the head {head}" if head != HEAD else "an end-to-end YOLO head"
        raise WeightsError(f"{where}: it has {kind}, expected {HEAD}: only RT-DETR models are run here.")
    if layout not in (None, SCORES, PAIRS):
        raise WeightsError(f"{where}: metadata: layout is {layout!r}, expected {SCORES!r} or {PAIRS!r}.")
    described = re.search(r"rt-?detr", str(entries.get("description", "")), re.IGNORECASE)
    return layout or (PAIRS if "head" in entries else SCORES if described else "")


def _parse(text: Any) -> Any:
    return parse_literal(text) if isinstance(text, str) else text
