"""EfficientViT (MSRA) as a backbone with four outputs, strides 8, 8, 16, 32.

"EfficientViT: Memory Efficient Vision Transformer with Cascaded Group Attention", Liu et al., CVPR 2023,
https://arxiv.org/abs/2305.07027. Parameter names follow the published classifiers, so their weights load. The last
convolution of the stem has stride 1 here and 2 in the classifiers, which gives detection finer maps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn import plans
from ultralytics.nn.registry import register
from ultralytics.nn.weights import IMAGENET, Weights, load_matching, read_weights, rename_timm_key, timm_weights
from ultralytics.utils.errors import ModelConfigError, WeightsError

KEY_DIM = 16
WINDOW = 7
PUBLISHED = (  # widths of M0 to M5
    (64, 128, 192), (128, 144, 192), (128, 192, 224), (128, 240, 320), (128, 256, 384), (192, 288, 384),
)  # fmt: skip


class Conv2d_BN(nn.Module):
    """Convolution without bias, and batch normalization; `bn_weight_init=0` starts a residual branch at zero."""

    def __init__(self, c1, c2, k=1, s=1, p=0, g=1, bn_weight_init=1.0):
        super().__init__()
        self.c = nn.Conv2d(c1, c2, k, s, p, groups=g, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        nn.init.constant_(self.bn.weight, bn_weight_init)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.c(x))


class Residual(nn.Module):
    """x + m(x)."""

    def __init__(self, m):
        super().__init__()
        self.m = m

    def forward(self, x: Tensor) -> Tensor:
        return x + self.m(x)


class FFN(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.pw1 = Conv2d_BN(dim, hidden)
        self.act = nn.ReLU(inplace=True)
        self.pw2 = Conv2d_BN(hidden, dim, bn_weight_init=0)

    def forward(self, x: Tensor) -> Tensor:
        return self.pw2(self.act(self.pw1(x)))


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation, https://arxiv.org/abs/1709.01507."""

    def __init__(self, channels, hidden):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.act = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(self.act(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()


class PatchMerging(nn.Module):
    """Inverted residual bottleneck with stride 2."""

    def __init__(self, dim, out_dim):
        super().__init__()
        hidden = 4 * dim
        self.conv1 = Conv2d_BN(dim, hidden)
        self.act = nn.ReLU(inplace=True)
        self.conv2 = Conv2d_BN(hidden, hidden, 3, 2, 1, g=hidden)
        self.se = SqueezeExcite(hidden, dim)
        self.conv3 = Conv2d_BN(hidden, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv1(x))  # (B, dim, H, W) -> (B, 4 dim, H, W)
        x = self.act(self.conv2(x))  # -> (B, 4 dim, H/2, W/2)
        return self.conv3(self.se(x))  # -> (B, out_dim, H/2, W/2)


class CascadedGroupAttention(nn.Module):
    """Attention heads on slices of the channels; each slice is added the output of the previous head (Figure 4)."""

    def __init__(self, dim, heads, kernels):
        super().__init__()
        self.value_dim = dim // heads
        self.scale = KEY_DIM**-0.5
        self.qkvs = nn.ModuleList(Conv2d_BN(self.value_dim, 2 * KEY_DIM + self.value_dim) for _ in range(heads))
        self.dws = nn.ModuleList(Conv2d_BN(KEY_DIM, KEY_DIM, k, 1, k // 2, g=KEY_DIM) for k in kernels[:heads])
        self.proj = nn.Sequential(nn.ReLU(inplace=True), Conv2d_BN(dim, dim, bn_weight_init=0))
        self.attention_biases = nn.Parameter(torch.zeros(heads, WINDOW * WINDOW))
        self.register_buffer("attention_bias_idxs", self._offset_index())

    @staticmethod
    def _offset_index() -> Tensor:
        """Return (49, 49): |dy| * 7 + |dx| for each pair of positions, the index of its learned bias."""
        y, x = torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")
        y, x = y.flatten(), x.flatten()
        return (y[:, None] - y).abs() * WINDOW + (x[:, None] - x).abs()

    def forward(self, x: Tensor) -> Tensor:
        """Attend within windows: (B, C, 7, 7) -> (B, C, 7, 7)."""
        biases = self.attention_biases[:, self.attention_bias_idxs].unbind()  # (49, 49) per head
        outputs: list[Tensor] = []
        for qkv, dw, bias, part in zip(self.qkvs, self.dws, biases, x.chunk(len(self.qkvs), 1), strict=True):
            part = part + outputs[-1] if outputs else part  # the cascade
            q, k, v = qkv(part).split((KEY_DIM, KEY_DIM, self.value_dim), 1)
            q, k, v = dw(q).flatten(2), k.flatten(2), v.flatten(2)  # (B, C, 7, 7) -> (B, C, 49)
            attention = (q.transpose(1, 2) @ k * self.scale + bias).softmax(-1)  # (B, 49, 49)
            outputs.append((v @ attention.transpose(1, 2)).unflatten(2, (WINDOW, WINDOW)))
        return self.proj(torch.cat(outputs, 1))


class LocalWindowAttention(nn.Module):
    """Attention in 7x7 windows; the map is zero-padded on the right and bottom to whole windows."""

    def __init__(self, dim, heads, kernels):
        super().__init__()
        self.attn = CascadedGroupAttention(dim, heads, kernels)

    def forward(self, x: Tensor) -> Tensor:
        _, c, h, w = x.shape
        if (h, w) == (WINDOW, WINDOW):
            return self.attn(x)
        x = F.pad(x, (0, -w % WINDOW, 0, -h % WINDOW))
        rows, columns = x.shape[2] // WINDOW, x.shape[3] // WINDOW
        x = x.reshape(-1, c, rows, WINDOW, columns, WINDOW).permute(0, 2, 4, 1, 3, 5)
        x = self.attn(x.reshape(-1, c, WINDOW, WINDOW))  # (B * rows * columns, C, 7, 7)
        x = x.view(-1, rows, columns, c, WINDOW, WINDOW).permute(0, 3, 1, 4, 2, 5)
        return x.reshape(-1, c, rows * WINDOW, columns * WINDOW)[:, :, :h, :w]


class EfficientViTBlock(nn.Module):
    """Sandwich block: depthwise convolution and FFN, attention, depthwise convolution and FFN."""

    def __init__(self, dim, heads, kernels):
        super().__init__()
        self.dw0 = Residual(_depthwise(dim))
        self.ffn0 = Residual(FFN(dim, 2 * dim))
        self.mixer = Residual(LocalWindowAttention(dim, heads, kernels))
        self.dw1 = Residual(_depthwise(dim))
        self.ffn1 = Residual(FFN(dim, 2 * dim))

    def forward(self, x: Tensor) -> Tensor:
        x = self.ffn0(self.dw0(x))
        return self.ffn1(self.dw1(self.mixer(x)))


def _depthwise(dim: int) -> Conv2d_BN:
    return Conv2d_BN(dim, dim, 3, 1, 1, g=dim, bn_weight_init=0)


def _downsample(dim: int, out_dim: int) -> list[nn.Module]:
    """Build the layers between two stages: depthwise convolution and FFN before and after patch merging."""
    before, after = (nn.Sequential(Residual(_depthwise(d)), Residual(FFN(d, 2 * d))) for d in (dim, out_dim))
    return [before, PatchMerging(dim, out_dim), after]


class EfficientViT(nn.Module):
    """Stem of four convolutions, and three stages.

    Args:
        embed_dim: channels per stage.
        depth: sandwich blocks per stage.
        num_heads: attention heads per stage.
        kernels: kernel size of the depthwise query convolution per head.
        pretrained: weights file of a published or timm classifier, or `imagenet`: those of timm.
        frozen_stages: 0 trains everything; 1 freezes the stem, 2 also stage 1, up to 4 for the whole network.
    """

    def __init__(self, embed_dim, depth, num_heads, kernels, pretrained=None, frozen_stages=0):
        super().__init__()
        if frozen_stages not in range(5):
            raise ModelConfigError(f"EfficientViT: frozen_stages must be 0 to 4, got {frozen_stages!r}")
        self.frozen_stages, self.pretrained = frozen_stages, pretrained
        self.width_list = [embed_dim[0], *embed_dim]  # channels of the outputs
        stem = [3, *(embed_dim[0] // d for d in (8, 4, 2, 1))]
        convs = [Conv2d_BN(stem[i], stem[i + 1], 3, s, 1) for i, s in enumerate((2, 2, 2, 1))]
        self.patch_embed = nn.Sequential(*[layer for c in convs for layer in (c, nn.ReLU(inplace=True))][:-1])
        stages: list[nn.Sequential] = []
        for i, (dim, n, heads) in enumerate(zip(embed_dim, depth, num_heads, strict=True)):
            layers = _downsample(embed_dim[i - 1], dim) if i else []
            stages.append(nn.Sequential(*layers, *(EfficientViTBlock(dim, heads, kernels) for _ in range(n))))
        self.blocks1, self.blocks2, self.blocks3 = stages
        if pretrained:  # `load_matching` interpolates attention biases and pads depthwise kernels of another size
            weights = self.imagenet_weights() if pretrained == IMAGENET else read_weights(pretrained)
            source = {rename_timm_key(name): value for name, value in weights.tensors.items()}
            load_matching(self, source, origin=weights.origin)
        for part in self._parts()[:frozen_stages]:
            part.requires_grad_(False)

    def imagenet_weights(self) -> Weights:
        """Return timm's weights of the classifier with these widths; raise WeightsError for other widths."""
        widths = tuple(self.width_list[1:])
        if widths not in PUBLISHED:
            raise WeightsError(f"EfficientViT of {widths}: ImageNet weights exist for {PUBLISHED}; use a file")
        return timm_weights(f"efficientvit_m{PUBLISHED.index(widths)}")

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute maps at strides 8, 8, 16, 32 of images (B, 3, H, W), at least 32 x 32."""
        outputs = []
        for part in self._parts():
            x = part(x)
            outputs.append(x)
        return outputs

    def train(self, mode: bool = True) -> EfficientViT:
        """Set the mode; frozen stages stay in eval, so their BatchNorm statistics do not change."""
        super().train(mode)
        for part in self._parts()[: self.frozen_stages]:
            part.eval()
        return self

    def _parts(self) -> tuple[nn.Module, ...]:
        return self.patch_embed, self.blocks1, self.blocks2, self.blocks3


@register(plans.backbone(64, 64, 128, 192))
def EfficientViT_M0(pretrained: str | None = None, frozen_stages: int = 0) -> EfficientViT:
    return EfficientViT((64, 128, 192), (1, 2, 3), (4, 4, 4), (7, 5, 3, 3), pretrained, frozen_stages)


@register(plans.backbone(128, 128, 144, 192))
def EfficientViT_M1(pretrained: str | None = None, frozen_stages: int = 0) -> EfficientViT:
    return EfficientViT((128, 144, 192), (1, 2, 3), (2, 3, 3), (7, 5, 3, 3), pretrained, frozen_stages)


@register(plans.backbone(128, 128, 192, 224))
def EfficientViT_M2(pretrained: str | None = None, frozen_stages: int = 0) -> EfficientViT:
    return EfficientViT((128, 192, 224), (1, 2, 3), (4, 3, 2), (7, 5, 3, 3), pretrained, frozen_stages)


@register(plans.backbone(128, 128, 240, 320))
def EfficientViT_M3(pretrained: str | None = None, frozen_stages: int = 0) -> EfficientViT:
    return EfficientViT((128, 240, 320), (1, 2, 3), (4, 3, 4), (5, 5, 5, 5), pretrained, frozen_stages)


@register(plans.backbone(128, 128, 256, 384))
def EfficientViT_M4(pretrained: str | None = None, frozen_stages: int = 0) -> EfficientViT:
    return EfficientViT((128, 256, 384), (1, 2, 3), (4, 4, 4), (7, 5, 3, 3), pretrained, frozen_stages)


@register(plans.backbone(192, 192, 288, 384))
def EfficientViT_M5(pretrained: str | None = None, frozen_stages: int = 0) -> EfficientViT:
    return EfficientViT((192, 288, 384), (1, 3, 4), (3, 3, 4), (7, 5, 3, 3), pretrained, frozen_stages)
