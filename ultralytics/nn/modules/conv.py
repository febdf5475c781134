"""Convolutions. Attribute names are those of published checkpoints."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ultralytics.nn import plans
from ultralytics.nn.registry import register

ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU, "leaky_relu": nn.LeakyReLU, "hardswish": nn.Hardswish}


def autopad(k: int | Sequence[int], p: int | Sequence[int] | None = None, d: int = 1) -> int | list[int]:
    """Padding that keeps the size at stride 1 for kernel `k` and dilation `d`; `p` where it is given."""
    if p is not None:
        return p
    return d * (k - 1) // 2 if isinstance(k, int) else [d * (side - 1) // 2 for side in k]


def activation(act: bool | str | nn.Module | None, default: nn.Module | None = None) -> nn.Module:
    """Module for an `act` argument: True gives `default`, False or None gives identity, a name or a module itself."""
    if isinstance(act, nn.Module):
        return act
    if isinstance(act, str):
        return ACTIVATIONS[act.lower()](inplace=True) if act.lower() != "gelu" else nn.GELU()
    return default if act is True and default is not None else nn.Identity()


@torch.no_grad()
def fold_batchnorm(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> nn.Conv2d:
    """Convolution with the weights of `conv` followed by the statistics of `bn` in eval mode. Computed in float64."""
    scale = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
    offset = 0 if conv.bias is None else conv.bias.double()
    folded = nn.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups
    ).to(conv.weight)
    folded.weight.copy_(conv.weight.double() * scale.view(-1, 1, 1, 1))
    folded.bias.copy_((offset - bn.running_mean.double()) * scale + bn.bias.double())
    return folded.requires_grad_(False)


@register(plans.conv)
class Conv(nn.Module):
    """Convolution, batch normalisation, activation."""

    default_act = nn.SiLU()

    def __init__(self, c1, c2, k=1, s=1, p=None, g=1, d=1, act=True):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, padding=autopad(k, p, d), dilation=d, groups=g, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        self.act = activation(act, default=self.default_act)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return self.act(x)

    def fold(self) -> None:
        """Fold the normalisation into the convolution, for inference."""
        if not isinstance(self.bn, nn.Identity):
            self.conv, self.bn = fold_batchnorm(self.conv, self.bn), nn.Identity()


@register(plans.conv)
class DWConv(Conv):
    """Depthwise convolution: as many groups as the channels share."""

    def __init__(self, c1, c2, k=1, s=1, d=1, act=True):
        super().__init__(c1, c2, k, s, g=math.gcd(c1, c2), d=d, act=act)


@register(plans.conv)
class LightConv(nn.Module):
    """Pointwise, then depthwise convolution, of HGNetV2 (PaddleDetection)."""

    def __init__(self, c1, c2, k=1, act=nn.ReLU()):  # noqa: B008 - ReLU holds no state
        super().__init__()
        self.conv1 = Conv(c1, c2, 1, act=False)
        self.conv2 = DWConv(c2, c2, k, act=act)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


@register(plans.conv)
class RepConv(nn.Module):
    """Sum of a 3x3 and a 1x1 convolution while training, one 3x3 convolution after folding.

    RepVGG, https://arxiv.org/abs/2101.03697, without its identity branch.
    """

    def __init__(self, c1, c2, k=3, s=1, p=1, g=1, d=1, act=True):
        super().__init__()
        self.conv1 = Conv(c1, c2, k, s, p, g, d, act=False)
        self.conv2 = Conv(c1, c2, 1, s, p - k // 2, g, act=False)
        self.act = activation(act, Conv.default_act)

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "conv"):  # after fold()
            return self.act(self.conv(x))
        return self.act(self.conv1(x) + self.conv2(x))

    def fold(self) -> None:
        """Merge both branches into one convolution, for inference."""
        if hasattr(self, "conv"):
            return
        wide, point = (fold_batchnorm(branch.conv, branch.bn) for branch in (self.conv1, self.conv2))
        centre = [side // 2 for side in wide.kernel_size]
        with torch.no_grad():
            wide.weight[:, :, centre[0], centre[1]] += point.weight[:, :, 0, 0]
            wide.bias += point.bias
        del self.conv1, self.conv2
        self.conv = wide


@register(plans.conv)
class ConvNormLayer(nn.Module):
    """Convolution, batch normalisation, optional activation, as named in the official RT-DETR ResNet."""

    def __init__(self, c1, c2, k, s, p=None, bias=False, act=None):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, (k - 1) // 2 if p is None else p, bias=bias)
        self.norm = nn.BatchNorm2d(c2)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))

    def fold(self) -> None:
        """Fold the normalisation into the convolution, for inference."""
        if not isinstance(self.norm, nn.Identity):
            self.conv, self.norm = fold_batchnorm(self.conv, self.norm), nn.Identity()


@register(plans.concat)
class Concat(nn.Module):
    """Concatenation of feature maps."""

    def __init__(self, dimension=1):
        super().__init__()
        self.d = dimension

    def forward(self, x: list[Tensor]) -> Tensor:
        return torch.cat(x, self.d)
