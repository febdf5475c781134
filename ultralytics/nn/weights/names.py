"""How other code bases name the parameters of layers that a model here has, as tables.

A rule is (pattern, replacement); all rules of a table are applied to a name one after the other. `<part>` in a
replacement stands for the row of that part in the model at hand (see `roles.py`), so that one table serves every model
file that has the part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ultralytics.utils import PACKAGE_ROOT
from ultralytics.utils.files import read_yaml


def row_prefixes(model: nn.Module) -> Mapping[str, str]:
    """Start of the parameter names of each part, such as {'layer1': 'model.4', 'lateral 0': 'model.10', ...}.

    The parts are told apart by the kind of their row and counted in the order of the rows, so that rows of other kinds
    may stand between them:

        conv1_1 ..    convolutions before the first stage (of ResNet-vd); `stem` is ResNet's 7x7 convolution
        layer1 ..     stages of the backbone; `res_layers 0` .. are the same
        projection N  1x1 convolution without activation that projects map N, P3 is 0
        lateral N, downsample N, fpn N, pan N, attention N   of the hybrid encoder
        decoder       the last row
    """
    return dict(_parts(model))


def _parts(model: nn.Module) -> Iterator[tuple[str, str]]:
    backbone = [(f"model.{i}", layer) for i, layer in enumerate(model.model) if layer.in_backbone]
    head = [(f"model.{i}", layer) for i, layer in enumerate(model.model) if not layer.in_backbone]
    yield from _resnet(backbone)
    yield from _encoder(head)
    if head and _kind(head[-1][1]) == "RTDETRDecoder":
        yield "decoder", head[-1][0]


def _resnet(rows: list[tuple[str, nn.Module]]) -> Iterator[tuple[str, str]]:
    stages = [(prefix, layer) for prefix, layer in rows if _kind(layer) in ("Blocks", "ResNetLayer")]
    if not stages:
        return
    first = stages[0]
    if _kind(first[1]) == "ResNetLayer" and isinstance(first[1].layer[-1], nn.MaxPool2d):
        yield "stem", first[0]
        stages = stages[1:]
    before = rows[: rows.index(first)]
    convolutions = [prefix for prefix, layer in before if _kind(layer) == "ConvNormLayer"]
    yield from ((f"conv1_{n}", prefix) for n, prefix in enumerate(convolutions, 1))
    for n, (prefix, _) in enumerate(stages):
        yield f"layer{n + 1}", prefix
        yield f"res_layers {n}", prefix


def _encoder(rows: list[tuple[str, nn.Module]]) -> Iterator[tuple[str, str]]:
    found: dict[str, list[str]] = {"projection": [], "lateral": [], "downsample": [], "attention": [], "fusion": []}
    for prefix, layer in rows:
        part = _encoder_part(layer)
        if part:
            found[part].append(prefix)
    fusion, half = found.pop("fusion"), len(found["downsample"])
    if len(fusion) == 2 * half:  # from coarse to fine, then back
        found["fpn"], found["pan"] = fusion[:half], fusion[half:]
    found["projection"].reverse()  # the coarsest map, P5, is projected first
    for part, prefixes in found.items():
        yield from ((f"{part} {n}", prefix) for n, prefix in enumerate(prefixes))


def _encoder_part(layer: nn.Module) -> str | None:
    kind = _kind(layer)
    if kind == "Conv":
        if layer.conv.kernel_size == (1, 1):
            return "projection" if isinstance(layer.act, nn.Identity) else "lateral"
        return "downsample" if layer.conv.stride == (2, 2) else None
    return {"AIFI": "attention", "RepC3": "fusion"}.get(kind)


def _kind(layer: nn.Module) -> str:
    return layer.type.rpartition(".")[2]


Rules = tuple[tuple[str, str], ...]

# ResNet-vd as the official RT-DETR names it, also alone, as the file with its ImageNet weights does.
PRESNET: Rules = (
    (r"^(backbone\.)?conv1\.(conv1_\d)\.", r"<\2>."),
    (r"^(backbone\.)?res_layers\.(\d)\.", r"<res_layers \2>."),
    (r"\.short\.conv\.(conv|norm)\.", r".short.1.\1."),  # a pooling comes before it
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
COCO_NOTE = "the file's 80 classes, which have no names in it, are taken for those of COCO"
MSRA_HEAD = re.compile(r"(^|\.)head\.l\.weight$")
COMPUTED = re.compile(r"\.(anchors|valid_mask|num_points_scale)$")  # constants that are worked out anew here

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
class Dialect:
    """How a code base names things.

    Attributes:
        title: for the report.
        rename: from a name of the file to one of the model, or below some prefix of the model's names.
        whole: whether `rename` gives the model's full names.
        norm_eps: epsilon of the batch normalisations that the weights were trained with; None where it is not known.
        implied: tensors of the model that the file's network has no name for, since they are constants there.
    """

    title: str
    rename: Callable[[str], str]
    whole: bool = True
    norm_eps: float | None = None
    implied: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Renamed:
    """Tensors under the model's names.

    Attributes:
        left: tensors of the file that are not among them, with the reason.
        named: what the file calls them.
        changed: what was done to some of them.
        notes: for the report.
    """

    tensors: dict[str, Tensor]
    left: Mapping[str, str] = field(default_factory=dict)
    named: Mapping[str, str] = field(default_factory=dict)
    changed: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def renamer(rules: Rules, parts: Mapping[str, str]) -> Callable[[str], str]:
    """Function that applies a table. A name of a part that the model lacks keeps its `<part>`, and so fits nothing."""

    def rename(name: str) -> str:
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        return re.sub(r"^<([^>]+)>", lambda part: parts.get(part[1], part[0]), name)

    return rename


def backbone_dialects(model: nn.Module, names: Iterable[str]) -> list[Dialect]:
    """The ways in which a file with these names may name the parameters of the model's backbone.

    EfficientViT has the names of MSRA's classifier here. Its file is told from a detector's by the classifier's head,
    since the epsilon of its normalisations is another.
    """
    parts = row_prefixes(model)
    plain = _plain_shortcut(model, parts)
    msra = Dialect("EfficientViT (MSRA)", lambda name: name, whole=False, norm_eps=1e-5)
    return [
        *([msra] if any(MSRA_HEAD.search(name) for name in names) else []),
        Dialect("the model's own names", lambda name: name, whole=False),
        Dialect("timm's names", _timm_features(model)),
        Dialect("EfficientViT (MSRA), timm's names", rename_timm_key, whole=False, norm_eps=1e-5),
        Dialect("ResNet, torchvision's names", renamer(RESNET, parts), norm_eps=1e-5),
        Dialect("ResNet-D, timm's names", renamer(RESNET_D, parts), norm_eps=1e-5, implied=plain),
        Dialect("ResNet-vd of the official RT-DETR", renamer(PRESNET, parts), norm_eps=1e-5),
    ]


def _timm_features(model: nn.Module) -> Callable[[str], str]:
    """From the names of a timm network to those of `TimmBackbone`, where `stages.0.` may have become `stages_0.`."""
    row = next((i for i, m in enumerate(model.model) if m.in_backbone and m.type.endswith(".TimmBackbone")), None)
    start, known = f"model.{row}.net.", model.state_dict()

    def rename(name: str) -> str:
        flat = start + re.sub(r"^([^.]+)\.", r"\1_", name)
        return flat if flat in known else start + name

    return rename


def _plain_shortcut(model: nn.Module, parts: Mapping[str, str], eps: float = 1e-5) -> dict[str, Tensor]:
    """Values by which the first shortcut of a stage of basic blocks does nothing, as in timm, which has none there."""
    name = f"{parts.get('layer1', '')}.blocks.0.short"
    weight = model.state_dict().get(f"{name}.conv.weight")
    if weight is None or weight.shape[0] != weight.shape[1]:
        return {}
    ones, zeros = torch.ones(len(weight)), torch.zeros(len(weight))
    norm = {"weight": ones, "bias": zeros, "running_mean": zeros, "running_var": ones - eps}
    point = torch.eye(len(weight))[:, :, None, None]
    return {f"{name}.conv.weight": point, **{f"{name}.norm.{key}": value for key, value in norm.items()}}


def is_official(names: Iterable[str]) -> bool:
    """Whether these are parameters of the official RT-DETR in PyTorch."""
    return any(OFFICIAL_SIGNS.match(name) for name in names)


def coco_names(tensors: Mapping[str, Tensor]) -> dict[int, str] | None:
    """Class names of a file of the official RT-DETR with 80 classes, which holds none: those published have COCO's."""
    scores = next((value for name, value in tensors.items() if name.endswith("enc_score_head.bias")), None)
    if scores is None or len(scores) != 80 or not is_official(tensors):
        return None
    return dict(enumerate(read_yaml(PACKAGE_ROOT / "cfg" / "datasets" / "coco.yaml")["names"]))


