"""Convert COCO, Pascal VOC and VisDrone labels to YOLO text, and download data sets that are published in them."""

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath, PureWindowsPath
from reprlib import repr as short
from urllib.parse import urlsplit

from ultralytics.data.images import probe_image
from ultralytics.data.labels import (
    FLAGS,
    MAX_NUMBER,
    CocoJson,
    Problem,
    Rows,
    find_image,
    parse_number,
    read_coco_json,
    size_of_entry,
)
from ultralytics.utils import LOGGER, setup_logging
from ultralytics.utils.downloads import download_file, extract
from ultralytics.utils.errors import DataError, OptionError, counted, did_you_mean
from ultralytics.utils.files import increment_path, list_files, read_text, write_text, write_yaml
from ultralytics.utils.public import public_names

COCO_UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # of 1..90, without a category
XML_LIMIT = 1 << 24  # bytes
MAX_LISTED = 5  # problems of one json to list
VOC_SETS = {"2007": ("train", "val", "test"), "2012": ("train", "val")}

Box = tuple[int, float, float, float, float]  # class, x1, y1, x2, y2 in pixels


def coco80_to_coco91_class() -> list[int]:
    """Return the COCO category id (1..90) of each of the 80 class indices."""
    return [i for i in range(1, 91) if i not in COCO_UNUSED_IDS]


def coco91_to_coco80_class() -> list[int | None]:
    """Return the class index (0..79) of category ids 1..91, None for unused ones."""
    index = {category: i for i, category in enumerate(coco80_to_coco91_class())}
    return [index.get(i) for i in range(1, 92)]


def convert_coco(
    labels_dir: str | os.PathLike = "../coco/annotations/", save_dir: str | os.PathLike = "coco_converted/",
    use_segments: bool = False, use_keypoints: bool = False, cls91to80: bool = True, lvis: bool = False, *,
    images: str | os.PathLike | None = None, classes: Sequence[str] | None = None,
) -> Path:  # fmt: skip
    """Convert COCO json files to YOLO text and a data YAML; return the folder: `save_dir`, numbered if it exists.

    Label files are written to labels/<json name without `instances_`>. Class indices follow the category ids in
    ascending order; crowd regions are skipped. A data YAML can also use COCO json files directly (`annotations:`).

    Args:
        labels_dir: a folder of json files, or one of them.
        save_dir: the folder to write to.
        use_segments, use_keypoints, cls91to80, lvis: arguments of published code. Labels are boxes, by the ids of the
            categories, whatever use_segments and cls91to80 are; the others are refused.
        images: the folder of the images, or one that has a folder of images for each json. Sizes and EXIF orientations
            are those of the images, which are linked beside the labels.
        classes: names to keep, in the order of the new class indices.
    """
    setup_logging()
    if use_keypoints or lvis:
        raise OptionError("convert_coco: use_keypoints and lvis are not supported, as labels are boxes; leave them out")
    if use_segments:
        LOGGER.warning("convert_coco: use_segments=True has no effect: labels are the boxes of the json, not outlines")
    files = [Path(labels_dir)] if os.path.isfile(labels_dir) else list_files(labels_dir, (".json",), recursive=False)
    if not files:
        raise DataError(f"{labels_dir}: no .json files; expected COCO annotation files such as instances_val2017.json")
    if images is not None and not os.path.isdir(images):
        raise DataError(f"images={str(images)!r}: no such folder")
    target, names, failed = increment_path(save_dir), None, []
    splits: dict[str, list[str]] = {}
    for file in files:
        try:
            coco = read_coco_json(file)
            found = list(coco.categories.values())
            if names not in (None, found):
                raise DataError(f"{file}: has other categories than the file before; convert it alone")
            kept = _class_indices(found, classes, file)
        except DataError as error:
            failed.append(error)
            LOGGER.warning(f"{error}. It is left out")
            continue
        names, split = found, file.stem.removeprefix("instances_")
        _convert_json(coco, target, split, kept, images)
        for key in [key for key in ("train", "val", "test") if key in split.lower()] or ["train"]:
            splits.setdefault(key, []).append(f"images/{split}")
    if names is None:
        raise failed[0]
    names = list(classes or names)
    write_yaml(target / "data.yaml", {"path": str(target.absolute()), **splits, "names": names})
    hint = "" if images else f". Copy or link the images to {target}/{f', {target}/'.join(chain(*splits.values()))}"
    classes = f"{counted(len(names), 'class')}: {', '.join(names)}"
    LOGGER.info(f"{target / 'data.yaml'}: {', '.join(splits)} with {classes}{hint}")
    return target


