"""Layers that a model YAML may name, under the names of the published package."""

from ultralytics.nn.modules.block import *  # noqa: F403
from ultralytics.nn.modules.conv import (  # fmt: skip
    CBAM,
    ChannelAttention,
    Concat,
    Conv,
    Conv2,
    ConvNormLayer,
    ConvTranspose,
    DWConv,
    DWConvTranspose2d,
    Focus,
    GhostConv,
    Index,
    LightConv,
    RepConv,
    SpatialAttention,
    autopad,
)
from ultralytics.nn.modules.head import RTDETRDecoder
from ultralytics.nn.modules.library_backbones import TimmBackbone, TorchVisionBackbone
from ultralytics.nn.modules.transformer import (  # fmt: skip
    AIFI,
    MLP,
    DeformableTransformerDecoder,
    DeformableTransformerDecoderLayer,
    LayerNorm2d,
    MLPBlock,
    MSDeformAttn,
    TransformerBlock,
    TransformerEncoderLayer,
    TransformerLayer,
)
