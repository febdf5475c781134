"""Bottlenecks and cross-stage partial (CSP) blocks of YOLOv5 to YOLO11, and the blocks of YOLOv10 without attention."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ultralytics.nn import plans
from ultralytics.nn.modules.argument_checks import require_multiple, require_same
from ultralytics.nn.modules.conv import Conv, DWConv, GhostConv, RepConv, chained
from ultralytics.nn.modules.transformer import TransformerBlock
from ultralytics.nn.registry import register
from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.torch_utils import fuse_conv_and_bn


@register(plans.conv)
class Bottleneck(nn.Module):
    """Two convolutions of kernels `k`, `e` * c2 hidden channels, and a residual if `shortcut` and c1 == c2."""

    def __init__(self, c1, c2, shortcut=True, g=1, k=(3, 3), e=0.5):
        super().__init__()
        hidden = int(c2 * e)
        self.cv1, self.cv2 = Conv(c1, hidden, k[0], 1), Conv(hidden, c2, k[1], 1, g=g)
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))  # (B, c1, H, W) -> (B, e c2, H, W) -> (B, c2, H, W)
        return x + y if self.add else y


class RepBottleneck(Bottleneck):
    """Bottleneck whose first convolution is a RepConv (YOLOv9, arXiv:2402.13616)."""

    def __init__(self, c1, c2, shortcut=True, g=1, k=(3, 3), e=0.5):
        super().__init__(c1, c2, shortcut, g, k, e)
        self.cv1 = RepConv(c1, int(c2 * e), k[0], 1, None)


@register(plans.conv)
class GhostBottleneck(nn.Module):
    """Two ghost convolutions with a shortcut; stride 2 by depthwise convolutions (GhostNet, arXiv:1911.11907)."""

    def __init__(self, c1, c2, k=3, s=1):
        super().__init__()
        if s not in (1, 2):
            raise ModelConfigError(f"GhostBottleneck: s must be 1 or 2, got {s}")
        require_multiple("GhostBottleneck", 4, c2=c2)
        if s == 1:
            require_same("GhostBottleneck of stride 1", c1=c1, c2=c2)
        half = c2 // 2
        down = DWConv(half, half, k, s, act=False) if s == 2 else nn.Identity()
        self.conv = nn.Sequential(GhostConv(c1, half, 1, 1), down, GhostConv(half, c2, 1, 1, act=False))
        shrink = (DWConv(c1, c1, k, s, act=False), Conv(c1, c2, 1, 1, act=False))
        self.shortcut = nn.Sequential(*shrink) if s == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.shortcut(x)  # (B, c1, H, W) -> (B, c2, H / s, W / s)


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
    """CSP that concatenates the outputs of all `n` inner blocks (YOLOv8); `inner` replaces the bottlenecks."""

    def __init__(self, c1, c2, n=1, shortcut=False, g=1, e=0.5, *, inner: Inner | None = None):
        super().__init__()
        self.c = c = int(c2 * e)
        self.cv1, self.cv2 = Conv(c1, 2 * c, 1, 1), Conv((2 + n) * c, c2, 1)
        self.m = nn.ModuleList(inner(c) if inner else Bottleneck(c, c, shortcut, g, e=1.0) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        halves = list(self.cv1(x).chunk(2, 1))  # (B, c1, H, W) -> 2 x (B, c, H, W)
        return self.cv2(torch.cat(chained(halves, self.m), 1))  # (B, (2 + n) c, H, W) -> (B, c2, H, W)

    forward_split = forward  # as forks assign it


@register(plans.csp)
class C3(nn.Module):
    """CSP with three convolutions: `n` bottlenecks (or `inner` blocks) beside a pointwise branch."""

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
    """C3 of `n` transformer layers with 4 heads; `shortcut` and `g`, of published model files, are unused."""

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__(c1, c2, 0, e=e)
        self.m = TransformerBlock(int(c2 * e), int(c2 * e), 4, n)


@register(plans.csp)
class C3Ghost(C3):
    """C3 of ghost bottlenecks; `shortcut` and `g`, of published model files, are unused."""

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__(c1, c2, n, e=e, inner=lambda c: GhostBottleneck(c, c))


class C3k(C3):
    """C3 with kernel size `k` (YOLO11)."""

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5, k=3):
        super().__init__(c1, c2, n, e=e, inner=_bottleneck(shortcut, g, (k, k)))


class RepCSP(C3):
    """C3 of RepConv bottlenecks (YOLOv9, arXiv:2402.13616)."""

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__(c1, c2, n, e=e, inner=lambda c: RepBottleneck(c, c, shortcut, g, e=1.0))


class C3f(nn.Module):
    """C3 that concatenates the outputs of all bottlenecks."""

    def __init__(self, c1, c2, n=1, shortcut=False, g=1, e=0.5):
        super().__init__()
        c_ = int(c2 * e)
        self.cv1, self.cv2, self.cv3 = Conv(c1, c_, 1, 1), Conv(c1, c_, 1, 1), Conv((2 + n) * c_, c2, 1)
        self.m = nn.ModuleList(Bottleneck(c_, c_, shortcut, g, k=(3, 3), e=1.0) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        outputs = chained([self.cv2(x), self.cv1(x)], self.m)
        return self.cv3(torch.cat(outputs, 1))  # (B, (2 + n) c_, H, W) -> (B, c2, H, W)


@register(plans.csp)
class BottleneckCSP(nn.Module):
    """Original CSP bottleneck (arXiv:1911.11929): one normalization over both branches."""

    def __init__(self, c1, c2, n=1, shortcut=True, g=1, e=0.5):
        super().__init__()
        c_ = int(c2 * e)
        self.cv1 = Conv(c1, c_, 1, 1)
        self.cv2, self.cv3 = nn.Conv2d(c1, c_, 1, bias=False), nn.Conv2d(c_, c_, 1, bias=False)
        self.cv4 = Conv(2 * c_, c2, 1, 1)
        self.bn, self.act = nn.BatchNorm2d(2 * c_), nn.SiLU()
        self.m = nn.Sequential(*(Bottleneck(c_, c_, shortcut, g, e=1.0) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat((self.cv3(self.m(self.cv1(x))), self.cv2(x)), 1)  # (B, 2 c_, H, W)
        return self.cv4(self.act(self.bn(y)))


@register(plans.conv)
class SCDown(nn.Module):
    """Pointwise, then depthwise convolution of stride `s` (YOLOv10)."""

    def __init__(self, c1, c2, k, s):
        super().__init__()
        self.cv1, self.cv2 = Conv(c1, c2, 1, 1), Conv(c2, c2, k=k, s=s, g=c2, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv2(self.cv1(x))  # (B, c1, H, W) -> (B, c2, H, W) -> (B, c2, H / s, W / s)


@register(plans.channel_preserving)
class RepVGGDW(nn.Module):
    """Sum of a 7x7 and a 3x3 depthwise convolution."""

    def __init__(self, ed):
        super().__init__()
        self.conv, self.conv1 = (Conv(ed, ed, k, 1, k // 2, g=ed, act=False) for k in (7, 3))
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x) + self.conv1(x))

    @torch.no_grad()
    def fold(self) -> None:
        """Merge both branches into one `Conv`, for inference."""
        self.conv, small = (fuse_conv_and_bn(branch.conv, branch.bn) for branch in (self.conv, self.conv1))
        self.conv.weight[:, :, 2:5, 2:5] += small.weight
        self.conv.bias += small.bias
        self.bn = nn.Identity()
        del self.conv1
        self.__class__ = Conv


class CIB(nn.Module):
    """Compact inverted block (YOLOv10): alternating depthwise and pointwise convolutions.

    `lk` uses a 7x7 kernel in the middle; `shortcut` adds the input if c1 == c2.
    """

    def __init__(self, c1, c2, shortcut=True, e=0.5, lk=False):
        super().__init__()
        wide = 2 * int(c2 * e)
        middle = RepVGGDW(wide) if lk else Conv(wide, wide, 3, g=wide)
        self.cv1 = nn.Sequential(
            Conv(c1, c1, 3, g=c1), Conv(c1, wide, 1), middle, Conv(wide, c2, 1), Conv(c2, c2, 3, g=c2)
        )
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)  # (B, c1, H, W) -> (B, c2, H, W)
        return x + y if self.add else y


@register(plans.csp)
class C2fCIB(C2f):
    """C2f of compact inverted blocks; `g` is unused: rows of published model files have it before `e`."""

    def __init__(self, c1, c2, n=1, shortcut=False, lk=False, g=1, e=0.5):
        super().__init__(c1, c2, n, e=e, inner=lambda c: CIB(c, c, shortcut, e=1.0, lk=lk))
