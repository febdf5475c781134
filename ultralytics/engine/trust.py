"""What a weights file records beside its numbers: folders of code, and a data set. Shown, and followed when asked for.

The rule: a file from elsewhere runs no code of a folder that it names, and downloads nothing. To allow it, pass
`modules=FOLDER` or `data=FILE`, or `trust=True`, which follows everything that the file records.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ultralytics.data.dataset_yaml import load_dataset_config
from ultralytics.nn.registry import module_folders
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, ModelConfigError
from ultralytics.utils.files import real_path

Network = TypeVar("Network")


def build_recorded(
    build: Callable[[dict[str, Any]], Network], checkpoint: Mapping[str, Any], origin: str | Path,
    modules: Sequence[str] | None = None, *, trust: bool = False,
) -> Network:  # fmt: skip
    """Return `build(model_yaml)` of a checkpoint; its folders of code are removed from the model YAML without `trust`.

    `modules` are the folders that the user gave. Raises ModelConfigError that names the folders, if they are needed.
    """
    architecture = dict(checkpoint["model_yaml"])
    recorded = architecture.pop("modules", None) or ()
    recorded = [recorded] if isinstance(recorded, str) else [str(folder) for folder in recorded]
    given = {str(folder) for folder in (*module_folders(modules or ()), *map(real_path, modules or ()))}
    left = [folder for folder in recorded if str(Path(folder).resolve()) not in given]
    if trust and left:
        LOGGER.info(f"{origin}: trust=True: its module folders {', '.join(left)} are imported")
        return build({**architecture, "modules": recorded})
    shown = left[0] if len(left) == 1 else left
    hint = f"{origin} records the module folder {shown}, whose Python files run only if you add modules={shown}"
    hint += " or trust=True" if all(Path(folder).is_dir() for folder in left) else " (not found here: its new path)"
    try:
        network = build(architecture)
    except ModelConfigError as error:
        text = f"{origin}: {error}"
        raise ModelConfigError(f"{text}{' ' if text[-1] in '.?' else '. '}{hint}" if left else text) from error
    if left and not modules:
        LOGGER.warning(f"{hint}; the network was built without it")
    return network


def recorded_data(data: object, splits: Sequence[str], origin: str | Path) -> str | None:
    """Return a data set that a file records, if it is a data YAML with its images in place; nothing is downloaded."""
    if data is None:
        return None
    if not isinstance(data, str):
        raise DataError(
            f"{origin}: records its data set as a {type(data).__name__}, which is not followed; add data=my.yaml, or "
            "trust=True to follow the file"
        )
    try:
        load_dataset_config(data, splits, download=False)
    except DataError as error:
        raise DataError(f"{error}. {origin} records this data set; another one: data=my.yaml") from error
    return data
