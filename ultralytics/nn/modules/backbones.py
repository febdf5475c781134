"""What the backbones taken from timm and torchvision share: image padding, layout of the maps, and frozen stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.utils.errors import ModelConfigError, UserError

MOST_MAPS = 5  # places that a layer with several outputs has in a model file

# What a network of a library raises on a size, an option or a device that it does not know. A trial on the meta device
# ends with one of them, and the next way of building the network is tried.
TRIAL_ERRORS = (
    AssertionError, TypeError, ValueError, RuntimeError, AttributeError, LookupError, ArithmeticError,
    NotImplementedError,
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """How a network of a library is built and run for images of any size, as trials on the meta device found it.

    Attributes:
        widths: channels of the maps, finest first.
        strides: pixels of the image for one position of each map.
        options: keyword arguments of its constructor.
        multiple: height and width of the image are padded to a multiple of this.
        fixed: the only (height, width) it accepts; None for any.
        channels_last: whether its maps are (B, H, W, C).
        nodes: names of the modules whose outputs are the maps, where the library asks for them.
    """

    widths: tuple[int, ...]
    strides: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    multiple: int = 1
    fixed: tuple[int, int] | None = None
    channels_last: bool = False
    nodes: tuple[str, ...] = ()


class FeatureBackbone(nn.Module):
    """A network of a library whose maps are (B, C, H, W), finest first.

    Its normalisations keep their own epsilon and momentum (`keeps_norm`): published weights are made for them.

    Args:
        name: of the network, for messages.
        net: gives a sequence of maps, or a dictionary of them.
        recipe: its maps, and how it is run.
        stages: names of the parameters that the first, the second, ... feature depends on; each holds the one before.
        frozen_stages: how many of the stages are frozen.

    A subclass raises ModelConfigError where there is no such network, it gives no maps, or an argument does not fit it,
    and WeightsError where weights cannot be downloaded or read.
    """

    keeps_norm = True

    def __init__(self, name: str, net: nn.Module, recipe: Recipe, stages: Sequence[set[str]], frozen_stages: int):
        super().__init__()
        self.name, self.net, self.recipe = name, net, recipe
        self.width_list, self.strides = list(recipe.widths), list(recipe.strides)
        self.frozen_stages = frozen_stages
        frozen = stages[frozen_stages - 1] if frozen_stages else set()
        for parameter_name, parameter in net.named_parameters():
            if parameter_name in frozen:
                parameter.requires_grad_(False)
        owners = {parameter_name.rpartition(".")[0] for parameter_name in frozen}
        self.frozen_modules = tuple(sorted(owners - {""}))  # names: a copy of the network has modules of its own

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> maps (B, width, H / stride, W / stride), rounded up where the network pads.

        Raises:
            UserError: the network accepts one size only, and this is another.
        """
        height, width = x.shape[-2:]
        if self.recipe.fixed and (height, width) != self.recipe.fixed:
            raise UserError(
                f"{self.name} was built for images of {self.recipe.fixed} and takes no others, got {(height, width)}"
            )
        bottom, right = -height % self.recipe.multiple, -width % self.recipe.multiple
        if bottom or right:
            x = F.pad(x, (0, right, 0, bottom))
        maps = self.net(x)
        maps = list(maps.values()) if isinstance(maps, dict) else list(maps)
        if self.recipe.channels_last:
            maps = [m.permute(0, 3, 1, 2).contiguous() for m in maps]  # (B, H, W, C) -> (B, C, H, W)
        if bottom or right:
            maps = [m[:, :, : -(-height // s), : -(-width // s)] for m, s in zip(maps, self.strides, strict=True)]
        return maps

    def train(self, mode: bool = True) -> FeatureBackbone:
        """Set the mode; layers of frozen stages stay in eval, so that their normalisation statistics do not move."""
        super().train(mode)
        for module_name in self.frozen_modules:
            # Not its children: the outermost module owns position embeddings, and all others.
            self.net.get_submodule(module_name).training = False
        return self


def error_line(error: Exception | None) -> str:
    """The kind of an error of a library, and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def check_frozen(name: str, frozen_stages: int, count: int) -> None:
    """Refuse a number of frozen stages that the network does not have.

    Raises:
        ModelConfigError: it is not 0 to `count`.
    """
    if not isinstance(frozen_stages, int) or isinstance(frozen_stages, bool) or not 0 <= frozen_stages <= count:
        raise ModelConfigError(
            f"{name}: frozen_stages is 0 (nothing) to {count} (all its features), got {frozen_stages!r}"
        )


def dependencies(net: nn.Module, maps: Sequence[Tensor]) -> list[set[str]]:
    """Names of the parameters that each map depends on, by the graph of autograd; each set holds the one before."""
    names, parameters = zip(*net.named_parameters(), strict=True)
    stages: list[set[str]] = []
    for feature in maps:
        gradients = torch.autograd.grad(feature.sum(), parameters, allow_unused=True, retain_graph=True)
        found = {name for name, gradient in zip(names, gradients, strict=True) if gradient is not None}
        stages.append(found | (stages[-1] if stages else set()))
    return stages


def layout(maps: Sequence[Tensor], widths: Sequence[int], strides: Sequence[int], size: tuple[int, int]) -> bool | None:
    """Whether maps are (B, H, W, C): True, or (B, C, H, W): False; None where they are neither.

    Args:
        maps: outputs for an image of `size`, height and width, which differ.
        widths: the channels they should have.
        strides: the strides they should have.
    """
    answers = {_layout(m, c, s, size) for m, c, s in zip(maps, widths, strides, strict=True)}
    return answers.pop() if len(answers) == 1 else None


def _layout(feature: Tensor, width: int, stride: int, size: tuple[int, int]) -> bool | None:
    if feature.ndim != 4:
        return None
    _, a, b, c = feature.shape
    for channels_last, (channels, height, breadth) in ((False, (a, b, c)), (True, (c, a, b))):
        close = all(abs(n * stride / side - 1) < 0.25 for n, side in zip((height, breadth), size, strict=True))
        if channels == width and close:
            return channels_last
    return None
