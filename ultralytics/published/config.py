"""Options, tasks, YAML files and checks of the published interface. Importing this imports no torch."""

import contextlib
import platform
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ultralytics.cfg.family import DEFAULT_CFG_PATH, default_values
from ultralytics.cfg.model_yaml import find_model_yaml
from ultralytics.cfg.options import check_options, option_types
from ultralytics.cfg.plain_data import parse_literal, read_yaml
from ultralytics.cfg.values import WORDS, alternatives, rules_of
from ultralytics.published.machine import clean_url, fetch
from ultralytics.utils import LOGGER, PACKAGE_ROOT, IterableSimpleNamespace, __version__
from ultralytics.utils.checks import checks, is_installed
from ultralytics.utils.downloads import PUBLISHED_NAMES
from ultralytics.utils.errors import MissingFileError, MissingPackageError, ModelConfigError, UserError, did_you_mean
from ultralytics.utils.files import read_text, run_dir, write_text, write_yaml
from ultralytics.utils.settings import SETTINGS

DEFAULT_CFG_DICT = dict(default_values())
DEFAULT_CFG_KEYS = DEFAULT_CFG_DICT.keys()
DEFAULT_CFG = IterableSimpleNamespace(**DEFAULT_CFG_DICT)  # as a cfg, only what was changed in it is given
CFG_BOOL_KEYS, CFG_INT_KEYS, CFG_STR_KEYS, _FLOATS = (
    frozenset(name for name, given in option_types().items() if {*alternatives(given)} - {type(None)} == {kind})
    for kind in (bool, int, str, float)
)
CFG_FRACTION_KEYS = frozenset(n for n in _FLOATS if any(rule.high == 1 for rule in rules_of(option_types()[n])))
CFG_FLOAT_KEYS = _FLOATS - CFG_FRACTION_KEYS
TASKS = frozenset({"detect"})
TASK2DATA = {"detect": "coco8.yaml"}
TASK2MODEL = {"detect": "yolo26n.pt"}
MODELS = frozenset(TASK2MODEL.values())
TASK2METRIC = {"detect": "metrics/mAP50-95(B)"}
GITHUB_ASSETS_NAMES = PUBLISHED_NAMES
GITHUB_ASSETS_STEMS = frozenset(name.removesuffix(".pt") for name in GITHUB_ASSETS_NAMES)


class YAML:
    """Read, write and log YAML files of plain data."""

    @staticmethod
    def load(file: str | Path = "data.yaml", append_filename: bool = False) -> dict[str, Any]:
        """Return the content of a file, with `append_filename` also its path as `yaml_file`."""
        return {**read_yaml(file), **({"yaml_file": str(file)} if append_filename else {})}

    @staticmethod
    def save(file: str | Path = "data.yaml", data: Mapping[str, Any] | None = None, header: str = "") -> None:
        """Write plain data, paths as texts, below a header."""
        write_yaml(file, {key: str(v) if isinstance(v, Path) else v for key, v in (data or {}).items()})
        if header:
            write_text(file, header + read_text(file))

    @staticmethod
    def print(yaml_file: str | Path | Mapping[str, Any]) -> None:
        """Log the content of a file or mapping."""
        content = yaml_file if isinstance(yaml_file, Mapping) else read_yaml(yaml_file)
        LOGGER.info("\n".join(f"{key}: {value}" for key, value in content.items()))


yaml_load, yaml_save, yaml_print = YAML.load, YAML.save, YAML.print


def cfg2dict(cfg: str | Path | Mapping[str, Any] | object) -> dict[str, Any]:
    """Return options, given as a file, a mapping or an object, as a mapping."""
    return read_yaml(cfg) if isinstance(cfg, (str, Path)) else dict(cfg if isinstance(cfg, Mapping) else vars(cfg))


def yaml_model_load(path: str | Path) -> dict[str, Any]:
    """Return the content of a model file, found as by `YOLO(path)`, with the scale in its name, and its path."""
    file, scale = find_model_yaml(path)
    return {**read_yaml(file, ModelConfigError), "scale": scale or "", "yaml_file": str(path)}


def check_dict_alignment(base: Mapping[str, Any], custom: Mapping[str, Any], e: Exception | None = None) -> None:
    """Raise SyntaxError, with the nearest name, for keys of `custom` that `base` does not have."""
    if unknown := [key for key in custom if key not in base]:
        raise SyntaxError(f"unknown option {unknown[0]!r}{did_you_mean(unknown[0], base)}") from e


