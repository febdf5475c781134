"""Backbones of timm and torchvision, through the feature interfaces of these libraries."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.nn.plans import LayerSpec, RowContext
from ultralytics.nn.registry import register
from ultralytics.nn.weights import IMAGENET, Weights, load_matching, read_state_dict, timm_weights
from ultralytics.nn.weights.imagenet import explained_download, timm_file
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import ModelConfigError, UserError, WeightsError, counted, did_you_mean
from ultralytics.utils.files import first_line

MAX_MAPS = 5  # layer numbers of a layer with several outputs
SIZE = (640, 640)  # for networks that are built for one image size
TRACE_SIZE = (640, 320)  # not square, which distinguishes the axes
STRIDES = (2, 4, 8, 16, 32)


class FeatureBackbone(nn.Module):
    """A network of another library that returns a sequence or a dictionary of feature maps, finest first.

    Args:
        name: name of the network, for messages.
        net: the network.
        widths: channels of the maps.
        channels_last: whether the maps are (B, H, W, C).
        frozen: names of the parameters to freeze.
    """

    keeps_norm = True  # its normalizations keep their epsilon and momentum, which published weights require

    def __init__(self, name: str, net: nn.Module, widths: Sequence[int], channels_last: bool, frozen: set[str]):
        super().__init__()
        self.name, self.net, self.width_list, self.channels_last = name, net, list(widths), channels_last
        for path in frozen:
            net.get_parameter(path).requires_grad_(False)
        self.frozen_modules = sorted({path.rpartition(".")[0] for path in frozen} - {""})

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute maps (B, width, H / stride, W / stride). Raise UserError if the network needs another image size."""
        try:
            maps = _as_list(self.net(x))
        except AssertionError as error:
            raise UserError(f"{self.name} does not accept images of {tuple(x.shape[2:])}: {error}") from error
        return [m.permute(0, 3, 1, 2).contiguous() for m in maps] if self.channels_last else maps

    def train(self, mode: bool = True) -> FeatureBackbone:
        """Set the mode; frozen layers stay in eval, so their BatchNorm statistics do not change."""
        super().train(mode)
        for path in self.frozen_modules:
            self.net.get_submodule(path).training = False
        return self


def _as_list(maps: Any) -> list[Tensor]:
    return list(maps.values()) if isinstance(maps, dict) else list(maps)


def frozen_parameters(name: str, net: nn.Module, frozen_stages: int, image: tuple[int, int, int]) -> set[str]:
    """Return the names of the parameters that the first `frozen_stages` maps of a meta-device network depend on."""
    maps = _as_list(net(torch.empty(1, *image, device="meta")))
    if frozen_stages not in range(1, len(maps) + 1):
        raise ModelConfigError(f"{name}: frozen_stages must be 0 to {len(maps)}, got {frozen_stages!r}")
    names, parameters = zip(*net.named_parameters(), strict=True)
    total = sum(feature.sum() for feature in maps[:frozen_stages])
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    return {path for path, gradient in zip(names, gradients, strict=True) if gradient is not None}


def timm_plan(ctx: RowContext, name: str, pretrained: Any = False, out_indices: Any = None, *rest: Any) -> LayerSpec:
    """Plan `[name, pretrained, out_indices, frozen_stages]`; channels are those of timm's `feature_info`."""
    ctx.require_once()
    size = tuple(ctx.sizes[0]) if ctx.sizes else SIZE
    widths = timm_on_meta(name, tuple(out_indices) if out_indices else None, ctx.c1, size)[0].feature_info.channels()
    extra = {"channels": ctx.c1, "img_size": size}
    return LayerSpec((name, pretrained, out_indices, *rest), tuple(widths), kwargs=extra)


