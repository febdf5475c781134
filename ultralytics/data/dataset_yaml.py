"""The data YAML: where the images are, what the classes are called, how a missing data set is made."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ultralytics.data.images import IMAGE_SUFFIXES
from ultralytics.data.labels import read_coco_json
from ultralytics.utils import LOGGER, PACKAGE_ROOT, cache_dir
from ultralytics.utils.errors import DataError, UserError, did_you_mean
from ultralytics.utils.files import read_yaml

DATASET_YAMLS = PACKAGE_ROOT / "cfg" / "datasets"
SPLITS = ("train", "val", "test")
KEYS = (*SPLITS, "path", "names", "nc", "annotations", "generate", "download")
REMARKS = ("roboflow", "license", "author", "description", "version", "date", "url")  # found in the wild, no effect


@dataclass(frozen=True)
class DatasetConfig:
    """A data YAML whose paths are absolute and whose images exist."""

    yaml_file: Path | None
    root: Path
    splits: dict[str, tuple[Path, ...]]  # folders, image lists (.txt) or both
    names: dict[int, str]
    annotations: dict[str, Path | None] = field(default_factory=dict)  # COCO json of a split

    @property
    def nc(self) -> int:
        """Number of classes."""
        return len(self.names)

    def __getitem__(self, key: str) -> object:
        """`nc`, `names`, or the paths of a split, by the keys that scripts know of the data YAML."""
        return {"nc": self.nc, "names": self.names, **self.splits}[key]


def load_dataset_config(
    data: str | os.PathLike | Mapping, splits_needed: Iterable[str] = ("train", "val"), *, fetch: bool = True
) -> DatasetConfig:
    """Read and check a data YAML, named by path, by its bare name among the built-in ones, or given as a mapping.

    A built-in data set that is not there yet is generated or downloaded into the cache folder, as its YAML says, unless
    `fetch` is False: then it is missing like any other.
    Raises DataError with what was looked for and where.
    """
    file = None if isinstance(data, Mapping) else find_data_yaml(data)
    where = str(file or "data")
    content = dict(data) if file is None else _read_yaml(file)
    _check_keys(where, content)
    root = _find_root(file, content, where)
    wanted = tuple(splits_needed)
    stated = _as_mapping(content.get("annotations"), f"{where}: annotations")
    unknown = [key for key in stated if key not in SPLITS]
    if unknown:
        raise DataError(f"{where}: annotations.{unknown[0]} is not a split{did_you_mean(unknown[0], SPLITS)}")
    annotations = {split: root / str(path) for split, path in stated.items()}
    if fetch:
        _make_if_missing(root, content, wanted, where)

    splits = {}
    for split in SPLITS:
        if content.get(split):
            splits[split] = tuple(_resolve(root, entry, f"{where}: {split}") for entry in _as_list(content[split]))
        elif split in wanted:
            given = [key for key in SPLITS if content.get(key)] or "none"
            raise DataError(
                f"{where}: no `{split}:` entry, which is needed here (given: {given}); add its image folder"
            )
    for split in wanted:
        for path in splits[split]:
            if not path.exists():
                raise DataError(_missing_message(where, split, path, root, content))
    names = _class_names(where, content, [annotations[s] for s in wanted if s in annotations])
    return DatasetConfig(file, root, splits, names, annotations)


check_det_dataset = load_dataset_config


def find_data_yaml(data: str | os.PathLike) -> Path:
    """The YAML file of a path or a bare name such as 'shapes.yaml'."""
    path = Path(data).expanduser()
    if path.is_dir():
        inside = sorted(path.glob("*.yaml"))
        hint = f"; did you mean {str(inside[0])!r}?" if inside else "; write one with train, val and names"
        raise DataError(f"data={str(data)!r} is a folder, expected a data YAML{hint}")
    if path.is_file():
        return Path(os.path.abspath(path))
    built_in = {p.stem.lower(): p for p in DATASET_YAMLS.glob("*.yaml")}
    if path.parent == Path(".") and path.suffix in ("", ".yaml", ".yml") and path.stem.lower() in built_in:
        return built_in[path.stem.lower()]
    hint = did_you_mean(path.stem, built_in) or f"; built in are {', '.join(sorted(built_in))}"
    raise DataError(f"data={str(data)!r}: no such file (looked for {Path(os.path.abspath(path))}){hint}")


def list_images(sources: Iterable[Path], root: Path) -> list[Path]:
    """Image files below folders and in image lists, in order, each once; entries of lists need not exist."""
    found: dict[Path, None] = {}
    for source in sources:
        if source.is_dir():
            listed = _walk(source)
        elif source.suffix.lower() == ".txt":
            listed = _read_list(source, root)
        else:
            raise DataError(f"{source}: is a file, expected a folder of images or a .txt list of image paths")
        found.update(dict.fromkeys(listed))
    if not found:
        places = ", ".join(map(str, sources))
        raise DataError(f"no images in {places}; looked for files ending in {' '.join(IMAGE_SUFFIXES)}")
    return list(found)


def label_file(image: Path) -> Path:
    """`.../images/a/b.jpg` -> `.../labels/a/b.txt`: the last folder called images; without one, beside the image."""
    parts = list(image.parts)
    folders = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def _walk(folder: Path) -> list[Path]:
    images = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        images += [Path(parent, name) for name in sorted(files) if name.lower().endswith(IMAGE_SUFFIXES)]
    return images


def _read_list(file: Path, root: Path) -> list[Path]:
    """Relative entries of an image list are relative to the list's folder, else to the root of the data set."""
    images = []
    for line in file.read_text(encoding="utf-8-sig").splitlines():
        if line.strip():
            near = file.parent / line.strip()
            images.append(Path(os.path.abspath(near if near.exists() else root / line.strip())))
    return images


