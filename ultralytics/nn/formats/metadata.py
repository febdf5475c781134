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
from ultralytics.nn.head_protocol import ANCHORS, END2END, LETTERBOX, PAIRS, SCORES
from ultralytics.utils import __version__
from ultralytics.utils.errors import WeightsError
from ultralytics.utils.files import first_line, parse_json

TASK = "detect"
LAYOUTS = {  # with the sentence that describes the file
    SCORES: "(B, queries, 4 + classes): cx, cy, w, h in 0..1, class probabilities; no NMS",
    PAIRS: "(B, queries, 6): cx, cy, w, h in 0..1, score, class; no NMS",
    ANCHORS: "(B, 4 + classes, anchors): cx, cy, w, h in pixels of the input, class probabilities; needs NMS",
    END2END: "(B, boxes, 6): x1, y1, x2, y2 in pixels of the input, score, class; no NMS",
}
BITS = {8: "int8", 16: "float16"}  # of `quantize`, as newer published exporters record it
MAX_CLASSES, MAX_SIDE, MAX_STRIDE, MAX_PIXELS = 100_000, 1 << 16, 1 << 10, 1 << 27  # the last of a batch


@dataclass(frozen=True)
class Metadata:
    """Properties of an exported model."""

    names: Mapping[int, str]
    imgsz: tuple[int, int]  # height and width of the images, in pixels
    batch: int = 1
    dynamic: bool = False  # whether any image size (multiples of `stride`) and any batch are accepted
    stride: int = 32  # largest stride of the network, in pixels
    precision: str = "float32"  # or "float16" or "int8"
    data: str | None = None  # data set of the training, if known
    model_yaml: Mapping[str, Any] | None = None  # content of the model file, if the format stores it
    version: str = __version__
    layout: str = SCORES  # one of `head_protocol.py`; "" if the file does not state it
    head: str = ""  # class of the last layer, "" if unknown
    resize: str = ""  # how images become the input, if the file states it
    nms: bool = False  # whether the graph suppresses overlapping boxes

    def as_text(self) -> dict[str, str]:
        """Return the entries of the file, key and text."""
        arguments = {"batch": self.batch, "dynamic": self.dynamic, "precision": self.precision, "data": self.data}
        arguments["nms"] = self.nms
        entries = {
            "description": f"RGB images in 0..1 -> {LAYOUTS[self.layout]}",
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "version": self.version,
            "task": TASK,
            "layout": self.layout,
            "resize": self.resize,
            "end2end": str(self.layout == END2END and not self.nms),
            "stride": str(self.stride),
            "batch": str(self.batch),
            "imgsz": str(list(self.imgsz)),
            "names": str(dict(self.names)),
            "args": str(arguments),
        }
        if self.resize == LETTERBOX:  # published readers expect PAIRS of the head of the other files
            entries["head"] = self.head
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
        try:
            names, (height, width) = _parse(entries["names"]), _parse(entries["imgsz"])
            arguments = _parse(entries.get("args") or "{}") or {}
            bits = 8 if arguments.get("int8") else 16 if arguments.get("half") else arguments.get("quantize")
            yaml = entries.get("model_yaml")
            metadata = cls(
                names={int(index): str(name) for index, name in names.items()},
                imgsz=(int(height), int(width)),
                batch=int(entries.get("batch", 1)),
                dynamic=bool(_parse(entries.get("dynamic", arguments.get("dynamic", False)))),
                stride=int(entries["stride"]),
                precision=str(arguments.get("precision") or BITS.get(bits, "float32")),
                data=arguments["data"] if isinstance(arguments.get("data"), str) else None,
                model_yaml=check_plain(parse_json(yaml, "model_yaml"), "model_yaml") if yaml else None,
                version=str(entries.get("version", "unknown")),
                layout=_layout(entries, bool(arguments.get("nms"))),
                head=str(entries.get("head", "")),
                resize=str(entries.get("resize", "")),
                nms=bool(arguments.get("nms")),
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
        if self.layout not in ("", *LAYOUTS):
            expected = " or ".join(map(repr, LAYOUTS))
            raise WeightsError(f"{where}: metadata: layout is {self.layout!r}, expected {expected}.")
        if self.batch * self.imgsz[0] * self.imgsz[1] > MAX_PIXELS:
            raise WeightsError(f"{where}: metadata: batch {self.batch} of imgsz {self.imgsz} is too large.")
        if not 0 < len(self.names) <= MAX_CLASSES or set(self.names) != set(range(len(self.names))):
            raise WeightsError(f"{where}: metadata: names must be numbered from 0 without gaps, got {self.names}.")
        if self.model_yaml is not None and not isinstance(self.model_yaml, Mapping):
            raise WeightsError(f"{where}: metadata: model_yaml must be a mapping, got {self.model_yaml!r}.")
        return self


def _layout(entries: Mapping[str, Any], nms: bool) -> str:
    """Return the layout of the output: as the file states it, or as follows from entries of published files, or ""."""
    head = entries.get("head")
    described = re.search(r"rt-?detr|yolo|detect", str(head or entries.get("description", "")), re.IGNORECASE)
    if entries.get("layout") is not None:
        return str(entries["layout"])
    if described and described[0].lower().startswith("rt"):
        return PAIRS if head else SCORES
    if nms or str(entries.get("end2end")) == "True":
        return END2END
    return ANCHORS if described else ""


def _parse(text: Any) -> Any:
    return parse_literal(text) if isinstance(text, str) else text
