"""Naming schemes: how other code bases name the parameters of layers that a model here has.

A rule is (pattern, replacement). All rules of a table are applied to a name, one after the other. `<role>` in a
replacement is the layer with that role in the model at hand (see `layer_roles`), so one table serves every model file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ultralytics.utils import PACKAGE_ROOT
from ultralytics.utils.files import read_yaml

Layers = list[tuple[str, nn.Module]]  # prefix of the parameter names, layer
Rules = tuple[tuple[str, str], ...]


def layer_roles(model: nn.Module) -> dict[str, str]:
    """Return the prefix of the parameter names of each role: {'layer1': 'model.4', 'lateral 0': 'model.10', ...}.

    Roles are found by the type of the layers and numbered in their order, so other layers may come in between:

        conv1_1 ...    convolutions before the first stage (ResNet-vd); `stem` is ResNet's 7x7 convolution
        layer1 ...     stages of the backbone; `res_layers 0` ... are the same
        projection N   1x1 convolution without activation that projects map N; P3 is 0
        lateral N, downsample N, fpn N, pan N, attention N   of the hybrid encoder
        decoder        the last layer
    """
    backbone = [(f"model.{i}", layer) for i, layer in enumerate(model.model) if layer.in_backbone]
    head = [(f"model.{i}", layer) for i, layer in enumerate(model.model) if not layer.in_backbone]
    decoder = {"decoder": head[-1][0]} if head and _kind(head[-1][1]) == "RTDETRDecoder" else {}
    return {**_backbone_roles(backbone), **_encoder_roles(head), **decoder}


def _backbone_roles(layers: Layers) -> dict[str, str]:
    stages = [i for i, (_, layer) in enumerate(layers) if _kind(layer) in ("Blocks", "ResNetLayer")]
    if not stages:
        return {}
    roles, (first, layer) = {}, layers[stages[0]]
    convolutions = [prefix for prefix, layer in layers[: stages[0]] if _kind(layer) == "ConvNormLayer"]
    roles.update((f"conv1_{n}", prefix) for n, prefix in enumerate(convolutions, 1))
    if _kind(layer) == "ResNetLayer" and isinstance(layer.layer[-1], nn.MaxPool2d):
        roles["stem"] = first
        stages = stages[1:]
    for n, i in enumerate(stages):
        roles[f"layer{n + 1}"] = roles[f"res_layers {n}"] = layers[i][0]
    return roles


def _encoder_roles(layers: Layers) -> dict[str, str]:
    found: dict[str, list[str]] = {"projection": [], "lateral": [], "downsample": [], "attention": [], "fusion": []}
    for prefix, layer in layers:
        role = {"AIFI": "attention", "RepC3": "fusion"}.get(_kind(layer))
        if _kind(layer) == "Conv" and layer.conv.kernel_size == (1, 1):
            role = "projection" if isinstance(layer.act, nn.Identity) else "lateral"
        elif _kind(layer) == "Conv" and layer.conv.stride == (2, 2):
            role = "downsample"
        if role:
            found[role].append(prefix)
    fusion, half = found.pop("fusion"), len(found["downsample"])
    if len(fusion) == 2 * half:  # first top-down, then bottom-up
        found["fpn"], found["pan"] = fusion[:half], fusion[half:]
    found["projection"].reverse()  # the coarsest map, P5, is projected first
    return {f"{role} {n}": prefix for role, prefixes in found.items() for n, prefix in enumerate(prefixes)}


def _kind(layer: nn.Module) -> str:
    return layer.type.rpartition(".")[2]


# ResNet-vd of the official RT-DETR, also in the files with its ImageNet weights.
PRESNET: Rules = (
    (r"^(backbone\.)?conv1\.(conv1_\d)\.", r"<\2>."),
    (r"^(backbone\.)?res_layers\.(\d)\.", r"<res_layers \2>."),
    (r"\.short\.conv\.(conv|norm)\.", r".short.1.\1."),  # after a pooling
)

# The official RT-DETR in PyTorch, https://github.com/lyuwenyu/RT-DETR (rtdetr_pytorch).
OFFICIAL: Rules = (
    *PRESNET,
    (r"^encoder\.input_proj\.(\d)\.0\.", r"<projection \1>.conv."),
    (r"^encoder\.input_proj\.(\d)\.1\.", r"<projection \1>.bn."),
    (r"^encoder\.encoder\.0\.layers\.(\d)\.", r"<attention \1>."),
    (r"^(<attention \d>)\.self_attn\.", r"\1.ma."),
    (r"^(<attention \d>)\.linear", r"\1.fc"),
    (r"^encoder\.lateral_convs\.(\d)\.", r"<lateral \1>."),
    (r"^encoder\.downsample_convs\.(\d)\.", r"<downsample \1>."),
    (r"^encoder\.(fpn|pan)_blocks\.(\d)\.", r"<\1 \2>."),
    (r"^(<(fpn|pan) \d>)\.conv(\d)\.", r"\1.cv\3."),
    (r"^(<(fpn|pan) \d>)\.bottlenecks\.", r"\1.m."),
    (r"^(<(lateral|downsample|fpn|pan) .*)\.norm\.", r"\1.bn."),
    (r"^decoder\.input_proj\.(\d)\.conv\.", r"<decoder>.input_proj.\1.0."),
    (r"^decoder\.input_proj\.(\d)\.norm\.", r"<decoder>.input_proj.\1.1."),
    (r"^decoder\.", r"<decoder>."),
)
OFFICIAL_SIGNS = re.compile(r"^(encoder\.(fpn_blocks|lateral_convs)|decoder\.dec_score_head)\.")
COCO_NOTE = "the file has 80 classes without names, which are taken for those of COCO"
MSRA_HEAD = re.compile(r"(^|\.)head\.l\.weight$")
COMPUTED = re.compile(r"\.(anchors|valid_mask|num_points_scale)$")  # constants

# ResNet of torchvision (and timm), for rows of ResNetLayer.
RESNET: Rules = (
    (r"^conv1\.", r"<stem>.layer.0.conv."),
    (r"^bn1\.", r"<stem>.layer.0.bn."),
    (r"^(layer\d)\.", r"<\1>.layer."),
    (r"\.conv(\d)\.", r".cv\1.conv."),
    (r"\.bn(\d)\.", r".cv\1.bn."),
    (r"\.downsample\.0\.", r".shortcut.0.conv."),
    (r"\.downsample\.1\.", r".shortcut.0.bn."),
)

# ResNet-D of timm (resnet18d, resnet50d, ...), which is ResNet-vd, for rows of ConvNormLayer and Blocks.
RESNET_D: Rules = (
    (r"^conv1\.0\.", r"<conv1_1>.conv."),
    (r"^conv1\.1\.", r"<conv1_1>.norm."),
    (r"^conv1\.3\.", r"<conv1_2>.conv."),
    (r"^conv1\.4\.", r"<conv1_2>.norm."),
    (r"^conv1\.6\.", r"<conv1_3>.conv."),
    (r"^bn1\.", r"<conv1_3>.norm."),
    (r"^layer1\.0\.downsample\.", r"layer1.0.short."),
    (r"\.downsample\.", r".short.1."),
    (r"\.short\.(1\.)?1\.weight$", r".short.\1conv.weight"),
    (r"\.short\.(1\.)?2\.", r".short.\1norm."),
    (r"^(layer\d)\.", r"<\1>.blocks."),
    (r"\.conv1\.", r".branch2a.conv."),
    (r"\.conv2\.", r".branch2b.conv."),
    (r"\.conv3\.", r".branch2c.conv."),
    (r"\.bn1\.", r".branch2a.norm."),
    (r"\.bn2\.", r".branch2b.norm."),
    (r"\.bn3\.", r".branch2c.norm."),
)


EFFICIENTVIT_DOWNSAMPLE = {"res1": 0, "patchmerge": 1, "res2": 2}
EFFICIENTVIT_TIMM = (
    (r"^patch_embed\.conv(\d)\.", lambda m: f"patch_embed.{2 * int(m[1]) - 2}."),
    (
        r"^stages\.(\d)\.downsample\.(res1|patchmerge|res2)\.",
        lambda m: f"blocks{int(m[1]) + 1}.{EFFICIENTVIT_DOWNSAMPLE[m[2]]}.",
    ),
    (r"^stages\.(\d)\.blocks\.(\d)\.", lambda m: f"blocks{int(m[1]) + 1}.{int(m[2]) + 3 * (m[1] != '0')}."),
    (r"\.conv\.weight$", lambda m: ".c.weight"),
)


def rename_timm_key(name: str) -> str:
    """Return MSRA's name of a parameter of timm's `efficientvit_m*`. Other names are returned unchanged."""
    for pattern, replacement in EFFICIENTVIT_TIMM:
        name = re.sub(pattern, replacement, name)
    return name


@dataclass(frozen=True)
class NamingScheme:
    """Naming scheme of a code base.

    Attributes:
        title: name of the scheme, for the report.
        rename: map a name of the file to a name of the model, or to the part of it after some prefix.
        whole: whether `rename` returns the full names of the model.
        norm_eps: epsilon of the batch normalizations in training; None if unknown.
        implied: tensors of the model that are constants in the file's network, which has no names for them.
    """

    title: str
    rename: Callable[[str], str]
    whole: bool = True
    norm_eps: float | None = None
    implied: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class MappedState:
    """Tensors under the names of the model.

    Attributes:
        tensors: tensors by name in the model.
        left: names in the file of other tensors, with the reason.
        file_names: names in the file of `tensors`, where they differ.
        changed: names of tensors that were changed, with the change.
        notes: lines for the report.
    """

    tensors: Mapping[str, Tensor]
    left: Mapping[str, str] = field(default_factory=dict)
    file_names: Mapping[str, str] = field(default_factory=dict)
    changed: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def renamer(rules: Rules, roles: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function that applies a table. A name keeps `<role>` if the model has no such layer."""

    def rename(name: str) -> str:
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        return re.sub(r"^<([^>]+)>", lambda role: roles.get(role[1], role[0]), name)

    return rename