def check_cfg(cfg: dict[str, Any], hard: bool = True) -> None:
    """Raise OptionError for wrong values of options; convert them in place without `hard`. Other keys pass."""
    checked = check_options({key: value for key, value in cfg.items() if key in option_types()})
    cfg.update({} if hard else checked)


def smart_value(v: str) -> Any:
    """Return the None, boolean, number, list, tuple or mapping that a text is; the text if it is none of these."""
    try:
        return WORDS[v.lower()] if v.lower() in WORDS else parse_literal(v)
    except ValueError:
        return v


def parse_key_value_pair(pair: str = "key=value") -> tuple[str, Any]:
    """Return option and value of a text such as "imgsz=640", the value as of `smart_value`."""
    key, value = map(str.strip, pair.split("=", 1))
    if not value:
        raise UserError(f"{pair!r}: expected a value after {key}=")
    return key, smart_value(value)


def copy_default_cfg() -> None:
    """Copy default.yaml to default_copy.yaml, for editing."""
    copy = Path("default_copy.yaml")
    if copy.exists():
        raise UserError(f"{copy}: already exists; rename or delete it first")
    write_text(copy, DEFAULT_CFG_PATH.read_text(encoding="utf-8"))
    LOGGER.info(f"Saved {copy}; edit and use it: yolo train cfg={copy} model=... data=...")


def check_suffix(file: Any = "yolo26n.pt", suffix: str | Sequence[str] = ".pt", msg: str = "") -> None:
    """Raise UserError unless the file, or each of several, has one of the suffixes or none."""
    suffixes = (suffix,) if isinstance(suffix, str) else tuple(suffix)
    for name in file if isinstance(file, (list, tuple)) else (file,):
        if Path(clean_url(str(name))).suffix.lower() not in ("", *suffixes):
            raise UserError(f"{msg}{name}: expected a file ending in {' or '.join(suffixes)}")


def check_model_file_from_stem(model: str | Path = "yolo26n") -> str | Path:
    """Return the weights file of a released model that is given without a suffix; others as they are."""
    path = Path(model)
    return path.with_suffix(".pt") if path.stem in GITHUB_ASSETS_STEMS and not path.suffix else model


def check_yolov5u_filename(file: str, verbose: bool = True) -> str:
    """Return weights of YOLOv3 and YOLOv5 by the names of their release with this interface: yolov5nu.pt."""
    return re.sub(r"(yolov3(-tiny|-spp)?|yolov5[nsmlx]6?)\.pt", r"\1u.pt", str(file))


def guess_model_scale(model_path: str | Path) -> str:
    """Return the scale in the name of a model, such as "n"; '' if there is none."""
    return (re.match(r"yolo(?:e-)?v?\d+([nslmx])", Path(model_path).stem) or ("", ""))[1]


def default_class_names(data: str | Path | None = None, nc: int = 999) -> dict[int, str]:
    """Return the class names of a data set, or class0, class1, ..."""
    with contextlib.suppress(UserError):
        return check_class_names(read_yaml(check_yaml(data))["names"])
    return {i: f"class{i}" for i in range(nc)}


def find_dataset_yaml(path: Path) -> Path:
    """Return the one YAML file of a folder, or below it, or that with the name of the folder."""
    files = [*path.glob("*.yaml")] or [*path.rglob("*.yaml")]
    if found := [file for file in files if len(files) == 1 or file.stem == path.stem]:
        return found[0]
    raise UserError(f"{path}: expected one YAML file, or one named {path.stem}.yaml")


def check_file(
    file: str | Path, suffix: str = "", download: bool = True, download_dir: str = ".", hard: bool = True
) -> str | list:
    """Return the path of a file, here, of the package, or fetched; if there is none, an error with `hard`, else []."""
    file = str(file).strip()
    check_suffix(file, suffix or Path(file).suffix.lower())
    if "://" in file and download:
        return str(fetch(file, dir=download_dir, unzip=False))
    found = [file] if not file or Path(file).exists() else [*(PACKAGE_ROOT / "cfg").glob(f"[dt]*/{Path(file).name}")]
    try:
        return str(found[0] if found else find_model_yaml(file)[0])
    except ModelConfigError:
        if not hard:
            return []
        raise MissingFileError(f"{file!r}: no such file here, nor among those of the package") from None


