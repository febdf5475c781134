"""`yolo split images=all/images save=my train=0.8 val=0.1 test=0.1`: split images and labels at random."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from ultralytics.cfg.values import OneOf, Range
from ultralytics.data.dataset_yaml import label_file, list_images
from ultralytics.tools.common import check_empty, check_folders, read_classes
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, OptionError
from ultralytics.utils.files import write_text, write_yaml

SPLITS = ("train", "val", "test")
Ratio = Annotated[float, Range(0, 1)]
Pairs = list[tuple[Path, Path | None]]  # image, label file


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
    """Split the images of a folder into train, val and test. The same seed and files give the same split.

    Args:
        images: a folder of images, with subfolders.
        save: the folder to write to; it must be empty or not exist.
        labels: folder of the label files; by default images/... -> labels/...
        train, val, test: ratios of the images; their sum is 1.
        seed: of the random order.
        mode: `copy` writes images/train, labels/train and so on; `list` writes train.txt, val.txt and test.txt with
            the paths of the images.
        classes: text file with one class name per line, or cat,dog; also writes data.yaml.

    Raises:
        UserError: there are no images, the ratios do not sum to 1, `save` has files, or two images share a label file.
    """
    root, target, ratios = Path(images), check_empty(save), (train, val, test)
    names = read_classes(classes) if classes else None
    if abs(sum(ratios) - 1) > 1e-6:
        raise OptionError(f"split: train={train:g} val={val:g} test={test:g} sum to {sum(ratios):g}, expected 1")
    if mode == "list" and labels:
        raise OptionError(
            "split: mode=list keeps images and labels where they are (images/... -> labels/...); drop labels="
        )
    pairs = find_pairs(root, Path(labels) if labels else None)
    parts = dict(zip(SPLITS, split_pairs(pairs, ratios, seed), strict=True))
    write = copy_parts if mode == "copy" else list_parts
    entries = write({split: part for split, part in parts.items() if part}, root, target)
    if names:
        write_yaml(target / "data.yaml", {**entries, "names": names})
    if without := sum(label is None for _, label in pairs):
        LOGGER.warning(f"{without} of {len(pairs)} images have no label file; they count as images without objects")
    counts = ", ".join(f"{split} {len(part)}" for split, part in parts.items())
    LOGGER.info(f"{target}: {counts} images, seed {seed}" + ("; data.yaml written" if names else ""))


def find_pairs(images: Path, labels: Path | None) -> Pairs:
    """List the images of a folder, sorted, with their label files."""
    check_folders(images, labels)
    pairs: Pairs = []
    owner: dict[Path, Path] = {}
    for image in list_images([images.absolute()], images):
        relative = image.relative_to(images.absolute()).with_suffix(".txt")
        text = label_file(image) if labels is None else labels / relative
        other = owner.setdefault(relative, image)
        if other is not image:
            raise DataError(f"{image} and {other}: both would have the label file {text.name}; rename one of them")
        pairs.append((image, text if text.is_file() else None))
    return pairs


def split_pairs(pairs: Pairs, ratios: Sequence[float], seed: int) -> list[Pairs]:
    """Split pairs at random into sorted parts of these ratios; the largest remainders are rounded up."""
    shuffled = list(pairs)
    random.Random(seed).shuffle(shuffled)
    exact = [ratio * len(pairs) for ratio in ratios]
    sizes = [int(share + 1e-9) for share in exact]
    by_remainder = sorted(range(len(ratios)), key=lambda i: sizes[i] - exact[i])
    for index in by_remainder[: len(pairs) - sum(sizes)]:
        sizes[index] += 1
    rest = iter(shuffled)
    return [sorted((next(rest) for _ in range(size)), key=lambda pair: pair[0]) for size in sizes]


def copy_parts(parts: dict[str, Pairs], root: Path, target: Path) -> dict[str, str]:
    """Copy to `target`/images/<split> and labels/<split>, and return the entries of a data YAML."""
    for split, pairs in parts.items():
        for image, label in pairs:
            relative = image.relative_to(root.absolute())
            copies = [(image, target / "images" / split / relative)]
            if label is not None:
                copies.append((label, target / "labels" / split / relative.with_suffix(".txt")))
            for source, file in copies:
                file.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, file)
    return {split: f"images/{split}" for split in parts}


def list_parts(parts: dict[str, Pairs], _root: Path, target: Path) -> dict[str, str]:
    """Write `target`/<split>.txt with paths relative to `target`, and return the entries of a data YAML."""
    for split, pairs in parts.items():
        lines = (Path(os.path.relpath(image, target.absolute())).as_posix() for image, _ in pairs)
        write_text(target / f"{split}.txt", "".join(f"{line}\n" for line in lines))
    return {split: f"{split}.txt" for split in parts}