def backbone_schemes(model: nn.Module, names: Iterable[str]) -> list[NamingScheme]:
    """Return the naming schemes that a file with these names may use for the model's backbone.

    EfficientViT here has the names of MSRA's classifier, but another epsilon in its normalizations. The head of a
    classifier in the file decides which epsilon its weights were trained with.
    """
    roles = layer_roles(model)
    identity = _identity_shortcut(model, roles)
    msra = NamingScheme("EfficientViT (MSRA)", str, whole=False, norm_eps=1e-5)
    return [
        *([msra] if any(MSRA_HEAD.search(name) for name in names) else []),
        NamingScheme("the model's own names", str, whole=False),
        NamingScheme("timm's names", _timm_features(model)),
        NamingScheme("EfficientViT (MSRA), timm's names", rename_timm_key, whole=False, norm_eps=1e-5),
        NamingScheme("ResNet, torchvision's names", renamer(RESNET, roles), norm_eps=1e-5),
        NamingScheme("ResNet-D, timm's names", renamer(RESNET_D, roles), norm_eps=1e-5, implied=identity),
        NamingScheme("ResNet-vd of the official RT-DETR", renamer(PRESNET, roles), norm_eps=1e-5),
    ]


def _timm_features(model: nn.Module) -> Callable[[str], str]:
    """Map names of a timm network to those of `TimmBackbone`, which may have `stages_0.` for `stages.0.`."""
    layer = next((i for i, m in enumerate(model.model) if m.in_backbone and m.type.endswith(".TimmBackbone")), None)
    start, known = f"model.{layer}.net.", model.state_dict()

    def rename(name: str) -> str:
        flat = start + re.sub(r"^([^.]+)\.", r"\1_", name)
        return flat if flat in known else start + name

    return rename


