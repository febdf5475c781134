"""The table of what was found in a data set, shown before training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ultralytics.data.labels import ImageLabels, Problem

LISTED = 5  # findings of one kind that are named; the rest is counted
KINDS = {
    "corrupt": "unreadable images (skipped)",
    "missing_image": "listed images that do not exist (skipped)",
    "missing_label": "images without a label file (taken as background)",
    "bad_class": "rows with a class outside the names",
    "malformed": "malformed rows (skipped)",
    "out_of_range": "boxes outside the image (skipped)",
    "clipped": "boxes cut at the image border",
    "duplicate": "duplicate rows (kept once)",
    "size": "images whose size differs from the json",
}


@dataclass(frozen=True)
class DatasetReport:
    """Counts of one split, and every finding; `str()` gives the table."""

    split: str
    images: int
    empty: int  # images without boxes, with or without a label file
    crowd: int  # crowd regions: not trained on
    boxes_per_class: tuple[int, ...]
    images_per_class: tuple[int, ...]
    names: dict[int, str]
    problems: tuple[Problem, ...]

    @classmethod
    def of(cls, split: str, labels: list[ImageLabels], names: dict[int, str], problems: list[Problem]) -> DatasetReport:
        """Count the labels of a split."""
        kept = [item.cls[~item.crowd] for item in labels]
        boxes, images = np.zeros((2, len(names)), int)
        for classes in kept:
            np.add.at(boxes, classes, 1)
            images[np.unique(classes)] += 1
        return cls(
            split,
            len(labels),
            sum(not len(classes) for classes in kept),
            sum(int(item.crowd.sum()) for item in labels),
            tuple(boxes.tolist()),
            tuple(images.tolist()),
            names,
            tuple(problems),
        )

    @property
    def boxes(self) -> int:
        """Boxes without crowd regions."""
        return sum(self.boxes_per_class)

    def of_kind(self, kind: str) -> list[Problem]:
        """Findings of one kind."""
        return [problem for problem in self.problems if problem.kind == kind]

    def describe(self, kind: str) -> str:
        """One line with the number of findings of a kind, then the first few, each on a line."""
        found = self.of_kind(kind)
        lines = [f"{len(found)} {KINDS[kind]}", *(f"  {p.where}: {p.detail}" for p in found[:LISTED])]
        if len(found) > LISTED:
            lines.append(f"  ... and {len(found) - LISTED} more")
        return "\n".join(lines)

    def __str__(self) -> str:
        crowd = f", {self.crowd} crowd regions left out" if self.crowd else ""
        lines = [f"{self.split}: {self.images} images, {self.boxes} boxes, {self.empty} images without boxes{crowd}"]
        lines += self._class_table()
        lines += [self.describe(kind) for kind in KINDS if self.of_kind(kind)]
        return "\n".join(lines)

    def _class_table(self) -> list[str]:
        """`name boxes/images` of every class, in as many columns as fit; classes without a box are named last."""
        shown = [i for i in self.names if self.boxes_per_class[i]]
        cells = [f"{self.names[i]} {self.boxes_per_class[i]}/{self.images_per_class[i]}" for i in shown]
        if not cells:
            return []
        width = max(map(len, cells)) + 3
        columns = max(1, 110 // width)
        rows = ["".join(c.ljust(width) for c in cells[k : k + columns]) for k in range(0, len(cells), columns)]
        lines = ["boxes/images of each class:", *(f"  {row.rstrip()}" for row in rows)]
        absent = [self.names[i] for i in self.names if not self.boxes_per_class[i]]
        if absent:
            more = f" and {len(absent) - 10} more" if len(absent) > 10 else ""
            lines.append(f"  {len(absent)} classes without a box: {', '.join(absent[:10])}{more}")
        return lines
