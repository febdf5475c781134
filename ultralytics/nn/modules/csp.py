"""Cross-stage partial blocks (CSPNet, arXiv:1911.11929) of YOLO: one part of the channels passes through inner blocks.

Where a class has an `inner` argument, it makes the inner block for a number of channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ultralytics.nn import plans
from ultralytics.nn.modules.bottleneck import Bottleneck, GhostBottleneck, RepBottleneck
from ultralytics.nn.modules.chain import each_output
from ultralytics.nn.modules.conv import Conv, batchnorm_affine
from ultralytics.nn.modules.transformer import TransformerBlock
from ultralytics.nn.registry import register

Inner = Callable[[int], nn.Module]


@register(plans.csp)
class C1(nn.Module):
    """`n` 3x3 convolutions with one shortcut."""

    def __init__(self, c1, c2, n=1):
        super().__init__()
        self.cv1 = Conv(c1, c2, 1, 1)
        self.m = nn.Sequential(*(Conv(c2, c2, 3) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)  # (B, c1, H, W) -> (B, c2, H, W)
        return self.m(x) + x


@register(plans.csp)
class C2(nn.Module):
    """CSP with two convolutions: half of the channels pass through `n` bottlenecks."""

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__()
        self.c = int(c2 * e)
        self.cv1, self.cv2 = Conv(c1, 2 * self.c, 1, 1), Conv(2 * self.c, c2, 1)
        self.m = nn.Sequential(*(Bottleneck(self.c, self.c, shortcut, g, e=1.0) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.cv1(x).chunk(2, 1)  # (B, c1, H, W) -> 2 x (B, c, H, W)
        return self.cv2(torch.cat((self.m(a), b), 1))


@register(plans.csp)
class C2f(nn.Module):
    """CSP that keeps the output of every one of its `n` inner blocks (YOLOv8); they are bottlenecks if not `inner`."""

    def __init__(self, c1, c2, n=1, shortcut=False, g=1, e=0.5, *, inner: Inner | None = None):
        super().__init__()
        self.c = c = int(c2 * e)
        self.cv1, self.cv2 = Conv(c1, 2 * c, 1, 1), Conv((2 + n) * c, c2, 1)
        self.m = nn.ModuleList(inner(c) if inner else Bottleneck(c, c, shortcut, g, e=1.0) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.cv1(x).chunk(2, 1)  # (B, c1, H, W) -> 2 x (B, c, H, W)
        return self.cv2(torch.cat((a, *each_output(b, self.m)), 1))  # (B, (2 + n) c, H, W) -> (B, c2, H, W)


@register(plans.csp)
class C3(nn.Module):
    """CSP with three convolutions: `n` bottlenecks, or what `inner` gives, beside a pointwise branch."""

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5, *, inner: Inner | None = None):
        super().__init__()
        c_ = int(c2 * e)
        self.cv1, self.cv2, self.cv3 = Conv(c1, c_, 1, 1), Conv(c1, c_, 1, 1), Conv(2 * c_, c2, 1)
        inner = inner or _bottleneck(shortcut, g, (1, 3))
        self.m = nn.Sequential(*(inner(c_) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))  # (B, 2 c_, H, W) -> (B, c2, H, W)


def _bottleneck(shortcut: bool, g: int, k: tuple) -> Inner:
    return lambda c: Bottleneck(c, c, shortcut, g, k=k, e=1.0)


@register(plans.csp)
class C3x(C3):
    """C3 of crossed 1x3 and 3x1 convolutions."""

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__(c1, c2, n, e=e, inner=_bottleneck(shortcut, g, ((1, 3), (3, 1))))


@register(plans.csp)
class C3TR(C3):
    """C3 of `n` transformer layers of 4 heads, which have shortcuts of their own: `shortcut` and `g` have no meaning.

    Their places stay, because `e` stands behind them in the rows of published model files.
    """

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__(c1, c2, 0, e=e)
        self.m = TransformerBlock(int(c2 * e), int(c2 * e), 4, n)


@register(plans.csp)
class C3Ghost(C3):
    """C3 of ghost bottlenecks, which have shortcuts of their own: `shortcut` and `g` have no meaning.

    Their places stay, because `e` stands behind them in the rows of published model files.
    """

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__(c1, c2, n, e=e, inner=lambda c: GhostBottleneck(c, c))


class C3k(C3):
    """C3 with a kernel size of choice (YOLO11)."""

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5, k=3):
        super().__init__(c1, c2, n, e=e, inner=_bottleneck(shortcut, g, (k, k)))


class RepCSP(C3):
    """C3 of RepConv bottlenecks (YOLOv9, arXiv:2402.13616)."""

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__(c1, c2, n, e=e, inner=lambda c: RepBottleneck(c, c, shortcut, g, e=1.0))


class C3f(nn.Module):
    """C3 that keeps the output of every bottleneck."""

    def __init__(self, c1, c2, n=1, shortcut=False, g=1, e=0.5):
        super().__init__()
        c_ = int(c2 * e)
        self.cv1, self.cv2, self.cv3 = Conv(c1, c_, 1, 1), Conv(c1, c_, 1, 1), Conv((2 + n) * c_, c2, 1)
        self.m = nn.ModuleList(Bottleneck(c_, c_, shortcut, g, k=(3, 3), e=1.0) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        outputs = each_output(self.cv1(x), self.m)  # (1 + n) x (B, c_, H, W)
        return self.cv3(torch.cat((self.cv2(x), *outputs), 1))


@register(plans.csp)
class BottleneckCSP(nn.Module):
    """The first CSP bottleneck (arXiv:1911.11929): one normalisation over both branches."""

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__()
        c_ = int(c2 * e)
        self.cv1 = Conv(c1, c_, 1, 1)
        self.cv2, self.cv3 = nn.Conv2d(c1, c_, 1, bias=False), nn.Conv2d(c_, c_, 1, bias=False)
        self.cv4 = Conv(2 * c_, c2, 1, 1)
        self.bn, self.act = nn.BatchNorm2d(2 * c_), nn.SiLU()
        self.m = nn.Sequential(*(Bottleneck(c_, c_, shortcut, g, e=1.0) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat((self.cv3(self.m(self.cv1(x))), self.cv2(x)), 1)  # (B, 2 c_, H, W)
        return self.cv4(self.act(self.bn(joined)))

    @torch.no_grad()
    def fold(self) -> None:
        """Fold each half of the normalisation into the convolution before it, for inference."""
        if isinstance(self.bn, nn.Identity):
            return
        scales, offsets = (values.chunk(2) for values in batchnorm_affine(self.bn))
        for conv, scale, offset in zip((self.cv3, self.cv2), scales, offsets, strict=True):
            conv.weight.copy_(conv.weight.double() * scale.view(-1, 1, 1, 1))
            conv.bias = nn.Parameter(offset.to(conv.weight))
            conv.requires_grad_(False)
        self.bn = nn.Identity()
