"""Attention blocks of YOLOv10 (arXiv:2405.14458), YOLO11 and YOLO12 (arXiv:2502.12524)."""

from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.nn import plans
from ultralytics.nn.modules.argument_checks import require_multiple, require_same, require_whole
from ultralytics.nn.modules.conv import Conv, chained
from ultralytics.nn.modules.csp import Bottleneck, C2f, C3k
from ultralytics.nn.plans import LayerSpec, RowContext
from ultralytics.nn.registry import register

HEAD = 64  # channels of an attention head in YOLOv10 and YOLO11
AREA_HEAD = 32  # the same in YOLO12


class Attention(nn.Module):
    """Self-attention over all positions, with a depthwise convolution as position encoding (YOLOv10).

    Queries and keys have `attn_ratio` times as many channels per head as values (dim / num_heads).
    """

    def __init__(self, dim, num_heads=8, attn_ratio=0.5):
        super().__init__()
        require_multiple("Attention", num_heads, dim=dim)
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.key_dim = int(self.head_dim * attn_ratio)
        require_whole("Attention", **{"dim / num_heads * attn_ratio": self.key_dim})
        self.scale = self.key_dim**-0.5
        self.qkv = Conv(dim, dim + 2 * num_heads * self.key_dim, 1, act=False)
        self.proj, self.pe = Conv(dim, dim, 1, act=False), Conv(dim, dim, 3, 1, g=dim, act=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        qkv = qkv.reshape(
            x.shape[0], self.num_heads, qkv.shape[1] // self.num_heads, -1
        )  # (B, heads, 2 key + head, H*W)
        q, k, v = qkv.split((self.key_dim, self.key_dim, self.head_dim), 2)
        weights = (q.transpose(2, 3) @ k * self.scale).softmax(-1)  # (B, heads, H*W, H*W)
        attended = (v @ weights.transpose(2, 3)).reshape(x.shape)  # (B, heads, head, H*W) -> (B, dim, H, W)
        return self.proj(attended + self.pe(v.reshape(x.shape)))


class PSABlock(nn.Module):
    """Attention and a feed-forward network, each with a residual if `shortcut` (YOLO11)."""

    def __init__(self, c, attn_ratio=0.5, num_heads=4, shortcut=True):
        super().__init__()
        self.attn = Attention(c, num_heads=num_heads, attn_ratio=attn_ratio)
        self.ffn = nn.Sequential(Conv(c, 2 * c, 1), Conv(2 * c, c, 1, act=False))
        self.add = shortcut

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x) if self.add else self.attn(x)
        return x + self.ffn(x) if self.add else self.ffn(x)


