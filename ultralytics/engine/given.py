"""Trainers, validators and predictors that a script makes by itself: `RTDETRTrainer(overrides={...})`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ultralytics.cfg import Options, get_cfg
from ultralytics.utils import setup_logging

Given = str | Path | Mapping[str, object] | Options | None


def given_options(cfg: Given, overrides: Mapping[str, object] | None, mode: str) -> Options:
    """Options from a YAML file or mapping `cfg`, or the defaults, and from `overrides`.

    Options are complete and are taken as they are; `overrides` then only tell which of them the user wrote.
    """
    if isinstance(cfg, Options):
        return cfg
    options = get_cfg(cfg, {**(overrides or {}), "mode": mode})
    setup_logging(options.verbose)  # as the entry points do, of which this is one
    return options
