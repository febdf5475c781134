"""Naming schemes: how other code bases name the parameters of layers that a model here has.

A rule is (pattern, replacement), as for `re.sub`. All rules of a table are applied to a name, one after the other.
`<role N>` in a replacement is the N-th layer with that role in the model at hand, so one table serves every model file:

    stem                       7x7 convolution and pooling of ResNet
    conv N                     convolutions before the first stage of ResNet-vd
    stage N                    stages of the backbone
    projection N               1x1 convolution without activation that projects map N; P3 is 0
    attention N, lateral N, downsample N, fpn N, pan N     of the hybrid encoder
    decoder                    the last layer
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

Rules = tuple[tuple[str, str | Callable[[re.Match], str]], ...]

# ResNet-vd of the official RT-DETR, also in the files with its ImageNet weights.
PRESNET: Rules = (
    (r"^(backbone\.)?conv1\.conv1_(\d)\.", lambda m: f"<conv {int(m[2]) - 1}>."),
    (r"^(backbone\.)?res_layers\.(\d)\.", r"<stage \2>."),
    (r"\.short\.conv\.(conv|norm)\.", r".short.1.\1."),  # after a pooling
)

# The official RT-DETR in PyTorch, https://github.com/lyuwenyu/RT-DETR (rtdetr_pytorch).
OFFICIAL: Rules = (
    *PRESNET,
    (r"^encoder\.input_proj\.(\d)\.([01])\.", lambda m: f"<projection {m[1]}>.{('conv', 'bn')[int(m[2])]}."),
    (r"^encoder\.encoder\.0\.layers\.(\d)\.", r"<attention \1>."),
    (r"^(<attention \d>)\.self_attn\.", r"\1.ma."),
    (r"^(<attention \d>)\.linear", r"\1.fc"),
    (r"^encoder\.(lateral|downsample|fpn|pan)_(?:convs|blocks)\.(\d)\.", r"<\1 \2>."),
    (r"^(<(fpn|pan) \d>)\.conv(\d)\.", r"\1.cv\3."),
    (r"^(<(fpn|pan) \d>)\.bottlenecks\.", r"\1.m."),
    (r"^(<(lateral|downsample|fpn|pan) .*)\.norm\.", r"\1.bn."),
    (r"^decoder\.input_proj\.(\d)\.(conv|norm)\.", lambda m: f"decoder.input_proj.{m[1]}.{int(m[2] == 'norm')}."),
    (r"^decoder\.", r"<decoder 0>."),
)
OFFICIAL_SIGNS = re.compile(r"^(encoder\.(fpn_blocks|lateral_convs)|decoder\.dec_score_head)\.")

# ResNet of torchvision (and timm), for rows of ResNetLayer.
RESNET: Rules = (
    (r"^conv1\.", r"<stem 0>.layer.0.conv."),
    (r"^bn1\.", r"<stem 0>.layer.0.bn."),
    (r"^layer(\d)\.", lambda m: f"<stage {int(m[1]) - 1}>.layer."),
    (r"\.(conv|bn)(\d)\.", r".cv\2.\1."),
    (r"\.downsample\.([01])\.", lambda m: f".shortcut.0.{('conv', 'bn')[int(m[1])]}."),
)

# ResNet-D of timm (resnet18d, resnet50d, ...), which is ResNet-vd, for rows of ConvNormLayer and Blocks.
BRANCHES = {"1": "branch2a", "2": "branch2b", "3": "branch2c"}
RESNET_D: Rules = (
    (r"^conv1\.([036])\.", lambda m: f"<conv {int(m[1]) // 3}>.conv."),
    (r"^conv1\.([14])\.", lambda m: f"<conv {int(m[1]) // 3}>.norm."),
    (r"^bn1\.", r"<conv 2>.norm."),
    (r"^layer1\.0\.downsample\.", r"layer1.0.short."),
    (r"\.downsample\.", r".short.1."),
    (r"\.short\.(1\.)?1\.weight$", r".short.\1conv.weight"),
    (r"\.short\.(1\.)?2\.", r".short.\1norm."),
    (r"^layer(\d)\.", lambda m: f"<stage {int(m[1]) - 1}>.blocks."),
    (r"\.conv([123])\.", lambda m: f".{BRANCHES[m[1]]}.conv."),
    (r"\.bn([123])\.", lambda m: f".{BRANCHES[m[1]]}.norm."),
)

DOWNSAMPLE = {"res1": 0, "patchmerge": 1, "res2": 2}
EFFICIENTVIT_TIMM: Rules = (
    (r"^patch_embed\.conv(\d)\.", lambda m: f"patch_embed.{2 * int(m[1]) - 2}."),
    (r"^stages\.(\d)\.downsample\.(res1|patchmerge|res2)\.", lambda m: f"blocks{int(m[1]) + 1}.{DOWNSAMPLE[m[2]]}."),
    (r"^stages\.(\d)\.blocks\.(\d)\.", lambda m: f"blocks{int(m[1]) + 1}.{int(m[2]) + 3 * (m[1] != '0')}."),
    (r"\.conv\.weight$", r".c.weight"),
)
MSRA_HEAD = re.compile(r"(^|\.)head\.l\.weight$")
DEPTH = 4  # words of a prefix of names, such as `model.backbone.0.body.`


def layer_roles(model: nn.Module) -> dict[str, str]:
    """Return the prefix of the parameter names of each role: {'stage 0': 'model.4', 'lateral 0': 'model.10', ...}.

    Roles are found by the type of the layers and numbered in their order, so other layers may come in between.
    """
    layers: dict[str | None, list[str]] = defaultdict(list)
    for index, layer in enumerate(model.model):
        layers[_role(layer)].append(f"model.{index}")
    half = len(layers["fusion"]) // 2  # first top-down, then bottom-up
    layers["fpn"], layers["pan"] = layers["fusion"][:half], layers["fusion"][half:]
    layers["projection"].reverse()  # the coarsest map, P5, is projected first
    return {f"{role} {n}": prefix for role, prefixes in layers.items() for n, prefix in enumerate(prefixes)}


def _role(layer: nn.Module) -> str | None:
    kind = layer.type.rpartition(".")[2]
    if kind == "ResNetLayer":
        return "stem" if isinstance(layer.layer[-1], nn.MaxPool2d) else "stage"
    if kind == "Conv" and not layer.in_backbone:
        if layer.conv.kernel_size == (1, 1):
            return "projection" if isinstance(layer.act, nn.Identity) else "lateral"
        return "downsample" if layer.conv.stride == (2, 2) else None
    roles = {"ConvNormLayer": "conv", "Blocks": "stage", "AIFI": "attention", "RepC3": "fusion"}
    return "decoder" if kind == "RTDETRDecoder" else roles.get(kind)


def rename_timm_key(name: str) -> str:
    """Return MSRA's name of a parameter of timm's `efficientvit_m*`. Other names are returned unchanged."""
    return _apply_rules(EFFICIENTVIT_TIMM, {}, name)


def _apply_rules(rules: Rules, roles: Mapping[str, str], name: str) -> str:
    """Apply a table to a name, which keeps `<role N>` if the model has no such layer."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"^<([^>]+)>", lambda role: roles.get(role[1], role[0]), name)