def from_official(model: nn.Module, tensors: Mapping[str, Tensor]) -> Renamed:
    """Tensors of the official RT-DETR in PyTorch under the model's names.

    Its embedding of the denoising queries has one row more than classes, for 'no object', which no query ever shows.
    """
    rename = renamer(OFFICIAL, row_prefixes(model))
    found: dict[str, Tensor] = {}
    left, named, changed = {}, {}, {}
    classes = next((len(value) for name, value in tensors.items() if name.endswith("enc_score_head.bias")), None)
    for name, value in tensors.items():
        ours = rename(name)
        if COMPUTED.search(name):
            left[name] = "computed anew"
        elif ours.startswith("<"):
            left[name] = f"the model has no row for {ours[1 : ours.index('>')]}"
        elif name.endswith("denoising_class_embed.weight") and classes is not None and len(value) == classes + 1:
            found[ours], named[ours], changed[ours] = value[:-1], name, "without the row of 'no object'"
        else:
            found[ours], named[ours] = value, name
    found, note = match_epsilon(model, found, 1e-5)
    return Renamed(found, left, named, changed, ("names of the official RT-DETR", *note))


def match_epsilon(
    model: nn.Module, tensors: Mapping[str, Tensor], eps: float | None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Running variances v for the model's epsilon: v + eps stays what it was, so that the outputs stay the same.

    Returns the tensors, and a note for the report where something had to change. The variance of a channel that hardly
    varies may become negative; it never gets below minus the model's epsilon.
    """
    tensors, changed = dict(tensors), 0
    for name, module in model.named_modules() if eps is not None else ():
        key = f"{name}.running_var"
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and key in tensors and module.eps != eps:
            value = tensors[key]
            tensors[key] = (value.double() + (eps - module.eps)).to(torch.promote_types(value.dtype, torch.float32))
            changed += 1
    if not changed:
        return tensors, ()
    return tensors, (f"running variances of {changed} normalisations moved by the difference to their epsilon {eps:g}",)
