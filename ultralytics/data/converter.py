"""Convert COCO, Pascal VOC and VisDrone labels to YOLO text, and download data sets that are published in them."""

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from urllib.parse import urlparse

import numpy as np

from ultralytics.data.images import probe_image
from ultralytics.data.labels import read_coco_json
from ultralytics.utils import LOGGER
from ultralytics.utils.downloads import download, extract
from ultralytics.utils.errors import DataError
from ultralytics.utils.files import list_files
from ultralytics.utils.ops import xyxy2xywhn

COCO_UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # of 1..90, without a category
VISDRONE_CLASSES = 10  # categories 1..10; 0 is for ignored regions, 11 for other objects
VOC_SETS = {"2007": ("train", "val", "test"), "2012": ("train", "val")}

Box = tuple[int, float, float, float, float]  # class, x1, y1, x2, y2 in pixels


def coco80_to_coco91_class() -> list[int]:
    """Return the COCO category id (1..90) of each of the 80 class indices."""
    return [i for i in range(1, 91) if i not in COCO_UNUSED_IDS]


def coco91_to_coco80_class() -> list[int | None]:
    """Return the class index (0..79) of category ids 1..91, None for unused ones."""
    index = {category: i for i, category in enumerate(coco80_to_coco91_class())}
    return [index.get(i) for i in range(1, 92)]


def convert_coco(labels_dir: str | os.PathLike, save_dir: str | os.PathLike) -> None:
    """Convert every COCO json in `labels_dir` to YOLO text in `save_dir`/labels/<json name without `instances_`>.

    Class indices follow the category ids in ascending order; crowd regions are skipped. A data YAML can also use COCO
    json files directly (`annotations:`), without conversion.
    """
    files = list_files(labels_dir, (".json",), recursive=False)
    if not files:
        raise DataError(f"{labels_dir}: no .json files; expected COCO annotation files such as instances_val2017.json")
    for file in files:
        coco = read_coco_json(file)
        folder = Path(save_dir) / "labels" / file.stem.removeprefix("instances_")
        skipped = 0
        for image in coco.images:
            rows = coco.rows(image["id"], (image["height"], image["width"]))
            skipped += len(rows.problems)
            kept = [(c, *box) for c, box, crowd in zip(rows.cls, rows.boxes, rows.crowd, strict=True) if not crowd]
            _write_rows(folder / Path(image["file_name"]).with_suffix(".txt"), kept)
        names = ", ".join(coco.categories.values())
        LOGGER.info(f"{file.name}: {len(coco.images)} label files in {folder}, {skipped} boxes with problems; {names}")


def convert_voc(root: str | os.PathLike, names: Sequence[str]) -> None:
    """Move images of `root`/VOCdevkit to images/<set><year> and write labels/<set><year>, without difficult objects."""
    root = Path(root)
    for year, sets in VOC_SETS.items():
        source = root / "VOCdevkit" / f"VOC{year}"
        for name in sets:
            images, labels = root / "images" / f"{name}{year}", root / "labels" / f"{name}{year}"
            images.mkdir(parents=True, exist_ok=True)
            for stem in (source / "ImageSets" / "Main" / f"{name}.txt").read_text().split():
                shape, boxes = read_voc_xml(source / "Annotations" / f"{stem}.xml", names)
                _move(source / "JPEGImages" / f"{stem}.jpg", images / f"{stem}.jpg")
                _write_rows(labels / f"{stem}.txt", _normalize(boxes, shape))