@dataclass(frozen=True)
class NamingScheme:
    """A mapping of names: `prefix` + x in the file is `base` + rename(x) in the model."""

    title: str
    rename: Callable[[str], str] = str
    base: str = ""
    prefix: str = ""
    norm_eps: float | None = None  # epsilon of the batch normalizations in training, if known
    implied: Mapping[str, Tensor] = field(default_factory=dict)  # constants in the file's network, without a name there

    def __call__(self, name: str) -> str:
        """Return the name in the model. Names without the prefix are returned unchanged."""
        return self.base + self.rename(name[len(self.prefix) :]) if name.startswith(self.prefix) else name


OWN_NAMES = NamingScheme("the model's own names")


def detector_schemes(model: nn.Module) -> list[NamingScheme]:
    """Return the naming schemes that a file of a whole detector may use."""
    own = [NamingScheme(OWN_NAMES.title, base=base) for base in ("", "model.")]
    official = partial(_apply_rules, OFFICIAL, layer_roles(model))
    return [*own, NamingScheme("names of the official RT-DETR", official, norm_eps=1e-5)]


def backbone_schemes(model: nn.Module, names: Iterable[str], target: Iterable[str]) -> list[NamingScheme]:
    """Return the naming schemes that a file with these names may use for the tensors `target` of the backbone.

    EfficientViT here has the names of MSRA's classifier, but another epsilon in its normalizations. The head of a
    classifier in the file decides which epsilon its weights were trained with.
    """
    own_eps = 1e-5 if any(MSRA_HEAD.search(name) for name in names) else None
    bases, roles = common_prefixes(target, share=0.3), layer_roles(model)
    resnet, resnet_d, presnet = (partial(_apply_rules, rules, roles) for rules in (RESNET, RESNET_D, PRESNET))
    efficientvit = "EfficientViT (MSRA), timm's names"
    return [
        *(NamingScheme(OWN_NAMES.title, base=base, norm_eps=own_eps) for base in bases),
        NamingScheme("timm's names", _timm_features(model)),
        *(NamingScheme(efficientvit, rename_timm_key, base=base, norm_eps=1e-5) for base in bases),
        NamingScheme("ResNet, torchvision's names", resnet, norm_eps=1e-5),
        NamingScheme("ResNet-D, timm's names", resnet_d, norm_eps=1e-5, implied=_identity_shortcut(model, roles)),
        NamingScheme("ResNet-vd of the official RT-DETR", presnet, norm_eps=1e-5),
    ]


def _timm_features(model: nn.Module) -> Callable[[str], str]:
    """Map names of a timm network to those of `TimmBackbone`, which may have `stages_0.` for `stages.0.`."""
    start = next((f"model.{i}.net." for i, m in enumerate(model.model) if m.type.endswith(".TimmBackbone")), "")
    known = model.state_dict()

    def rename(name: str) -> str:
        flat = start + name.replace(".", "_", 1)
        return flat if flat in known else start + name

    return rename


def _identity_shortcut(model: nn.Module, roles: Mapping[str, str], eps: float = 1e-5) -> dict[str, Tensor]:
    """Return values that make the first shortcut of basic blocks an identity, as timm has no layer there."""
    name = f"{roles.get('stage 0', '')}.blocks.0.short"
    weight = model.state_dict().get(f"{name}.conv.weight")
    if weight is None or weight.shape[0] != weight.shape[1]:
        return {}
    ones, zeros = torch.ones(len(weight)), torch.zeros(len(weight))
    norm = {"weight": ones, "bias": zeros, "running_mean": zeros, "running_var": ones - eps}
    conv = torch.eye(len(weight))[:, :, None, None]
    return {f"{name}.conv.weight": conv, **{f"{name}.norm.{key}": value for key, value in norm.items()}}


def common_prefixes(names: Iterable[str], share: float) -> list[str]:
    """Return '' and the prefixes up to a dot, of at most DEPTH words, of at least this share of the names."""
    words = [name.split(".") for name in names]
    starts = Counter(".".join(w[:n]) + "." for w in words for n in range(1, min(DEPTH, len(w) - 1) + 1))
    return ["", *(prefix for prefix, count in starts.items() if count >= share * len(words))]