def _class_indices(names: list[str], classes: Sequence[str] | None, file: Path) -> dict[int, int]:
    """Return the new index of each class that is kept."""
    if classes is None:
        return {index: index for index in range(len(names))}
    if unknown := [name for name in classes if name not in names]:
        raise DataError(f"{file}: class {unknown[0]!r} is not among its categories{did_you_mean(unknown[0], names)}")
    return {names.index(name): index for index, name in enumerate(classes)}


def _convert_json(
    coco: CocoJson, target: Path, split: str, kept: dict[int, int], images: str | os.PathLike | None
) -> None:
    """Write the label files of a json to labels/<split>, and link the folder of its images to images/<split>."""
    labels, problems, written, boxes = target / "labels" / split, list(coco.problems), set(), 0
    base = images and next(filter(os.path.isdir, (Path(images, split), Path(images))), Path(images))
    files, shapes = [], []
    for entry in coco.images:
        name = entry["file_name"]
        files.append(find_image(name, [base]) if base else Path(PureWindowsPath(name).as_posix()))
        try:
            shapes.append(probe_image(files[-1]) if base else size_of_entry(entry))
        except DataError as error:
            shapes.append(None)
            problems.append(Problem("corrupt", str(files[-1]), str(error)))
    for file, shape, rows in zip(files, shapes, coco.all_rows(files, shapes), strict=True):
        name = Path(os.path.relpath(file, base)).as_posix() if base else file.as_posix()
        text = labels / f"{os.path.splitext(name)[0]}.txt"
        if PureWindowsPath(name).is_absolute() or name.startswith("/") or ".." in PurePosixPath(name).parts:
            problems.append(Problem("entry", coco.path.name, f"file_name {short(name)} is not below the images"))
        elif shape is None or text in written:
            reason = "no usable width and height" if shape is None else "the label file of an earlier image"
            problems.append(Problem("entry", coco.path.name, f"{short(name)} has {reason}; left out"))
        else:
            try:
                boxes += write_rows(text, rows, kept)
            except (OSError, ValueError) as error:  # a name that the file system does not take
                problems.append(Problem("entry", coco.path.name, f"{short(name)}: {error}; left out"))
                continue
            problems += rows.problems
            written.add(text)
    files = f"{counted(len(written), 'label file')} with {counted(boxes, 'box')}"
    LOGGER.info(f"{coco.path}: {files} in {labels}, {counted(len(problems), 'problem')}")
    for problem in problems[:MAX_LISTED]:
        LOGGER.warning(f"  {problem.where}: {problem.detail}")
    if base:
        (target / "images").mkdir(parents=True, exist_ok=True)
        try:
            os.symlink(os.path.abspath(base), target / "images" / split, target_is_directory=True)
        except OSError as error:  # Windows permits it to developers only
            LOGGER.warning(f"{target / 'images' / split}: cannot link {base} ({error.strerror}); copy it")


def convert_voc(root: str | os.PathLike, names: Sequence[str]) -> None:
    """Move images of `root`/VOCdevkit to images/<set><year> and write labels/<set><year>, without difficult objects."""
    root = Path(root)
    for year, sets in VOC_SETS.items():
        source = root / "VOCdevkit" / f"VOC{year}"
        for name in sets:
            images, labels = root / "images" / f"{name}{year}", root / "labels" / f"{name}{year}"
            images.mkdir(parents=True, exist_ok=True)
            for stem in read_text(source / "ImageSets" / "Main" / f"{name}.txt", DataError).split():
                if Path(stem).name != stem:
                    raise DataError(f"{source}: {short(stem)} in {name}.txt: expected a name without folders")
                rows = read_voc_xml(source / "Annotations" / f"{stem}.xml", names)
                _move(source / "JPEGImages" / f"{stem}.jpg", images / f"{stem}.jpg")
                write_rows(labels / f"{stem}.txt", rows)


