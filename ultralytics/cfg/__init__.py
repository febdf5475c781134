"""Options, their default values, and readers of model files. Imports no torch."""

from ultralytics.cfg.options import DEFAULT_CFG_PATH, Options, get_cfg


def entrypoint() -> None:
    """Run the `yolo` command. The parser is imported on the first call."""
    from ultralytics.cli import main

    raise SystemExit(main())


__all__ = ["DEFAULT_CFG_PATH", "Options", "entrypoint", "get_cfg"]
