"""Options and their defaults. Importing this imports no torch."""

from ultralytics.cfg.options import DEFAULT_CFG_PATH, Options, get_cfg
from ultralytics.utils.public import public_names


def entrypoint() -> None:
    """Run the `yolo` command and exit."""
    from ultralytics.cli import main

    raise SystemExit(main())


__all__ = ["DEFAULT_CFG_PATH", "Options", "entrypoint", "get_cfg"]


__getattr__ = public_names(__name__)
