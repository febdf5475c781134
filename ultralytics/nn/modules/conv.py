"""Convolutions. Attribute names are those of published checkpoints."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ultralytics.nn import plans
from ultralytics.nn.modules.argument_checks import activation, require_multiple, require_odd
from ultralytics.nn.registry import register
from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.torch_utils import fuse_conv_and_bn


def autopad(k: int | Sequence[int], p: int | Sequence[int] | None = None, d: int = 1) -> int | list[int]:
    """Return the padding for kernel `k` and dilation `d`: `p` if given, else half of the dilated kernel.

    An odd kernel then keeps the size at stride 1; an even one makes the map one larger, as in the published package.
    """
    if p is not None:
        return p
    return (d * (k - 1) + 1) // 2 if isinstance(k, int) else [autopad(side, None, d) for side in k]


def chained(outputs: list[Tensor], blocks: Iterable[nn.Module]) -> list[Tensor]:
    """Return `outputs`, followed by those of the blocks, each of which reads the one before, to be concatenated."""
    for block in blocks:
        outputs.append(block(outputs[-1]))
    return outputs


def point_padding(where: str, k: int | Sequence[int], p: int | Sequence[int] | None, d: int) -> tuple[int, ...]:
    """Return the padding of a 1x1 convolution whose output has the size that kernel `k`, `p` and `d` give.

    Raises ModelConfigError if there is none: the kernel is even, or it shrinks the map.
    """
    sides, paddings = ([v, v] if isinstance(v, int) else v for v in (k, autopad(k, p, d)))
    rest = tuple(padding - d * (side // 2) for side, padding in zip(sides, paddings, strict=True))
    if min(rest) < 0 or any(side % 2 == 0 for side in sides):
        expected = "the 1x1 branch needs an odd k and p of at least d * (k // 2)"
        raise ModelConfigError(f"{where}: {expected}, got k={k}, p={p}, d={d}")
    return rest


@register(plans.conv)
class Conv(nn.Module):
    """Convolution, batch norm, activation.

    Examples:
        >>> Conv(3, 16, k=3, s=2)(torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 16, 16, 16])
    """

    default_act = nn.SiLU()

    def __init__(self, c1, c2, k=1, s=1, p=None, g=1, d=1, act=True):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, padding=autopad(k, p, d), dilation=d, groups=g, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        self.act = activation(act, default=self.default_act)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


@register(plans.conv)
class DWConv(Conv):
    """Depthwise convolution with gcd(c1, c2) groups."""

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
    """Sum of a 3x3 and a 1x1 convolution in training, one 3x3 convolution after folding.

    RepVGG, https://arxiv.org/abs/2101.03697. `bn` adds the identity branch if size and channels stay. As in the
    published class, `deploy` has no effect, and the `activation` of a model file does not apply.
    """

    default_act = nn.SiLU()

    def __init__(self, c1, c2, k=3, s=1, p=1, g=1, d=1, act=True, bn=False, deploy=False):
        super().__init__()
        point = point_padding("RepConv", k, p, d)
        self.bn = nn.BatchNorm2d(c1) if bn and c1 == c2 and s == 1 and not any(point) else None
        self.conv1 = Conv(c1, c2, k, s, p, g, d, act=False)
        self.conv2 = Conv(c1, c2, 1, s, point, g, act=False)
        self.act = activation(act, self.default_act)

    def forward(self, x: Tensor) -> Tensor:
        summed = self.conv1(x) + self.conv2(x)
        return self.act(summed if self.bn is None else summed + self.bn(x))

    @torch.no_grad()
    def fold(self) -> None:
        """Merge all branches into one `Conv`, for inference."""
        self.conv, point = (fuse_conv_and_bn(branch.conv, branch.bn) for branch in (self.conv1, self.conv2))
        points = [point]
        if self.bn is not None:
            channels = self.bn.num_features
            identity = nn.Conv2d(channels, channels, 1, groups=point.groups, bias=False).to(point.weight)
            nn.init.dirac_(identity.weight, point.groups)
            points.append(fuse_conv_and_bn(identity, self.bn))
        row, column = (side // 2 for side in self.conv.kernel_size)
        for point in points:
            self.conv.weight[:, :, row, column] += point.weight[:, :, 0, 0]
            self.conv.bias += point.bias
        self.bn = nn.Identity()
        del self.conv1, self.conv2
        self.__class__ = Conv


@register(plans.conv)
class Conv2(Conv):
    """3x3 and 1x1 convolution, summed before one batch norm."""

    def __init__(self, c1, c2, k=3, s=1, p=None, g=1, d=1, act=True):
        super().__init__(c1, c2, k, s, p, g=g, d=d, act=act)
        self.cv2 = nn.Conv2d(c1, c2, 1, s, point_padding("Conv2", k, p, d), groups=g, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x) if self.cv2 is None else self.conv(x) + self.cv2(x)))

    @torch.no_grad()
    def fuse_convs(self) -> None:
        """Add the 1x1 convolution to the center of the other one."""
        row, column = (side // 2 for side in self.conv.kernel_size)
        self.conv.weight[:, :, row, column] += self.cv2.weight[:, :, 0, 0]
        self.cv2 = None


@register(plans.conv)
class ConvTranspose(nn.Module):
    """Transposed convolution, optional batch norm, activation."""

    default_act = nn.SiLU()

    def __init__(self, c1, c2, k=2, s=2, p=0, bn=True, act=True):
        super().__init__()
        norm = nn.BatchNorm2d(c2) if bn else nn.Identity()
        self.conv_transpose = nn.ConvTranspose2d(c1, c2, k, s, p, bias=not bn)  # the batch norm has an offset
        self.bn, self.act = norm, activation(act, self.default_act)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv_transpose(x)))


@register(plans.conv)
class DWConvTranspose2d(nn.ConvTranspose2d):
    """Depthwise transposed convolution; `p1` is its padding, `p2` its output padding."""

    def __init__(self, c1, c2, k=1, s=1, p1=0, p2=0):
        super().__init__(c1, c2, k, s, p1, p2, groups=math.gcd(c1, c2))


@register(plans.conv)
class Focus(nn.Module):
    """Space to depth with 2x2 blocks, then a convolution (YOLOv5); height and width must be even."""

    def __init__(self, c1, c2, k=1, s=1, p=None, g=1, act=True):
        super().__init__()
        self.conv = Conv(4 * c1, c2, k, s, p, g, act=act)

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.conv(torch.cat(corners, 1))  # (B, c1, H, W) -> (B, 4 c1, H/2, W/2) -> (B, c2, ...)


@register(plans.conv)
class GhostConv(nn.Module):
    """Half of the channels by a convolution, half by a cheap 5x5 depthwise one (GhostNet, arXiv:1911.11907)."""

    def __init__(self, c1, c2, k=1, s=1, g=1, act=True):
        super().__init__()
        require_multiple("GhostConv", 2, c2=c2)
        half = c2 // 2
        self.cv1 = Conv(c1, half, k, s, None, g, act=act)
        self.cv2 = Conv(half, half, 5, 1, None, half, act=act)

    def forward(self, x: Tensor) -> Tensor:
        primary = self.cv1(x)  # (B, c2 / 2, H / s, W / s)
        return torch.cat((primary, self.cv2(primary)), 1)  # (B, c2, ...)


@register(plans.channel_preserving)
class ChannelAttention(nn.Module):
    """Gate per channel from its mean."""

    def __init__(self, channels):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Conv2d(channels, channels, 1, bias=True)
        self.act = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        gate = self.act(self.fc(self.pool(x)))  # (B, C, H, W) -> (B, C, 1, 1)
        return x * gate


class SpatialAttention(nn.Module):
    """Gate per position from the mean and the maximum over the channels."""

    def __init__(self, kernel_size=7):
        super().__init__()
        require_odd("SpatialAttention", kernel_size=kernel_size)
        self.cv1 = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.act = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        summary = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1)  # (B, 2, H, W)
        gate = self.act(self.cv1(summary))  # (B, 1, H, W)
        return x * gate


@register(plans.channel_preserving)
class CBAM(nn.Module):
    """Channel, then spatial attention (arXiv:1807.06521); the channel gate reads the mean only, as published here."""

    def __init__(self, c1, kernel_size=7):
        super().__init__()
        self.channel_attention = ChannelAttention(c1)
        self.spatial_attention = SpatialAttention(kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.spatial_attention(self.channel_attention(x))


class Index(nn.Module):
    """One of several maps."""

    def __init__(self, index=0):
        super().__init__()
        self.index = index

    def forward(self, x: list[Tensor]) -> Tensor:
        return x[self.index]


@register(plans.conv)
class ConvNormLayer(nn.Module):
    """Convolution, batch norm, optional activation, as named in the official RT-DETR ResNet."""

    def __init__(self, c1, c2, k, s, p=None, bias=False, act=None):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, (k - 1) // 2 if p is None else p, bias=bias)  # even k shrinks, unlike Conv
        self.norm = nn.BatchNorm2d(c2)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


@register(plans.concat)
class Concat(nn.Module):
    """Concatenation of feature maps."""

    def __init__(self, dimension=1):
        super().__init__()
        self.d = dimension

    def forward(self, x: list[Tensor]) -> Tensor:
        return torch.cat(x, self.d)
