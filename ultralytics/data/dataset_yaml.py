"""Data YAML: image folders, class names, and how to obtain a missing data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from reprlib import repr as short

from ultralytics.cfg.plain_data import key_at, read_yaml
from ultralytics.data import converter, synthetic
from ultralytics.data.images import IMAGE_SUFFIXES, OTHER_SUFFIXES
from ultralytics.data.labels import find_image, read_coco_json
from ultralytics.utils import LOGGER, PACKAGE_ROOT
from ultralytics.utils.errors import DataError, MissingFileError, check_keys, counted, did_you_mean
from ultralytics.utils.files import list_files, read_text
from ultralytics.utils.settings import SETTINGS

DATASET_YAMLS = PACKAGE_ROOT / "cfg" / "datasets"
SPLITS = ("train", "val", "test")
KEYS = (*SPLITS, "path", "names", "nc", "channels", "annotations", "generate", "download", "evaluation")
MAX_CLASSES = 100_000
# added by export tools; `minival` of LVIS
IGNORED_KEYS = ("roboflow", "license", "author", "description", "version", "date", "url", "minival")


@dataclass(frozen=True)
class DatasetConfig(Mapping):
    """A checked data YAML with absolute paths. It is a mapping, too, with the keys of the YAML."""

    yaml_file: Path | None
    root: Path
    splits: dict[str, tuple[Path, ...]]  # folders, image lists (.txt) or both
    names: dict[int, str]
    annotations: dict[str, Path] = field(default_factory=dict)  # COCO json by split
    evaluation: dict[str, object] = field(default_factory=dict)  # protocol, areas and limit

    @property
    def nc(self) -> int:
        """Return the number of classes."""
        return len(self.names)

    def with_split(self, split: str, paths: str | Path | Iterable[Path]) -> DatasetConfig:
        """Return a copy with other images of a split: a folder, an image list, or several."""
        paths = (Path(paths),) if isinstance(paths, (str, Path)) else tuple(map(Path, paths))
        return replace(self, splits={**self.splits, split: paths})

    def _content(self) -> dict[str, object]:
        paths = {split: [*map(str, paths)] for split, paths in self.splits.items()}
        splits = {split: found[0] if len(found) == 1 else found for split, found in paths.items()}
        facts = {"path": self.root, "yaml_file": self.yaml_file and str(self.yaml_file), "channels": 3}
        return {**facts, "nc": self.nc, "names": self.names, "val": None, "test": None, **splits}

    def __getitem__(self, key: str) -> object:
        """Return a value by its key in the data YAML; a split is a path, or a list of several."""
        return self._content()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content())

    def __len__(self) -> int:
        return len(self._content())


def load_dataset_config(
    data: str | os.PathLike | Mapping, splits: Iterable[str] | None = ("train", "val"), *, download: bool = True
) -> DatasetConfig:
    """Read and check a data YAML: a path, the bare name of a built-in one, or its content as a mapping.

    A missing data set is generated or downloaded into the cache folder if its YAML describes how. `splits` are those
    that must exist; None: train and val, as far as they have an entry. `download=False`, for data recorded in a weights
    file, which the user has not given, raises in place of downloading. Raises DataError with the key and the path.

    Examples:
        >>> config = load_dataset_config({"train": ".", "val": ".", "names": ["cat", "dog"]})
        >>> config.nc, config.names
        (2, {0: 'cat', 1: 'dog'})
    """
    if isinstance(data, DatasetConfig):
        return data
    file = None if isinstance(data, Mapping) else find_data_yaml(data)
    at = partial(key_at, file) if file else lambda key: "data"
    content = dict(data) if file is None else read_yaml(file)
    if "val" not in content and "validation" in content:  # of published data sets
        content["val"] = content.pop("validation")
    check_keys(content, (*KEYS, *IGNORED_KEYS), at, DataError)
    if content.get("channels") not in (None, 3):
        got = short(content["channels"])
        raise DataError(f"{at('channels')}: channels is {got}, expected 3; gray images become three channels")
    jsons = content.get("annotations") or {}
    if not isinstance(jsons, dict):
        expected = "expected `train: file.json` and `val: file.json`"
        raise DataError(f"{at('annotations')}: annotations: {expected}, got {short(jsons)}")
    check_keys(jsons, SPLITS, lambda key: f"{at(key)}: annotations", DataError)
    _check_paths({"path": content.get("path"), **jsons}, at, "a path")
    _check_paths({split: content.get(split) for split in SPLITS}, at, "a path or a list of paths", lists=True)
    root = _find_root(file, content)
    annotations = {split: root / path for split, path in jsons.items() if path}
    entries = {s: v if isinstance(v, (list, tuple)) else [v] for s in SPLITS if (v := content.get(s))}
    splits = tuple([s for s in entries if s != "test"] if splits is None else splits)
    if not all(os.path.exists(root / entry) for split in splits for entry in entries.get(split, ())):
        _make(root, content, file, at, download=download)
    paths = {split: tuple(_resolve(root, entry) for entry in listed) for split, listed in entries.items()}
    for split in splits:
        if split not in paths:
            raise DataError(f"{file or 'data'}: no `{split}:` entry, got {list(paths) or 'none'}; add its image folder")
        for path in paths[split]:
            if not os.path.exists(path):
                here = ", ".join(sorted(os.listdir(root))[:12]) if os.path.isdir(root) else "does not exist"
                raise MissingFileError(
                    f"{at(split)}: {split}: {short(content[split])} was not found: looked for {path}. The data set's "
                    f"root is {root} ({here or 'empty'}); correct `path:` or `{split}:`"
                )
    names = _class_names(at, content, [annotations[split] for split in splits if split in annotations])
    return DatasetConfig(file, root, paths, names, annotations, _evaluation(content.get("evaluation") or {}, at))


def check_det_dataset(dataset: str | os.PathLike | Mapping, autodownload: bool = True) -> DatasetConfig:
    """Read and check a data YAML; with `autodownload`, a missing data set is generated or downloaded.

    Examples:
        >>> config = check_det_dataset({"train": ".", "val": ".", "names": ["cat", "dog"]})
        >>> config["nc"], config["names"], config["val"] == config["train"]
        (2, {0: 'cat', 1: 'dog'}, True)
    """
    return load_dataset_config(dataset, download=autodownload)


def find_data_yaml(data: str | os.PathLike) -> Path:
    """Return the YAML file of a path, with or without suffix, of a folder with one, or a name such as 'shapes.yaml'."""
    path = Path(os.path.expanduser(str(data).strip()))
    inside = [*path.glob("*.yaml")] if os.path.isdir(path) else []
    for file in (path, Path(f"{path}.yaml"), *(inside if len(inside) == 1 else ())):
        if os.path.isfile(file):
            return Path(os.path.abspath(file))
    built_in = {p.stem.lower(): p for p in DATASET_YAMLS.glob("*.yaml")}
    found = built_in.get(path.stem.lower()) if path.suffix in ("", ".yaml", ".yml") else None
    if found and found.match(str(path.with_name(found.name))):
        return found
    hint = did_you_mean(path.stem, built_in) or f"; built-in ones are {', '.join(sorted(built_in))}"
    raise MissingFileError(f"data={str(data)!r}: expected a data YAML, found no file {os.path.abspath(path)}{hint}")


def list_images(sources: Iterable[Path], root: Path) -> list[Path]:
    """Return the image files below folders and in image lists, in order, without repeats and hidden files.

    Lists may name hidden files; they are relative to their own folder, else to `root` or the working folder. Files in
    lists need not exist.
    """
    found: dict[Path, None] = {}
    hidden: list[os.DirEntry] = []
    others: list[Path] = []
    for source in sources:
        if os.path.isdir(source):
            for file in list_files(source, (*IMAGE_SUFFIXES, *OTHER_SUFFIXES), hidden=hidden):
                if file.suffix.lower() in IMAGE_SUFFIXES:
                    found[file] = None
                else:
                    others.append(file)
        else:
            lines = filter(None, map(str.strip, read_text(source, DataError, guess=True).splitlines()))
            for number, line in enumerate(lines, 1):
                if "\0" in line:
                    raise DataError(f"{source}: path {number} has a NUL character, {short(line)}; expected a text file")
                found[Path(os.path.abspath(find_image(line, (source.parent, root, Path.cwd()))))] = None
    if hidden := [e.path for e in hidden if e.name.lower().endswith(IMAGE_SUFFIXES) or os.path.isdir(e)]:
        LOGGER.info(f"hidden images and folders left out: {len(hidden)}, such as {hidden[0]}")
    if others:
        LOGGER.warning(f"images of other formats left out: {len(others)}, such as {others[0]}; convert them to PNG")
    if not found:
        places = ", ".join(map(str, sources))
        raise DataError(f"no images in {places}; looked for files ending in {' '.join(IMAGE_SUFFIXES)}")
    return list(found)


def label_file(image: Path) -> Path:
    """Return the label file of an image: `.../images/a/b.jpg` -> `.../labels/a/b.txt`.

    The last folder named images is replaced. Without one the label file is beside the image.
    """
    parts = list(image.parts)
    folders = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return Path(os.path.splitext(Path(*parts))[0] + ".txt")


def _check_paths(entries: Mapping, at: Callable[[str], str], expected: str, *, lists: bool = False) -> None:
    for key, entry in entries.items():
        for path in entry if lists and isinstance(entry, (list, tuple)) else [entry]:
            if not isinstance(path, (str, os.PathLike)) and (path is not None or path is not entry):
                raise DataError(f"{at(key)}: {key}: expected {expected}, got {short(path)}")


def _evaluation(content: object, at: Callable[[str], str]) -> dict[str, object]:
    """Check `evaluation:`: a protocol, object sizes (name: [from, to] in square pixels), and a limit of detections."""
    if not isinstance(content, Mapping):
        raise DataError(f"{at('evaluation')}: evaluation: expected protocol:, areas: or limit:, got {short(content)}")
    check_keys(content, ("protocol", "areas", "limit"), lambda key: f"{at(key)}: evaluation", DataError)
    areas, limit = content.get("areas") or {}, content.get("limit")
    fit = isinstance(areas, Mapping) and all(
        isinstance(a, list) and [type(v) in (int, float) for v in a] == [True] * 2 and 0 <= a[0] < a[1]
        for a in areas.values()
    )
    if not fit or (limit is not None and (type(limit) is not int or limit < 1)):
        expected = "expected areas as `tiny: [0, 256]` in square pixels and limit as a number of detections"
        raise DataError(f"{at('evaluation')}: evaluation: {expected}, got {short(dict(content))}")
    return {**content, "areas": {str(name): tuple(bounds) for name, bounds in areas.items()}}


def _find_root(file: Path | None, content: dict) -> Path:
    """Return the folder `path`, searched beside the YAML, in the working folder and in the cache folder."""
    base = file.parent if file else Path.cwd()
    if content.get("path") is None:
        return base
    path, cached = Path(os.path.expanduser(content["path"])), Path(SETTINGS["datasets_dir"])
    near = [Path.cwd() / "datasets"] if base == DATASET_YAMLS else [base, Path.cwd()]
    candidates = [folder / path for folder in (*near, cached)]  # an absolute path replaces the folder
    default = candidates[-1] if content.get("generate") or content.get("download") else candidates[0]
    return Path(os.path.abspath(next(filter(os.path.isdir, candidates), default)))


def _resolve(root: Path, entry: str | os.PathLike) -> Path:
    path = Path(os.path.abspath(root / os.path.expanduser(entry)))
    if not os.path.exists(path) and str(entry).startswith("../"):
        beside = Path(os.path.abspath(root / str(entry)[3:]))  # Roboflow's `../train/images` is beside the YAML
        return beside if os.path.exists(beside) else path
    return path


def _class_names(at: Callable[[str], str], content: dict, jsons: list[Path]) -> dict[int, str]:
    """Return names as {0: ..., 1: ...} from the YAML, else from a json."""
    names, nc = content.get("names"), content.get("nc")
    if nc is not None and (type(nc) is not int or not 0 < nc <= MAX_CLASSES):
        raise DataError(f"{at('nc')}: nc is {short(nc)}, expected the number of classes")
    if names is None and nc and not jsons:
        names = [f"class_{index}" for index in range(nc)]
    if names is None and jsons:
        names = list(read_coco_json(jsons[-1]).categories.values())  # the last split is usually the smallest
    if not names or not isinstance(names, (list, tuple, Mapping)):
        expected = "expected a list of class names or a mapping 0: name, 1: name"
        raise DataError(f"{at('names')}: names is {short(names)}, {expected}")
    names = dict(names if isinstance(names, Mapping) else enumerate(names))
    if all(isinstance(key, str) and key.isdecimal() and str(int(key[:9])) == key for key in names):  # "0": cat
        names = {int(key): name for key, name in names.items()}
    if set(names) != set(range(len(names))):
        keys = short(sorted(names, key=str))
        raise DataError(f"{at('names')}: names has keys {keys}, expected 0..{len(names) - 1} without gaps")
    for key, name in names.items():
        if isinstance(name, bool) or not isinstance(name, (str, int, float)):
            raise DataError(f"{at('names')}: names[{key}] is {short(name)}; put the name in quotes")
    if nc not in (None, len(names)):
        entries = counted(len(names), "entry")
        raise DataError(f"{at('nc')}: nc is {nc!r}, but names has {entries}; remove nc or correct one of them")
    return {key: str(names[key]) for key in range(len(names))}


def _make(root: Path, content: dict, file: Path | None, at: Callable[[str], str], *, download: bool) -> None:
    """Generate or download the data set if its YAML describes how; below the cache folder, unless it is one of ours."""
    kind, recipe = content.get("generate"), content.get("download")
    if kind not in (None, "shapes", "shapes8"):
        raise DataError(f"{at('generate')}: generate: expected shapes or shapes8, got {short(kind)}")
    if not kind and not recipe:
        return
    where = at("generate" if kind else "download")
    files = [] if kind else converter.check_recipe(recipe, where)
    place = Path(os.path.abspath(SETTINGS["datasets_dir"]))
    if not (file and file.parent == DATASET_YAMLS) and place not in root.parents:
        raise DataError(
            f"{where}: images are missing in {root}; `download:` and `generate:` only write below {place}. Complete "
            f"the data set, or write `path:` as a name such as {root.name!r} that is no folder here"
        )
    if kind:
        LOGGER.info(f"Generating the {kind} data set in {root}")
        synthetic.generate_shapes(root, **{"images_train": 4, "images_val": 4} if kind == "shapes8" else {})
    elif not download:
        addresses, asked = ", ".join(url for url, *_ in files)[:300], f"give data={file or 'data'}"
        raise DataError(f"{where}: images are missing in {root}; {asked} to download them from {addresses}")
    else:
        converter.fetch_dataset(root, recipe, list(_class_names(at, content, []).values()), where)
