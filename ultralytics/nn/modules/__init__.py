"""Layers that a model YAML may name, under the names of the published package."""

from ultralytics.nn.modules.block import BasicBlock, Blocks, HGBlock, HGStem, RepC3, ResNetBlock, ResNetLayer
from ultralytics.nn.modules.conv import Concat, Conv, ConvNormLayer, DWConv, LightConv, RepConv, autopad
from ultralytics.nn.modules.head import RTDETRDecoder
from ultralytics.nn.modules.transformer import (
    AIFI,
    MLP,
    DeformableTransformerDecoder,
    DeformableTransformerDecoderLayer,
    MSDeformAttn,
    TransformerEncoderLayer,
)