def read_xml(file: Path) -> ElementTree.Element:
    """Read an XML file in the encoding that it declares, or another one; raise DataError if that fails."""
    text = read_text(file, DataError, guess=True, limit=XML_LIMIT)
    if "<!ENTITY" in text:
        raise DataError(f"{file}: defines entities, which are not expanded; expected an annotation without a DTD")
    try:
        return ElementTree.fromstring(text.lstrip())
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{file}: not a Pascal VOC annotation: {error}") from error


def class_name(item: ElementTree.Element) -> str:
    """Return the name of an object in one line, for lists of names."""
    return " ".join(item.findtext("name", "").split())


def read_voc_xml(file: Path, names: Sequence[str]) -> Rows:
    """Read a Pascal VOC annotation, whose pixels count from 1, without difficult objects.

    Raises DataError for other files, and for classes not in `names`.
    """
    tree, boxes = read_xml(file), []
    try:
        shape = [parse_number(tree.findtext(f"size/{key}").strip()) for key in ("height", "width")]
        if not all(0 < value < MAX_NUMBER for value in shape):
            raise ValueError(f"size is {shape[1]:g} x {shape[0]:g}")
        for item in tree.iter("object"):
            if FLAGS.get(item.findtext("difficult", "0").strip().lower()):
                continue
            keys = ("xmin", "ymin", "xmax", "ymax")
            x1, y1, x2, y2 = (parse_number(item.findtext(f"bndbox/{key}").strip()) for key in keys)
            boxes.append((class_name(item), x1 - 1, y1 - 1, x2, y2))
    except (AttributeError, ValueError) as error:  # AttributeError: an entry is missing
        reason = error if isinstance(error, ValueError) else "it has no size, or an object without a box"
        raise DataError(f"{file}: not a Pascal VOC annotation: {reason}") from error
    if unknown := [name for name, *_ in boxes if name not in names]:
        raise DataError(f"{file}: class {unknown[0]!r} is not among {', '.join(names)}")
    return _pixel_rows(file, [(names.index(name), *corners) for name, *corners in boxes], shape)


def convert_visdrone(root: str | os.PathLike, names: Sequence[str] = ()) -> None:
    """Move images of `root`/VisDrone2019-DET-<set> to images/<set> and write labels/<set>."""
    root = Path(root)
    for source in sorted(root.glob("VisDrone2019-DET-*")):
        name = source.name.removeprefix("VisDrone2019-DET-")
        images = root / "images" / name
        images.parent.mkdir(exist_ok=True)
        _move(source / "images", images)
        for file in list_files(source / "annotations", (".txt",), recursive=False):
            # left, top, width, height, considered, category (0: ignored region, 11: other), truncation, occlusion
            try:
                rows = [map(int, line.split(",")[:6]) for line in read_text(file, DataError).splitlines()]
                boxes = [(c - 1, x, y, x + w, y + h) for x, y, w, h, used, c in rows if used and 0 < c < 11]
            except ValueError as error:
                raise DataError(f"{file}: not a VisDrone annotation ({error})") from error
            shape = probe_image(images / f"{file.stem}.jpg")
            write_rows(root / "labels" / name / file.name, _pixel_rows(file, boxes, shape))


CONVERTERS: dict[str, Callable[[Path, Sequence[str]], None]] = {"voc": convert_voc, "visdrone": convert_visdrone}