@register(timm_plan)
class TimmBackbone(FeatureBackbone):
    """A network of timm: `timm.create_model(name, features_only=True)`.

    Args:
        name: model name with or without a tag, such as `resnet18.a1_in1k`.
        pretrained: True or `imagenet` downloads timm's weights once; or a file with weights of this network.
        out_indices: indices of the features; None: timm's default, the last five of it.
        frozen_stages: number of default features whose parameters are frozen; 0 trains everything.
        channels: image channels.
        img_size: (height, width) for networks that are built for one image size.
    """

    def __init__(self, name, pretrained=False, out_indices=None, frozen_stages=0, channels=3, img_size=SIZE):
        size = tuple(img_size)
        template, options = timm_on_meta(name, tuple(out_indices) if out_indices else None, channels, size)
        frozen: set[str] = set()
        if frozen_stages:
            default, _ = timm_on_meta(name, None, channels, size)
            frozen = frozen_parameters(name, default, frozen_stages, (channels, *size))
        last = str(getattr(template, "output_fmt", "NCHW")).endswith("NHWC")
        net = _timm_network(name, pretrained, options)
        super().__init__(name, net, template.feature_info.channels(), last, frozen)
        self.pretrained = pretrained  # decides the default of backbone_lr_ratio
        self.options = options

    def imagenet_weights(self) -> Weights:
        """Return timm's default weights, for this network and its image size."""
        return timm_weights(self.name, **self.options)


@cache
def timm_on_meta(
    name: str, indices: tuple[int, ...] | None, channels: int, size: tuple[int, int]
) -> tuple[nn.Module, dict[str, Any]]:
    """Build a network without storage, for any image size if it has an option for that.

    Returns the network in eval mode, and the keyword arguments it was built with.
    """
    import timm

    if not timm.is_model(name):
        near = did_you_mean(name, [*timm.list_models(), *timm.list_pretrained()])
        raise ModelConfigError(f"timm {timm.__version__} has no network {name!r}{near}")
    options = {"features_only": True, "in_chans": channels, "out_indices": indices}
    for any_size in ({"dynamic_img_size": True}, {}, {"img_size": size}):
        try:
            with torch.device("meta"), torch.no_grad():
                net = timm.create_model(name, **options, **any_size).eval()
                net(torch.empty(1, channels, *size))
        except (TypeError, AssertionError, ValueError, RuntimeError, LookupError) as error:  # unknown option or size
            failure = error
            continue
        default = tuple(net.feature_info.out_indices)
        if indices is None and len(default) > MAX_MAPS:
            return timm_on_meta(name, default[-MAX_MAPS:], channels, size)
        return net, {**options, **any_size}
    raise ModelConfigError(
        f"{name}: timm cannot build it with out_indices={indices}: {type(failure).__name__}: {first_line(failure)}"
    ) from failure


def _timm_network(name: str, pretrained: bool | str, options: dict[str, Any]) -> nn.Module:
    import timm

    if pretrained in (True, IMAGENET):
        pretrained = timm_file(name) or True
    if isinstance(pretrained, bool):
        with explained_download(name):
            return timm.create_model(name, pretrained=pretrained, **options)
    source = read_state_dict(pretrained)
    with torch.device("meta"):
        known = timm.create_model(name).state_dict()
    matching = [key for key in source if key in known and source[key].is_floating_point()]
    if not matching:
        raise WeightsError(f"{pretrained}: none of its tensors has a name of timm's {name}")
    LOGGER.info(f"{pretrained}: {len(matching)} of {counted(len(source), 'tensor')} fitting {name}")
    try:
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"state_dict": source}, **options)
    except RuntimeError as error:
        raise WeightsError(f"{pretrained}: does not fit {name}: {first_line(error)}") from error


def torchvision_plan(ctx: RowContext, name: str, weights: Any = None, nodes: Any = None, *rest: Any) -> LayerSpec:
    """Plan `[name, weights, nodes, frozen_stages]`; channels come from a run on the meta device."""
    ctx.require_once()
    if ctx.c1 != 3:
        raise ModelConfigError(f"torchvision networks need images of 3 channels, got {ctx.c1}")
    widths = tuple(torchvision_maps(name)[node][0] for node in _nodes(name, nodes))
    return LayerSpec((name, weights, nodes, *rest), widths)


