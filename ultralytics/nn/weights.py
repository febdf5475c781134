"""Reading weights of others, and loading what matches with a report of what did not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from ultralytics.utils import LOGGER
from ultralytics.utils.errors import WeightsError
from ultralytics.utils.torch_files import read_plain

WRAPPERS = ("ema", "model_ema", "model", "state_dict", "module")  # keys under which files keep their state_dict


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor: names that were loaded, loaded after a change of shape, or left, with the reason."""

    matched: tuple[str, ...]
    resized: tuple[str, ...]
    left: Mapping[str, str]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"{len(self.matched)} tensors loaded as they are, {len(self.resized)} after a change of shape, "
            f"{len(self.left)} left in the file, {len(self.missing)} of the model not in the file"
        ]
        shown = 8
        for title, names in (("resized", self.resized), ("left", [f"{n} ({why})" for n, why in self.left.items()])):
            if names:
                more = f", and {len(names) - shown} more" if len(names) > shown else ""
                lines.append(f"  {title}: {', '.join(names[:shown])}{more}")
        return "\n".join(lines)


def read_state_dict(file: str | Path) -> dict[str, Tensor]:
    """Tensors by name from a `.pth`/`.pt` file, at its top level or under `model`, `state_dict`, `ema` or `module`.

    Only data is read; code in the file is not run.

    Raises:
        WeightsError: the file is missing, is not a weights file, or holds no tensors by name.
    """
    content = read_plain(file)
    while isinstance(content, dict):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict) and content[key]), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, dict) or not any(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"{file}: no tensors by name at the top level or under {', '.join(WRAPPERS)}")
    return {name.removeprefix("module."): value for name, value in content.items() if isinstance(value, Tensor)}


def load_matching(
    model: nn.Module, source: Mapping[str, Tensor], *, resized: Iterable[str] = (), origin: str = "weights"
) -> LoadReport:
    """Load every tensor whose name and shape fit the model, and log a report of the rest.

    Args:
        model: the module to fill.
        source: tensors by name.
        resized: names in `source` whose shape was changed to fit, for the report.
        origin: where the tensors come from, for messages.

    Raises:
        WeightsError: nothing matches.
    """
    target, resized = model.state_dict(), set(resized)
    fitting, left = {}, {}
    for name, value in source.items():
        if name not in target:
            left[name] = "no such name in the model"
        elif target[name].shape != value.shape:
            left[name] = f"shape {tuple(value.shape)}, the model has {tuple(target[name].shape)}"
        else:
            fitting[name] = value
    if not any(value.is_floating_point() for value in fitting.values()):
        example = next(iter(left.items()), ("", "the file is empty"))
        raise WeightsError(
            f"{origin}: none of its {len(source)} tensors fits {type(model).__name__}, which has {len(target)}; "
            f"for example {example[0]!r}: {example[1]}. Is it a file of another model?"
        )
    model.load_state_dict(fitting, strict=False)
    report = LoadReport(
        matched=tuple(n for n in fitting if n not in resized),
        resized=tuple(n for n in fitting if n in resized),
        left=left,
        missing=tuple(n for n in target if n not in fitting),
    )
    LOGGER.info(f"{origin}: {report}")
    return report
