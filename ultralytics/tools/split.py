"""`yolo split images=all/images save=my train=0.8 val=0.1 test=0.1`: split images and labels at random."""

import os
import random
import shutil
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Annotated

from ultralytics.cfg.values import OneOf, Range
from ultralytics.tools.common import check_empty, list_labeled, read_classes
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, OptionError
from ultralytics.utils.files import write_text, write_yaml

Ratio = Annotated[float, Range(0, 1)]
Pairs = list[tuple[Path, Path | None]]  # image, label file


def command(
    images: str, save: str, labels: str | None = None, train: Ratio = 0.8, val: Ratio = 0.1, test: Ratio = 0.1,
    seed: Annotated[int, Range(0)] = 0, mode: Annotated[str, OneOf("copy", "list")] = "copy",
    classes: str | None = None,
) -> None:  # fmt: skip
    """Split the images of a folder into train, val and test. The same seed and files give the same split.

    Args:
        images, save: a folder of images, with subfolders, and one to write to, which must be empty or not exist.
        labels: folder of the label files; by default images/... -> labels/...
        train, val, test: ratios of the images; their sum is 1.
        mode: `copy` writes images/train, labels/train and so on; `list` writes train.txt, val.txt and test.txt with
            the paths of the images.
        classes: text file with one class name per line, or cat,dog; also writes data.yaml.
    """
    root, target = Path(images).absolute(), check_empty(save).absolute()
    names = read_classes(classes) if classes else None
    if abs(train + val + test - 1) > 1e-6:
        total = train + val + test
        raise OptionError(f"split: train={train:g} val={val:g} test={test:g} sum to {total:g}, expected 1")
    if mode == "list" and labels:
        raise OptionError("split: mode=list keeps labels where they are (images/... -> labels/...); drop labels=")
    pairs = find_pairs(root, labels)
    parts = dict(zip(("train", "val", "test"), split_pairs(pairs, (train, val, test), seed), strict=True))
    entries = {}
    for split, part in parts.items():
        if mode == "list" and part:
            lines = [Path(os.path.relpath(image, target)).as_posix() for image, _ in part]
            readable = (line.strip().encode("utf-8", "replace").decode().splitlines() for line in lines)
            if odd := [line for line, read in zip(lines, readable, strict=True) if read != [line]]:
                raise DataError(f"{odd[0]!r}: such a name cannot be in a list; rename the file, or use mode=copy")
            entries[split] = write_text(target / f"{split}.txt", "".join(f"{line}\n" for line in lines)).name
        elif part:
            entries[split] = f"images/{split}"
            for image, text in part:
                relative = image.relative_to(root)
                _copy(image, target / "images" / split / relative)
                if text:
                    _copy(text, target / "labels" / split / relative.with_suffix(".txt"))
    if names:
        write_yaml(target / "data.yaml", {**entries, "names": names})
    if without := sum(text is None for _, text in pairs):
        LOGGER.warning(f"images without a label file: {without} of {len(pairs)}; they count as images without objects")
    counts = ", ".join(f"{split} {len(part)}" for split, part in parts.items())
    LOGGER.info(f"{save}: {counts} images, seed {seed}" + ("; data.yaml written" if names else ""))


def find_pairs(images: Path, labels: str | None) -> Pairs:
    """List the images of a folder, sorted, with their label files."""
    owner: dict[Path, Path] = {}  # image of each label file
    for image, text in list_labeled(images, labels):
        if not os.path.isfile(image):
            LOGGER.warning(f"{image}: left out, is a device, pipe or broken link")
        elif owner.setdefault(text, image) != image:
            raise DataError(f"{image} and {owner[text]}: both have the label file {text.name}; rename one of them")
    return [(image, text if os.path.isfile(text) else None) for text, image in owner.items()]


def split_pairs(pairs: Pairs, ratios: Sequence[float], seed: int) -> list[Pairs]:
    """Split pairs at random into sorted parts of these ratios."""
    shuffled = list(pairs)
    random.Random(seed).shuffle(shuffled)
    ends = [round(len(pairs) * total) for total in accumulate(ratios, initial=0)]
    return [sorted(shuffled[start:end], key=lambda pair: pair[0]) for start, end in pairwise(ends)]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
