"""Options, default values and the command line. Imports no torch."""

from ultralytics.cfg.options import DEFAULT_CFG_PATH, Options, get_cfg


def entrypoint() -> None:
    """The `yolo` command. Its parser is imported when it is used."""
    from ultralytics.cfg.cli import main

    raise SystemExit(main())


__all__ = ["DEFAULT_CFG_PATH", "Options", "entrypoint", "get_cfg"]
