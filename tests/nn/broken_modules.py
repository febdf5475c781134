"""Modules that each break one point of the contract. `# fault` marks the line that the report has to name."""

from __future__ import annotations

import re
from pathlib import Path

from tests.nn.broken_manners import MANNERS
from tests.nn.broken_results import RESULTS

HEADER = """\
import os
import random
import sys

import numpy as np
import torch
from torch import nn

from ultralytics.nn import plans
from ultralytics.nn.registry import Plan, register

"""

BROKEN = RESULTS | MANNERS  # check that has to fail -> the modules that break it


def write(folder: Path) -> None:
    """A file for each module."""
    for modules in BROKEN.values():
        for name, text in modules.items():
            (folder / f"{name}.py").write_text(HEADER + text, encoding="utf-8")


def fault_line(check: str, name: str) -> int:
    """The line that `# fault` marks."""
    lines = (HEADER + BROKEN[check][name]).splitlines()
    return next(i for i, line in enumerate(lines, start=1) if re.search(r"# fault$", line))