def fetch_dataset(root: Path, recipe: object, names: Sequence[str], where: str) -> None:
    """Download, unpack and convert a data set by the `download` entry of its YAML.

    `recipe` has `files`, a list of {url, into: folder below root, strip: skip the top folder}, and optionally
    `convert`, a key of CONVERTERS. The data set is made in a folder beside `root`, kept if interrupted and renamed at
    the end. Addresses are http or https, and nothing is written outside that folder.
    """
    files = check_recipe(recipe, where)
    try:
        if root.exists() and any(root.iterdir()):
            raise DataError(
                f"{where}: images are missing in {root}, but the folder is not empty, so nothing is downloaded into "
                "it; complete it, or move it away to download it again"
            )
        size = short(recipe.get("size", "unknown size"))
        LOGGER.info(f"{root} does not exist; downloading it as described in {where} ({size})")
        work = root.with_name(f"{root.name}.partial")
        for url, name, into, strip in files:
            archive, unpacked = work / name, work / f"{name}.unpacked"
            if not unpacked.exists():
                download_file(url, archive)
                extract(archive, work / into, strip=strip)
                unpacked.touch()
                archive.unlink()
        if recipe.get("convert"):
            CONVERTERS[recipe["convert"]](work, names)
        for marker in work.glob("*.unpacked"):
            marker.unlink()
        if root.exists():
            root.rmdir()
        os.replace(work, root)
    except OSError as error:
        raise DataError(f"{where}: the data set cannot be stored in {root} ({error})") from error


def check_recipe(recipe: object, where: str) -> list[tuple[str, str, str, bool]]:
    """Return (url, name, into, strip) of the files of a recipe; raise DataError for anything else."""
    files = recipe.get("files") if isinstance(recipe, dict) else None
    if not isinstance(files, list) or recipe.get("convert") not in (None, *CONVERTERS):
        expected = "expected `files:` with entries {url, into, strip}, and optionally `size:` and `convert:`"
        raise DataError(
            f"{where}: download is {short(recipe)}; {expected} {' or '.join(CONVERTERS)}. Programs in a YAML are not "
            "run"
        )
    checked = []
    for entry in files:
        try:
            url, into, strip = entry["url"], entry.get("into", "."), entry.get("strip", False)
            address, folder = urlsplit(url), PureWindowsPath(into)
            name = PurePosixPath(address.path).name
            valid = address.scheme in ("http", "https") and name not in ("", "..") and isinstance(strip, bool)
            valid = valid and not (folder.anchor or into.startswith("/") or ".." in folder.parts)
        except (AttributeError, KeyError, TypeError, ValueError):  # of a value of another type
            valid = False
        if not valid:
            expected = "url: http(s) address of a zip or tar, into: folder below the data set, strip: true or false"
            raise DataError(f"{where}: download has the file {short(entry)}; expected {expected}")
        checked.append((url, name, into, strip))
    return checked


def _move(source: Path, target: Path) -> None:
    """Rename `source`, unless an interrupted conversion has done it."""
    if source.exists():
        os.replace(source, target)


def _pixel_rows(file: Path, boxes: Iterable[Box], shape: Sequence[float]) -> Rows:
    """Return boxes in pixels of an image of `shape` (h, w), clipped to it, and problems of those without area."""
    rows, (height, width) = Rows(), shape
    for number, (cls, x1, y1, x2, y2) in enumerate(boxes, 1):
        rows.add(f"{file}, object {number}", cls, (x1 / width, y1 / height, x2 / width, y2 / height))
    return rows


def write_rows(file: Path, rows: Rows, index: Mapping[int, int] | None = None) -> int:
    """Write `class cx cy w h` of boxes that are no crowd regions, and return their number.

    `index` has the new indices of the classes to keep.
    """
    found = [(cls, box) for cls, box, crowd in zip(rows.cls, rows.boxes, rows.crowd, strict=True) if not crowd]
    kept = [(cls if index is None else index[cls], *box) for cls, box in found if index is None or cls in index]
    write_text(file, "".join(f"{cls} {' '.join(f'{value:.6f}' for value in box)}\n" for cls, *box in kept))
    return len(kept)


__getattr__ = public_names(__name__)
