"""Weights as the published package 8.4.190 writes them: a pickled network, whose classes are named as they are there.

Nothing of that package is imported. Places and attributes are those that networks built there have.
"""

import copy
import pickle
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from ultralytics.nn.formats.export_spec import ExportFormat, ExportSpec
from ultralytics.nn.modules import block, conv, head, transformer
from ultralytics.utils.errors import OptionError
from ultralytics.utils.files import atomic_write

PLACES = (conv, transformer, block, head)  # the modules that define the published layers, in this order
NOT_PUBLISHED = ("ConvNormLayer", "BasicBlock", "BottleNeck", "Blocks", "OneToManyHead")  # layers there of this package


def published_name(kind: type) -> tuple[str, str] | None:
    """Return module and name of a published layer of this package; None for any other class.

    Examples:
        >>> published_name(block.C2f), published_name(conv.ConvNormLayer)
        (('ultralytics.nn.modules.block', 'C2f'), None)
    """
    name = kind.__name__
    if not kind.__module__.startswith("ultralytics.nn.modules.") or name in NOT_PUBLISHED:
        return None
    return next(((place.__name__, name) for place in PLACES if vars(place).get(name) is kind), None)


def add_published_attributes(layer: nn.Module) -> None:
    """Add to a layer, in place, what published forwards read and the class here has no need of."""
    kind, values = type(layer).__name__, vars(layer)
    if kind == "AAttn":
        values["all_head_dim"] = layer.num_heads * layer.head_dim
    elif kind == "MSDeformAttn":
        values["im2col_step"] = 64
    elif kind == "MLP":
        values["residual"], layer.out_norm = False, nn.Identity()
    elif kind == "RepVGGDW":
        values["dim"] = layer.conv.conv.out_channels
    elif kind == "RepConv":
        inner = layer.conv1.conv
        values |= {"g": inner.groups, "c1": inner.in_channels, "c2": inner.out_channels}
    elif kind == "ResNetLayer":
        values["is_first"] = isinstance(layer.layer[-1], nn.MaxPool2d)
    elif kind in ("SPPELAN", "C3x"):
        values["c" if kind == "SPPELAN" else "c_"] = layer.cv1.conv.out_channels
    elif kind == "TransformerBlock":
        values["c2"] = layer.linear.out_features
    elif kind == "DeformableTransformerDecoderLayer":
        layer.self_attn.batch_first = False  # the published forward gives it (queries, batch, channels)


class _Pickler(pickle._Pickler):  # that of C cannot name a class by another module
    def save_global(self, obj: object, name: str | None = None) -> None:
        found = published_name(obj) if isinstance(obj, type) else None
        if found is None:
            return super().save_global(obj, name)
        self.write(pickle.GLOBAL + "\n".join(found).encode() + b"\n")
        self.memoize(obj)


def export(spec: ExportSpec) -> Path:
    """Write the file of `spec`, with `half` in float16. Raise OptionError if the published package lacks a layer."""
    network = copy.deepcopy(spec.network)
    network.model = nn.Sequential(*network.model)
    for layer in network.model:
        for path, part in layer.named_modules():
            if published_name(type(part)) is None and not type(part).__module__.startswith("torch.nn."):
                raise OptionError(
                    f"format=published: {layer.where}: the published package has no {type(part).__name__}"
                    f"{path and f' ({path})'}; keep the weights (.pt) for this package, or use another format"
                )
    for part in network.modules():
        add_published_attributes(part)
    for layer in network.model:
        layer.type = ".".join(published_name(type(layer)) or (type(layer).__module__, type(layer).__name__))
    decoder = network.model[-1]
    if hasattr(decoder, "no"):
        vars(decoder).update(stride=network.stride.clone(), inplace=True)
    imgsz = spec.metadata.imgsz if len({*spec.metadata.imgsz}) > 1 else spec.metadata.imgsz[0]
    args = {"task": "detect", "imgsz": imgsz, "data": spec.metadata.data, "single_cls": spec.options.single_cls}
    scale = {"scale": "", "channels": network.yaml["ch"]}
    vars(network).update(yaml=scale | network.yaml, args=args, task="detect", inplace=True)
    del network.criterion
    if spec.options.half:
        network.half()
    content = {"epoch": -1, "model": network, "ema": None, "optimizer": None, "train_args": args}
    content |= {"version": spec.metadata.version, "date": datetime.now(timezone.utc).isoformat()}
    with atomic_write(spec.file) as file:
        torch.save(content, file, pickle_module=SimpleNamespace(__name__="pickle", Pickler=_Pickler))
    return spec.file


FORMAT = ExportFormat("published", ("_published.pt",), export, dynamic=False)