@register(torchvision_plan)
class TorchVisionBackbone(FeatureBackbone):
    """A classifier of `torchvision.models` without its head, by torchvision's feature extractor.

    Args:
        name: such as `resnet18`.
        weights: `imagenet` (or `DEFAULT`) or the name of published weights, downloaded once; or a file.
        nodes: names of the modules whose outputs are the maps, or indices into the default ones; None: the last map of
            each stride 2, 4, 8, 16, 32.
        frozen_stages: number of default maps whose parameters are frozen; 0 trains everything.
    """

    def __init__(self, name, weights=None, nodes=None, frozen_stages=0):
        from torchvision.models.feature_extraction import create_feature_extractor

        maps, chosen = torchvision_maps(name), _nodes(name, nodes)
        frozen: set[str] = set()
        if frozen_stages:
            default = create_feature_extractor(_classifier(name), _nodes(name, None))
            frozen = frozen_parameters(name, default, frozen_stages, (3, *TRACE_SIZE))
        net = create_feature_extractor(_torchvision_network(name, weights), chosen)
        super().__init__(name, net, [maps[n][0] for n in chosen], maps[chosen[0]][2], frozen)
        self.pretrained = weights  # decides the default of backbone_lr_ratio

    def imagenet_weights(self) -> Weights:
        """Return torchvision's default weights."""
        return Weights(_torchvision_network(self.name, IMAGENET).state_dict(), f"{self.name} of torchvision")


@cache
def torchvision_maps(name: str) -> dict[str, tuple[int, int, bool]]:
    """Return (channels, stride, channels last) of each module of a classifier that outputs a feature map."""
    net, maps = _classifier(name), {}

    def watch(path: str, module: nn.Module) -> None:
        def record(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and path not in ("classifier", "fc", "head", "heads"):
                for last, (c, h, w) in ((False, output.shape[1:]), (True, (output.shape[3], *output.shape[1:3]))):
                    if h == 2 * w:  # as the image
                        maps.pop(path, None)
                        maps[path] = (c, TRACE_SIZE[0] // h, last)

        module.register_forward_hook(record)

    for path, child in net.named_children():
        watch(path, child)
        for step, block in child.named_children() if isinstance(child, nn.Sequential | nn.ModuleList) else ():
            watch(f"{path}.{step}", block)
    with torch.no_grad():
        net(torch.empty(1, 3, *TRACE_SIZE, device="meta"))
    return maps


def _nodes(name: str, nodes: Sequence[int] | Sequence[str] | None) -> list[str]:
    """Return the names of the modules whose outputs are the maps."""
    maps = torchvision_maps(name)
    layouts = [last for _, stride, last in maps.values() if stride in STRIDES]
    usual = layouts.count(True) > layouts.count(False)
    default = {stride: path for path, (_, stride, last) in maps.items() if stride in STRIDES and last == usual}
    found = [default[stride] for stride in sorted(default)]
    if not found:
        raise ModelConfigError(f"{name}: none of its modules outputs a map (B, C, H, W) at a stride of {STRIDES}")
    chosen = found if nodes is None else [found[n] if n in range(len(found)) else n for n in nodes]
    for node in chosen:
        if node not in maps:
            raise ModelConfigError(f"{name}: no module {node!r} outputs a map{did_you_mean(str(node), maps)}")
    return chosen


def _classifier(name: str, device: str | torch.device = "meta") -> nn.Module:
    """Build a classifier of torchvision in eval mode with random weights."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise ModelConfigError(f"torchvision.models has no classifier {name!r}{did_you_mean(str(name), known)}")
    quick = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}  # else minutes of scipy
    return models.get_model(name, weights=None, **quick).eval().to(device)


def _torchvision_network(name: str, weights: str | None) -> nn.Module:
    from torchvision import models

    if weights is None:
        return _classifier(name, torch.get_default_device())
    if isinstance(weights, Path | str) and Path(weights).suffix:
        load_matching(net := _classifier(name, "cpu"), read_state_dict(weights), origin=str(weights))
        return net
    published = models.get_model_weights(name).__members__
    weights = "DEFAULT" if weights == IMAGENET else weights
    if weights not in published:
        near = did_you_mean(str(weights), published)
        raise ModelConfigError(f"{name}: no weights {weights!r}{near}; known: {[*published]}, or a file")
    with explained_download(name, published[weights].url):
        return models.get_model(name, weights=weights)
