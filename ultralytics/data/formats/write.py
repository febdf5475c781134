"""The formats by name, and results written in them: to correct predictions is faster than to label from nothing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from ultralytics.data.formats.coco_json import CocoJson
from ultralytics.data.formats.common import FileNames, LabelWriter, label_image
from ultralytics.data.formats.cvat_xml import CvatXml
from ultralytics.data.formats.label_studio import LabelStudio
from ultralytics.data.formats.voc_xml import VocXml
from ultralytics.data.formats.yolo_txt import YoloTxt
from ultralytics.utils.errors import DataError, OptionError, did_you_mean
from ultralytics.utils.files import safe_name

if TYPE_CHECKING:
    from ultralytics.engine.results import Results

FORMATS: MappingProxyType[str, type[LabelWriter]] = MappingProxyType(
    {"coco": CocoJson, "yolo": YoloTxt, "voc": VocXml, "label_studio": LabelStudio, "cvat": CvatXml}
)


class LabelWriters:
    """Writes results in several formats, each in a folder named after it below `folder`.

    The files are made at the first result, whose classes are those of all; `close` finishes them.
    """

    def __init__(self, folder: str | os.PathLike, formats: Sequence[str]) -> None:
        if unknown := [name for name in formats if name not in FORMATS]:
            near = did_you_mean(unknown[0], FORMATS)
            raise OptionError(f"label format: expected one of {', '.join(FORMATS)}; got {unknown[0]!r}{near}")
        self.folder, self.formats = Path(folder), tuple(dict.fromkeys(formats))
        self._writers: list[LabelWriter] = []
        self._names = FileNames()
        self._stems: set[str] = set()

    def add(self, result: Results, frame: int | None = None) -> None:
        """Write one result; `frame` is its number where its path is a video or stream."""
        if not self._writers:
            for name in self.formats:
                (self.folder / name).mkdir(parents=True, exist_ok=True)
                self._writers.append(FORMATS[name](self.folder / name, result.names))
        file = self._names.name(result.path)
        if frame is not None:
            file = f"{_without_suffix(file)}_{frame}.jpg"
        image = label_image(result, file, self._stem(file))
        for writer in self._writers:
            writer.add(image)

    def close(self) -> None:
        """Finish the files with what was added so far."""
        with ExitStack() as stack:  # one that fails, for a full disk, does not keep the others from it
            for writer in self._writers:
                stack.callback(writer.close)
            self._writers = []

    def _stem(self, file: str) -> str:
        """Name for the image's own label file; `a.jpg` and `a.png` have two."""
        wanted = safe_name(_without_suffix(file).rpartition("/")[2])
        stem, number = wanted, 2
        while stem in self._stems:
            stem, number = f"{wanted}_{number}", number + 1
        self._stems.add(stem)
        return stem


def write_labels(results: Iterable[Results], folder: str | os.PathLike, formats: str | Sequence[str]) -> Path:
    """Write results as labels below `folder`, a folder for each format: "coco", "yolo", "voc", "label_studio", "cvat".

    A generator is written as it comes: `write_labels(model.predict("videos/", stream=True), "labels", "coco")`. Results
    of one path are frames, numbered from 1, and named `NAME_<number>.jpg`. Returns `folder`.

    Raises:
        OptionError: there is no such format.
        DataError: there is not a single result.
    """
    from ultralytics.data.loaders import VIDEO_SUFFIXES  # which imports torch

    counts: Counter[str] = Counter()
    with closing(LabelWriters(folder, [formats] if isinstance(formats, str) else formats)) as writers:
        for result in results:
            counts[result.path] += 1
            is_frame = counts[result.path] > 1 or result.path.lower().endswith(VIDEO_SUFFIXES)
            writers.add(result, counts[result.path] if is_frame else None)
    if not counts:
        raise DataError(f"write_labels: got no results, so nothing was written to {folder}")
    return Path(folder)


def _without_suffix(file: str) -> str:
    folder, slash, name = file.rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)
