"""Controls of equal cost: the base, widened or deepened until it costs as much as a change."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ultralytics.ablation.analysis import Size
from ultralytics.cfg.model_yaml import FACTORS, load_model_yaml
from ultralytics.utils.errors import UserError
from ultralytics.utils.files import write_text

WIDEST, STEPS = 4.0, 128  # factor on width or depth up to which the cost is matched, and its resolution
TOLERANCE = 0.005  # of the cost; a change that adds less needs no control

Measure = Callable[[str], Size]


def equal_cost_model(base: str, target: Size, measure: Measure, file: Path) -> str | None:
    """Write the base with the smallest width, or else depth, that costs at least as much as `target`.

    Both are multiplied in the scale of the model file. The cost is that in GFLOPs, or in parameters where the change
    adds none.

    Args:
        base: a model file.
        target: cost of the change.
        measure: returns the cost of a model file.
        file: to write.

    Returns:
        What was changed, such as `width x 1.05`; None if the base costs as much already.

    Raises:
        UserError: neither width nor depth of the file changes its cost.
    """
    source = {key: value for key, value in load_model_yaml(base).source.items() if key != "yaml_file"}
    start = measure(base)
    by_flops = target.gflops > start.gflops * (1 + TOLERANCE)
    if not by_flops and target.parameters <= start.parameters * (1 + TOLERANCE):
        return None

    def enough(size: Size) -> bool:
        return size.gflops >= target.gflops if by_flops else size.parameters >= target.parameters

    factors = [1 + step / STEPS * (WIDEST - 1) for step in range(1, STEPS + 1)]
    for position, kind in ((1, "width"), (0, "depth")):
        scaled = partial(_scaled, source, position, measure=measure, file=file)
        if enough(scaled(WIDEST)):
            factor = factors[bisect_left(factors, True, hi=STEPS - 1, key=lambda factor: enough(scaled(factor)))]
            scaled(factor)
            return f"{kind} x {factor:.3g}"
    raise UserError(
        f"{base}: control equal-cost: neither width nor depth, multiplied by up to {WIDEST:g}, reaches the "
        "cost of the change; give a larger model as a change of its own: {model: FILE}"
    )


def _scaled(source: Mapping[str, Any], position: int, factor: float, measure: Measure, file: Path) -> Size:
    """Write the model with its depth (position 0) or width (1) multiplied, and return its cost."""
    data = dict(source)
    if data.get("scales"):
        scale = list(data["scales"][data["scale"]])
        scale[position] = round(scale[position] * factor, 6)
        if position == 1:
            scale[2] = round(scale[2] * factor)  # the limit of channels grows with the width
        data["scales"] = {data["scale"]: scale}
    else:
        key = ("depth_multiple", "width_multiple")[position]
        data[key] = round(data.get(key, FACTORS[key]) * factor, 6)
    write_text(file, yaml.safe_dump(data, sort_keys=False, default_flow_style=None, allow_unicode=True, width=1 << 20))
    return measure(str(file))