def _psa_block(c: int) -> PSABlock:
    return PSABlock(c, num_heads=max(c // HEAD, 1))


@register(plans.conv)
class PSA(nn.Module):
    """Partial self-attention: attention on a fraction `e` of the channels (YOLOv10); requires c1 == c2."""

    def __init__(self, c1, c2, e=0.5):
        super().__init__()
        require_same("PSA", c1=c1, c2=c2)
        self.c = c = int(c1 * e)
        self.cv1, self.cv2 = Conv(c1, 2 * c, 1, 1), Conv(2 * c, c1, 1)
        self.attn = Attention(c, attn_ratio=0.5, num_heads=max(c // HEAD, 1))
        self.ffn = nn.Sequential(Conv(c, 2 * c, 1), Conv(2 * c, c, 1, act=False))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.cv1(x).chunk(2, 1)  # (B, c1, H, W) -> 2 x (B, c, H, W)
        b = b + self.attn(b)
        b = b + self.ffn(b)
        return self.cv2(torch.cat((a, b), 1))  # (B, 2 c, H, W) -> (B, c1, H, W)


@register(plans.csp)
class C2PSA(nn.Module):
    """PSA with `n` attention blocks (YOLO11)."""

    def __init__(self, c1, c2, n=1, e=0.5):
        super().__init__()
        require_same("C2PSA", c1=c1, c2=c2)
        self.c = c = int(c1 * e)
        self.cv1, self.cv2 = Conv(c1, 2 * c, 1, 1), Conv(2 * c, c1, 1)
        self.m = nn.Sequential(*(_psa_block(c) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.cv1(x).chunk(2, 1)  # (B, c1, H, W) -> 2 x (B, c, H, W)
        return self.cv2(torch.cat((a, self.m(b)), 1))


@register(plans.csp)
class C2fPSA(C2f):
    """C2f of attention blocks; requires c1 == c2."""

    def __init__(self, c1, c2, n=1, e=0.5):
        require_same("C2fPSA", c1=c1, c2=c2)
        super().__init__(c1, c2, n, e=e, inner=_psa_block)


def _c3k2(ctx: RowContext, c2: int, c3k: bool = False, *args: Any) -> LayerSpec:
    """Plan a row `[c2, c3k, e, attn, g, shortcut]`; the scales m, l and x of YOLO11 have C3k everywhere."""
    return plans.csp(ctx, c2, c3k or ctx.scale in ("m", "l", "x"), *args)


@register(_c3k2)
class C3k2(C2f):
    """C2f of bottlenecks, C3k (`c3k`), or bottleneck and attention pairs (`attn`, overrides `c3k`) (YOLO11)."""

    def __init__(self, c1, c2, n=1, c3k=False, e=0.5, attn=False, g=1, shortcut=True):
        if not isinstance(attn, bool):  # groups and shortcut, in the order before 8.4, as subclasses of forks pass them
            attn, g, shortcut = False, attn, g if isinstance(g, bool) else shortcut

        def inner(c: int) -> nn.Module:
            if attn:
                return nn.Sequential(Bottleneck(c, c, shortcut, g), _psa_block(c))
            return C3k(c, c, 2, shortcut, g) if c3k else Bottleneck(c, c, shortcut, g)

        super().__init__(c1, c2, n, e=e, inner=inner)


class AAttn(nn.Module):
    """Area attention: attention within `area` equal strips of the map (YOLO12); H * W must be a multiple of `area`."""

    def __init__(self, dim, num_heads, area=1):
        super().__init__()
        require_multiple("AAttn", num_heads, dim=dim)
        self.area, self.num_heads, self.head_dim = area, num_heads, dim // num_heads
        self.qkv, self.proj = Conv(dim, 3 * dim, 1, act=False), Conv(dim, dim, 1, act=False)
        self.pe = Conv(dim, dim, 7, 1, 3, g=dim, act=False)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        tokens = self.qkv(x).flatten(2).unflatten(2, (self.area, -1))  # (B, 3 C, area, N), N = H*W / area
        heads = tokens.transpose(1, 2).unflatten(2, (self.num_heads, -1))  # (B, area, heads, 3 head_dim, N)
        q, k, v = heads.chunk(3, 3)
        weights = (q.transpose(3, 4) @ k * self.head_dim**-0.5).softmax(-1)  # (B, area, heads, N, N)
        attended, v = (t.flatten(2, 3).transpose(1, 2).reshape(b, -1, h, w) for t in (v @ weights.mT, v))
        return self.proj(attended + self.pe(v))  # (B, C, H, W)


class ABlock(nn.Module):
    """Area attention and a feed-forward network of `mlp_ratio` times the channels, each with a residual (YOLO12)."""

    def __init__(self, dim, num_heads, mlp_ratio=1.2, area=1):
        super().__init__()
        self.attn = AAttn(dim, num_heads=num_heads, area=area)
        hidden = int(dim * mlp_ratio)
        self.mlp = nn.Sequential(Conv(dim, hidden, 1), Conv(hidden, dim, 1, act=False))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


def _a2c2f(ctx: RowContext, c2: int, a2: bool = True, area: int = 1, *args: Any) -> LayerSpec:
    """Plan a row `[c2, a2, area, residual, mlp_ratio, ...]`; YOLO12 l and x have a residual and ratio 1.2."""
    return plans.csp(ctx, c2, a2, area, *(args or ((True, 1.2) if ctx.scale in ("l", "x") else ())))


@register(_a2c2f)
class A2C2f(nn.Module):
    """R-ELAN (YOLO12): `n` pairs of area attention blocks, or C3k if not `a2`, concatenated.

    With `a2` and `residual` the input is added to the scaled result (learned `gamma`). `area` and `mlp_ratio` belong
    to the attention, `g` and `shortcut` to C3k.
    """

    def __init__(self, c1, c2, n=1, a2=True, area=1, residual=False, mlp_ratio=2.0, e=0.5, g=1, shortcut=True):
        super().__init__()
        c_ = int(c2 * e)
        if a2:
            require_multiple("A2C2f", AREA_HEAD, **{"c2 * e": c_})
        if a2 and residual:
            require_same("A2C2f with residual", c1=c1, c2=c2)
        self.cv1, self.cv2 = Conv(c1, c_, 1, 1), Conv((1 + n) * c_, c2, 1)
        self.gamma = nn.Parameter(0.01 * torch.ones(c2)) if a2 and residual else None

        def inner() -> nn.Module:
            if a2:
                return nn.Sequential(*(ABlock(c_, c_ // AREA_HEAD, mlp_ratio, area) for _ in range(2)))
            return C3k(c_, c_, 2, shortcut, g)

        self.m = nn.ModuleList(inner() for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(torch.cat(chained([self.cv1(x)], self.m), 1))  # (B, (1 + n) c_, H, W) -> (B, c2, H, W)
        return y if self.gamma is None else x + self.gamma.view(1, -1, 1, 1) * y