def check_yaml(file: str | Path, suffix: Sequence[str] = (".yaml", ".yml"), hard: bool = True) -> str | list:
    """Return the path of a YAML file, here or of the package."""
    check_suffix(file, suffix)
    return check_file(file, hard=hard)


def check_version(
    current: str = "0.0.0", required: str = "0.0.0", name: str = "version", hard: bool = False, verbose: bool = False,
    msg: str = "",
) -> bool:  # fmt: skip
    """Compare a version, or that of a package by name, with one such as ">=1.8,<2"; a bare number is the lowest.

    If it does not fit, the result is False; `verbose` logs a warning, and `hard` raises UserError.
    """
    from packaging.specifiers import SpecifierSet

    if current and not re.match(r"\d|v\d+\.", current):
        name, current = current, __version__ if current == PACKAGE_ROOT.name else metadata.version(current)
    bounds = SpecifierSet(f">={required}" if required[:1].isdigit() else required)
    text = f"{name} {current} is installed, expected {required}; {msg}".removesuffix("; ")
    if fits := not current or bounds.contains(current, prereleases=True):
        return fits
    if hard:
        raise UserError(text)
    if verbose:
        LOGGER.warning(text)
    return fits


def check_python(minimum: str = "3.10.0", hard: bool = True, verbose: bool = False) -> bool:
    return check_version(platform.python_version(), minimum, "Python", hard, verbose)


def check_requirements(
    requirements: Any = "requirements.txt", exclude: Sequence[str] = (), install: bool = True, cmds: str = ""
) -> bool:
    """Return whether requirements, also those in a file, are installed; `install` raises with the pip command if not.

    Nothing is installed. An entry that is a tuple needs one of its packages.
    """
    if str(requirements).endswith(".txt"):
        requirements = [
            text for line in read_text(requirements).splitlines() if (text := line.partition("#")[0].strip())
        ]
    choices = [requirements] if isinstance(requirements, str) else requirements
    choices = [(names,) if isinstance(names, str) else names for names in choices]
    missing = [names[0] for names in choices if names[0] not in exclude and not any(map(is_installed, names))]
    if missing and install:
        raise MissingPackageError(f"not installed: pip install {shlex.join(missing)} {cmds}".rstrip())
    return not missing


def check_tensorrt(min_version: str = "7.0.0") -> None:
    check_requirements(f"tensorrt>={min_version},!=10.2.0")


def check_apt_requirements(requirements: Sequence[str]) -> None:
    """Raise MissingPackageError, with the command for apt, unless these Debian packages are installed."""
    found = (subprocess.run(["dpkg", "--status", name], capture_output=True).returncode for name in requirements)
    if missing := [name for name, code in zip(requirements, found, strict=True) if code]:
        raise MissingPackageError(f"not installed: sudo apt install {shlex.join(missing)}")


def check_yolo(verbose: bool = True, device: Any = "") -> None:
    """Log versions and the system with `verbose`, and check that a device exists."""
    from ultralytics.utils.torch_utils import select_device

    if verbose:
        checks()
    select_device(device)


def get_save_dir(args: Any, name: str | None = None) -> Path:
    """Create and return the run folder of options."""
    return run_dir(args.project, name or args.name or args.mode, exist_ok=args.exist_ok)


def check_class_names(names: Any) -> dict[int, str]:
    """Return class names by index, from a list or a mapping; raise UserError for indices beyond 0..n-1."""
    names = {int(i): str(name) for i, name in (names.items() if isinstance(names, Mapping) else enumerate(names))}
    if names and max(names) >= len(names):
        raise UserError(f"names: {len(names)} classes, but an index is {max(names)}; expected 0..{len(names) - 1}")
    return names


def is_ascii(s: str) -> bool:
    return str(s).isascii()


def attempt_download_asset(file: str | Path, repo: str = "ultralytics/assets", release: str = "v8.4.0") -> str:
    """Return a weights file, here or in `settings["weights_dir"]`; fetch it from the published release if missing."""
    folder, name = SETTINGS["weights_dir"], Path(str(file).strip().replace("'", "")).name
    if found := next(filter(Path.exists, (Path(file), Path(folder, name))), None):
        return str(found)
    url = str(file) if "://" in str(file) else f"https://github.com/{repo}/releases/download/{release}/{name}"
    return str(fetch(url, dir=folder, unzip=False))
