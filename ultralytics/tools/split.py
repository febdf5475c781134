"""`yolo split images=all/images save=my train=0.8 val=0.1 test=0.1`: images and labels dealt out at random."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from ultralytics.cfg.values import OneOf, Range
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, OptionError
from ultralytics.utils.files import write_text, write_yaml

SPLITS = ("train", "val", "test")
Ratio = Annotated[float, Range(0, 1)]
Pairs = list[tuple[Path, Path | None]]  # image, its label file or None


def command(
    images: str,
    save: str,
    labels: str | None = None,
    train: Ratio = 0.8,
    val: Ratio = 0.1,
    test: Ratio = 0.1,
    seed: Annotated[int, Range(0)] = 0,
    mode: Annotated[str, OneOf("copy", "list")] = "copy",
    classes: str | None = None,
) -> None:
    """Deal the images of a folder out to train, val and test. The same seed and files give the same parts.

    Args:
        images: a folder of images; folders below it are kept.
        save: the folder to write to; it must be empty or not be there.
        labels: the folder of the text files; by default where YOLO has them, images/... -> labels/...
        train, val, test: shares of the images, 1 in all.
        seed: of the order in which the images are dealt.
        mode: `copy` makes images/train, labels/train and so on; `list` writes train.txt, val.txt and test.txt with the
            paths of the images, which stay where they are.
        classes: a text file with a class name a line, or the names: cat,dog; with them data.yaml is written, too.

    Raises:
        UserError: no images are there, the shares are not 1 in all, `save` has files, two images have one label.
    """
    from ultralytics.tools.yolo2coco import read_classes

    root, target = Path(images), Path(save)
    ratios = (train, val, test)
    names = read_classes(classes) if classes else None
    if abs(sum(ratios) - 1) > 1e-6:
        raise OptionError(f"split: train={train:g} val={val:g} test={test:g} are {sum(ratios):g} in all, expected 1")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"save={save!r}: is there already and not empty; nothing is overwritten, choose another folder")
    if mode == "list" and labels:
        raise OptionError(
            "split: mode=list leaves images where they are, with labels where YOLO has them; drop labels="
        )
    pairs = find_pairs(root, Path(labels) if labels else None)
    parts = dict(zip(SPLITS, deal(pairs, ratios, seed), strict=True))
    write = copy_parts if mode == "copy" else list_parts
    entries = write({split: part for split, part in parts.items() if part}, root, target)
    if names:
        write_yaml(target / "data.yaml", {**entries, "names": names})
    without = sum(label is None for _, label in pairs)
    if without:
        LOGGER.warning(f"{without} of {len(pairs)} images have no label file; they count as images without objects")
    counts = ", ".join(f"{split} {len(part)}" for split, part in parts.items())
    LOGGER.info(f"{target}: {counts} images, seed {seed}" + ("; data.yaml written" if names else ""))


def find_pairs(images: Path, labels: Path | None) -> Pairs:
    """Images below a folder, sorted, with their label files."""
    from ultralytics.data.dataset_yaml import label_file, list_images

    for folder in (images, labels):
        if folder is not None and not folder.is_dir():
            raise DataError(f"{folder}: no such folder")
    pairs: Pairs = []
    owner: dict[Path, Path] = {}
    for image in list_images([images.absolute()], images):
        inside = image.relative_to(images.absolute())
        text = label_file(image) if labels is None else labels / inside.with_suffix(".txt")
        other = owner.setdefault(inside.with_suffix(".txt"), image)
        if other is not image:
            raise DataError(f"{image} and {other}: both would have the label file {text.name}; rename one of them")
        pairs.append((image, text if text.is_file() else None))
    return pairs


def deal(pairs: Pairs, ratios: Sequence[float], seed: int) -> list[Pairs]:
    """The pairs in parts of these shares, at random; each part sorted. Rounding gives no image away: the parts' sizes
    are cut down, and the images left over go to the parts with the largest remainders.
    """
    shuffled = list(pairs)
    random.Random(seed).shuffle(shuffled)
    exact = [ratio * len(pairs) for ratio in ratios]
    sizes = [int(share + 1e-9) for share in exact]
    by_remainder = sorted(range(len(ratios)), key=lambda i: sizes[i] - exact[i])
    for index in by_remainder[: len(pairs) - sum(sizes)]:
        sizes[index] += 1
    parts, start = [], 0
    for size in sizes:
        parts.append(sorted(shuffled[start : start + size], key=lambda pair: pair[0]))
        start += size
    return parts


def copy_parts(parts: dict[str, Pairs], root: Path, target: Path) -> dict[str, str]:
    """Copy into `target`/images/<split> and labels/<split>; returns the entries of a data YAML."""
    for split, pairs in parts.items():
        for image, label in pairs:
            inside = image.relative_to(root.absolute())
            _copy(image, target / "images" / split / inside)
            if label is not None:
                _copy(label, target / "labels" / split / inside.with_suffix(".txt"))
    return {split: f"images/{split}" for split in parts}


def list_parts(parts: dict[str, Pairs], _root: Path, target: Path) -> dict[str, str]:
    """Write `target`/<split>.txt with paths relative to `target`; returns the entries of a data YAML."""
    for split, pairs in parts.items():
        lines = (Path(os.path.relpath(image, target.absolute())).as_posix() for image, _ in pairs)
        write_text(target / f"{split}.txt", "".join(f"{line}\n" for line in lines))
    return {split: f"{split}.txt" for split in parts}


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