def _identity_shortcut(model: nn.Module, roles: Mapping[str, str], eps: float = 1e-5) -> dict[str, Tensor]:
    """Return values that make the first shortcut of basic blocks an identity, as timm has no layer there."""
    name = f"{roles.get('layer1', '')}.blocks.0.short"
    weight = model.state_dict().get(f"{name}.conv.weight")
    if weight is None or weight.shape[0] != weight.shape[1]:
        return {}
    ones, zeros = torch.ones(len(weight)), torch.zeros(len(weight))
    norm = {"weight": ones, "bias": zeros, "running_mean": zeros, "running_var": ones - eps}
    conv = torch.eye(len(weight))[:, :, None, None]
    return {f"{name}.conv.weight": conv, **{f"{name}.norm.{key}": value for key, value in norm.items()}}


def is_official(names: Iterable[str]) -> bool:
    """Return whether these are parameter names of the official RT-DETR in PyTorch."""
    return any(OFFICIAL_SIGNS.match(name) for name in names)


def coco_names(tensors: Mapping[str, Tensor]) -> dict[int, str] | None:
    """Return COCO's class names for an official RT-DETR with 80 classes, whose files have no names; else None."""
    if _official_classes(tensors) != 80 or not is_official(tensors):
        return None
    return dict(enumerate(read_yaml(PACKAGE_ROOT / "cfg" / "datasets" / "coco.yaml")["names"]))


def _official_classes(tensors: Mapping[str, Tensor]) -> int | None:
    return next((len(value) for name, value in tensors.items() if name.endswith("enc_score_head.bias")), None)


def from_official(model: nn.Module, tensors: Mapping[str, Tensor]) -> MappedState:
    """Map tensors of the official RT-DETR in PyTorch to the names of the model.

    Its denoising embedding has one more row than classes, for 'no object', which no query uses.
    """
    rename, classes = renamer(OFFICIAL, layer_roles(model)), _official_classes(tensors)
    mapped, left, file_names, changed = {}, {}, {}, {}
    for name, value in tensors.items():
        ours = rename(name)
        if COMPUTED.search(name):
            left[name] = "recomputed by the model"
        elif ours.startswith("<"):
            left[name] = f"the model has no layer for {ours[1 : ours.index('>')]}"
        else:
            if name.endswith("denoising_class_embed.weight") and classes is not None and len(value) == classes + 1:
                value, changed[ours] = value[:-1], "without the row of 'no object'"
            mapped[ours], file_names[ours] = value, name
    mapped, note = match_epsilon(model, mapped, 1e-5)
    return MappedState(mapped, left, file_names, changed, ("names of the official RT-DETR", *note))


def match_epsilon(
    model: nn.Module, tensors: Mapping[str, Tensor], eps: float | None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Adapt running variances v, trained with `eps`, to the model's epsilon: v + eps and the outputs stay the same.

    Returns the tensors, and a note for the report if any changed. A variance near zero may become negative, but is
    never below minus the model's epsilon.
    """
    tensors, changed = dict(tensors), 0
    for name, module in model.named_modules() if eps is not None else ():
        key = f"{name}.running_var"
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and key in tensors and module.eps != eps:
            value = tensors[key]
            tensors[key] = (value.double() + (eps - module.eps)).to(torch.promote_types(value.dtype, torch.float32))
            changed += 1
    note = f"running variances of {changed} normalizations moved by the difference to their epsilon {eps}"
    return tensors, (note,) if changed else ()