def read_voc_xml(file: Path, names: Sequence[str]) -> tuple[tuple[int, int], list[Box]]:
    """Read (height, width) and boxes of a Pascal VOC annotation, whose pixels count from 1, without difficult objects.

    Raises DataError for other files, and for classes not in `names`.
    """
    boxes = []
    try:
        tree = ElementTree.parse(file)
        shape = (int(float(tree.findtext("size/height"))), int(float(tree.findtext("size/width"))))
        for item in tree.iter("object"):
            if item.findtext("difficult", "0").strip() == "1":
                continue
            x1, y1, x2, y2 = (float(item.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax"))
            boxes.append((item.findtext("name", "").strip(), x1 - 1, y1 - 1, x2, y2))
    except (ElementTree.ParseError, TypeError, ValueError, OSError) as error:
        raise DataError(f"{file}: not a Pascal VOC annotation ({error})") from error
    if unknown := [name for name, *_ in boxes if name not in names]:
        raise DataError(f"{file}: class {unknown[0]!r} is not among {', '.join(names)}")
    return shape, [(names.index(name), *corners) for name, *corners in boxes]


def convert_visdrone(root: str | os.PathLike, names: Sequence[str] = ()) -> None:
    """Move images of `root`/VisDrone2019-DET-<set> to images/<set> and write labels/<set>."""
    root = Path(root)
    for source in sorted(root.glob("VisDrone2019-DET-*")):
        name = source.name.removeprefix("VisDrone2019-DET-")
        images = root / "images" / name
        images.parent.mkdir(exist_ok=True)
        _move(source / "images", images)
        for file in list_files(source / "annotations", (".txt",), recursive=False):
            # left, top, width, height, considered, category, truncation, occlusion
            rows = [map(int, line.split(",")[:6]) for line in file.read_text().splitlines()]
            boxes = [(c - 1, x, y, x + w, y + h) for x, y, w, h, used, c in rows if used and 1 <= c <= VISDRONE_CLASSES]
            shape = probe_image(images / f"{file.stem}.jpg")
            _write_rows(root / "labels" / name / file.name, _normalize(boxes, shape))


CONVERTERS: dict[str, Callable[[Path, Sequence[str]], None]] = {"voc": convert_voc, "visdrone": convert_visdrone}


def fetch_dataset(root: Path, recipe: object, names: Sequence[str], where: str) -> None:
    """Download, unpack and convert a data set by the `download` entry of its YAML.

    `recipe` has `files`, a list of {url, into: folder below root, strip: skip the top folder}, and optionally
    `convert`, a key of CONVERTERS. The data set is made in a folder beside `root`, kept if interrupted and renamed at
    the end.
    """
    if not isinstance(recipe, dict) or not isinstance(recipe.get("files"), list):
        expected = "expected `files:` with entries {url, into, strip}, and optionally `convert:` and `size:`"
        raise DataError(f"{where}: download is {str(recipe)[:60]!r}; {expected}. Programs in a YAML are not run")
    if root.exists() and any(root.iterdir()):
        raise DataError(
            f"{where}: images are missing in {root}, but the folder is not empty, so nothing is downloaded into it; "
            "complete it, or move it away to download it again"
        )
    LOGGER.info(f"{root} does not exist; downloading it as described in {where} ({recipe.get('size', 'unknown size')})")
    work = root.with_name(f"{root.name}.partial")
    for entry in recipe["files"]:
        archive = work / Path(urlparse(entry["url"]).path).name
        unpacked = archive.with_name(archive.name + ".unpacked")
        if not unpacked.exists():
            download(entry["url"], archive)
            extract(archive, work / entry.get("into", "."), strip=entry.get("strip", False))
            unpacked.touch()
            archive.unlink()
    if recipe.get("convert"):
        CONVERTERS[recipe["convert"]](work, names)
    for marker in work.glob("*.unpacked"):
        marker.unlink()
    if root.exists():
        root.rmdir()
    os.replace(work, root)


def _move(source: Path, target: Path) -> None:
    """Rename `source`, unless an interrupted conversion has done it."""
    if source.exists():
        os.replace(source, target)


def _normalize(boxes: Iterable[Box], shape: tuple[int, int]) -> list[Box]:
    """Convert pixels of an image of `shape` (h, w) to class, cx, cy, w, h in 0..1."""
    return [(c, *xyxy2xywhn(np.array(corners), w=shape[1], h=shape[0])) for c, *corners in boxes]


def _write_rows(file: Path, rows: Iterable[Box]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{row[0]} {' '.join(f'{value:.6f}' for value in row[1:])}\n" for row in rows))