def _read_yaml(file: Path) -> dict:
    try:
        return read_yaml(file)
    except UserError as error:
        raise DataError(f"{error}; a data YAML has entries such as train, val and names") from error


def _check_keys(where: str, content: dict) -> None:
    for key in content:
        if key not in KEYS + REMARKS:
            hint = did_you_mean(key, KEYS) or f"; known are {', '.join(KEYS)}"
            raise DataError(f"{where}: unknown key {key!r}{hint}")


def _find_root(file: Path | None, content: dict, where: str) -> Path:
    """Folder that the splits are relative to: `path`, looked for beside the YAML, here, and in the cache folder."""
    stated = content.get("path")
    if stated is not None and not isinstance(stated, (str, os.PathLike)):
        raise DataError(f"{where}: path is {stated!r}, expected a folder")
    base = file.parent if file else Path.cwd()
    cached = cache_dir() / "datasets"
    if stated is None:
        return base
    stated = Path(stated).expanduser()
    if stated.is_absolute():
        return stated
    if file and file.parent == DATASET_YAMLS:
        candidates = [Path.cwd() / "datasets" / stated, cached / stated]  # ours are in nobody's data folder
    else:
        candidates = [base / stated, Path.cwd() / stated, cached / stated]
    makes_itself = content.get("generate") or content.get("download")
    default = candidates[-1] if makes_itself else candidates[0]
    return Path(os.path.abspath(next((c for c in candidates if c.is_dir()), default)))


def _resolve(root: Path, entry: object, where: str) -> Path:
    if not isinstance(entry, (str, os.PathLike)):
        raise DataError(f"{where}: {entry!r} is not a path")
    path = Path(os.path.abspath(root / Path(entry).expanduser()))
    if not path.exists() and str(entry).startswith("../"):
        # Roboflow writes `../train/images` for folders that lie beside the YAML.
        beside = Path(os.path.abspath(root / str(entry)[3:]))
        return beside if beside.exists() else path
    return path


def _missing_message(where: str, split: str, path: Path, root: Path, content: dict) -> str:
    here = ", ".join(sorted(p.name for p in root.iterdir())[:12]) if root.is_dir() else "that folder does not exist"
    return (
        f"{where}: {split}: {content[split]!r} was not found: looked for {path}. "
        f"The root of the data set is {root} ({here or 'empty'}); correct `path:` or `{split}:`"
    )


def _class_names(where: str, content: dict, jsons: list[Path]) -> dict[int, str]:
    """Names as {0: ..., 1: ...}, from the YAML, else from the smallest json (it is quick to read)."""
    names = content.get("names")
    if names is None and jsons:
        smallest = min(jsons, key=lambda p: p.stat().st_size if p.is_file() else 0)
        names = list(read_coco_json(smallest).categories.values())
    if names is None or not isinstance(names, (list, dict)) or not names:
        raise DataError(f"{where}: names is {names!r}, expected a list of class names or a mapping 0: name, 1: name")
    names = dict(enumerate(names)) if isinstance(names, list) else names
    if set(names) != set(range(len(names))):
        raise DataError(f"{where}: names has keys {sorted(names, key=str)}, expected 0..{len(names) - 1} without gaps")
    for key, name in names.items():
        if isinstance(name, bool) or not isinstance(name, (str, int, float)):
            raise DataError(f"{where}: names[{key}] is {name!r}; put the name in quotes")
    nc = content.get("nc", len(names))
    if nc != len(names):
        raise DataError(
            f"{where}: nc is {nc!r}, but names has {len(names)} entries; leave nc out or correct one of them"
        )
    return {key: str(names[key]) for key in range(len(names))}


def _make_if_missing(root: Path, content: dict, wanted: tuple[str, ...], where: str) -> None:
    entries = [entry for split in wanted for entry in _as_list(content.get(split))]
    if all((root / str(entry)).exists() for entry in entries):
        return
    if content.get("generate"):
        from ultralytics.data.synthetic import GENERATORS

        kind = content["generate"]
        if kind not in GENERATORS:
            raise DataError(f"{where}: generate is {kind!r}, known are {', '.join(GENERATORS)}")
        LOGGER.info(f"Generating the {kind} data set in {root}")
        GENERATORS[kind](root)
    elif content.get("download"):
        from ultralytics.data.converter import fetch_dataset

        names = content.get("names") or ()
        fetch_dataset(root, content["download"], list(names.values() if isinstance(names, dict) else names), where)


def _as_list(value: object) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]


def _as_mapping(value: object, where: str) -> dict:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected `train: file.json` and `val: file.json`, got {value!r}")
    return value
