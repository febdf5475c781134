"""`settings`: folders and trackers of this process, under the names of the published package. No file is written."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from ultralytics.utils import LOGGER, cache_dir
from ultralytics.utils.errors import OptionError, did_you_mean

TRACKERS = ("tensorboard", "wandb", "mlflow", "clearml")  # switch the callbacks of `loggers` on
ABSENT = ("sync", "hub", "comet", "dvc", "neptune", "raytune", "vscode_msg", "api_key", "openai_api_key", "uuid")


class Settings(MutableMapping[str, Any]):
    """Settings by name, read where they are used; a change holds until the process ends.

    Examples:
        >>> settings = Settings()
        >>> settings.update({"runs_dir": "/data/runs", "sync": False})
        >>> settings["runs_dir"], settings["wandb"]
        ('/data/runs', False)
    """

    def __init__(self) -> None:
        self._changed: dict[str, Any] = {}

    def _defaults(self) -> dict[str, Any]:
        folders = {f"{kind}_dir": str(cache_dir() / kind) for kind in ("datasets", "weights")}
        absent = {key: "" if key.endswith(("key", "uuid")) else False for key in ABSENT}
        return {**folders, "runs_dir": "runs", **dict.fromkeys(TRACKERS, False), **absent}

    def __getitem__(self, key: str) -> Any:
        return {**self._defaults(), **self._changed}[key]

    def __setitem__(self, key: str, value: Any) -> None:
        known = self._defaults()
        if key not in known:
            raise OptionError(f"settings: unknown setting {key!r}{did_you_mean(key, known)}; known: {', '.join(known)}")
        if key in ABSENT and value:
            raise OptionError(f"settings: {key}={value!r}: this package has no such service, and sends nothing")
        if not isinstance(value, bool if key in TRACKERS else (str, bool)):
            expected = "True or False" if key in TRACKERS else "a text"
            raise OptionError(f"settings: {key}: expected {expected}, got {value!r}")
        self._changed[key] = value

    def __delitem__(self, key: str) -> None:
        raise OptionError(f"settings: {key!r} cannot be removed; reset() restores the defaults")

    def __iter__(self) -> Iterator[str]:
        return iter(self._defaults())

    def __len__(self) -> int:
        return len(self._defaults())

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Change settings of this process, given as of `dict.update`."""
        before = dict(self)
        super().update(*args, **kwargs)
        if dict(self) != before:
            LOGGER.info("settings: changed for this process; they are not written to a file")

    def reset(self) -> None:
        """Restore the defaults."""
        self._changed.clear()

    def __repr__(self) -> str:
        return f"Settings({dict(self)})"


SETTINGS = Settings()
