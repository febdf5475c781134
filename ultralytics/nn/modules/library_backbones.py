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
from ultralytics.nn.weights import load_matching, read_state_dict
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import ModelConfigError, UserError, WeightsError, did_you_mean

MAX_MAPS = 5  # layer numbers of a layer with several outputs
SIZE = (640, 640)  # for networks that are built for one image size
TRACE_SIZE = (640, 320)  # not square, which distinguishes the axes
STRIDES = (2, 4, 8, 16, 32)


class FeatureBackbone(nn.Module):
    """A network of another library that returns feature maps, finest first.

    Its normalizations keep their own epsilon and momentum (`keeps_norm`), which published weights require.

    Args:
        name: name of the network, for messages.
        net: network that returns a sequence of maps, or a dictionary of them.
        widths: channels of the maps.
        channels_last: whether the maps are (B, H, W, C).
        frozen: names of the parameters to freeze.
    """

    keeps_norm = True

    def __init__(self, name: str, net: nn.Module, widths: Sequence[int], channels_last: bool, frozen: set[str]):
        super().__init__()
        self.name, self.net, self.width_list, self.channels_last = name, net, list(widths), channels_last
        for path, parameter in net.named_parameters():
            if path in frozen:
                parameter.requires_grad_(False)
        self.frozen_modules = sorted({path.rpartition(".")[0] for path in frozen} - {""})

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute the maps.

        Args:
            x: (B, C, H, W).

        Returns:
            One (B, width, H / stride, W / stride) per map.

        Raises:
            UserError: the network does not accept this image size.
        """
        try:
            maps = self.net(x)
        except AssertionError as error:
            raise UserError(f"{self.name} does not accept images of {tuple(x.shape[2:])}: {error}") from error
        maps = list(maps.values()) if isinstance(maps, dict) else list(maps)
        return [m.permute(0, 3, 1, 2).contiguous() for m in maps] if self.channels_last else maps

    def train(self, mode: bool = True) -> FeatureBackbone:
        """Set the mode; frozen layers stay in eval, so their BatchNorm statistics do not change."""
        super().train(mode)
        for path in self.frozen_modules:
            self.net.get_submodule(path).training = False
        return self


def frozen_parameters(name: str, net: nn.Module, frozen_stages: int, size: tuple[int, int], channels: int) -> set[str]:
    """Return the names of the parameters that the first `frozen_stages` maps of a meta-device network depend on.

    Raises:
        ModelConfigError: the network has fewer maps.
    """
    if frozen_stages == 0 and frozen_stages is not False:
        return set()
    maps = net(torch.empty(1, channels, *size, device="meta"))
    maps = list(maps.values()) if isinstance(maps, dict) else list(maps)
    if isinstance(frozen_stages, bool) or not isinstance(frozen_stages, int) or not 0 < frozen_stages <= len(maps):
        raise ModelConfigError(f"{name}: frozen_stages must be 0 to {len(maps)}, got {frozen_stages!r}")
    names, parameters = zip(*net.named_parameters(), strict=True)
    total = sum(feature.sum() for feature in maps[:frozen_stages])
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    return {path for path, gradient in zip(names, gradients, strict=True) if gradient is not None}


# timm -----------------------------------------------------------------------------------------------------------------


def timm_plan(
    ctx: RowContext,
    name: str,
    pretrained: bool | str = False,
    out_indices: Sequence[int] | None = None,
    frozen_stages: int = 0,
) -> LayerSpec:
    """Plan `[name, pretrained, out_indices, frozen_stages]`; channels are those of timm's `feature_info`."""
    ctx.require_once()
    size = tuple(ctx.sizes[0]) if ctx.sizes else SIZE
    widths = timm_on_meta(name, _indices(name, out_indices), ctx.c1, size)[0].feature_info.channels()
    extra = {"channels": ctx.c1, "img_size": size}
    return LayerSpec((name, pretrained, out_indices, frozen_stages), tuple(widths), kwargs=extra)


@register(timm_plan)
class TimmBackbone(FeatureBackbone):
    """A network of timm: `timm.create_model(name, features_only=True)`.

    Args:
        name: model name with or without a tag, such as `resnet18.a1_in1k`.
        pretrained: True downloads timm's weights once; or a file with weights of this network.
        out_indices: indices of the features; None: timm's default, the last five of it.
        frozen_stages: number of features whose parameters are frozen; 0 trains everything.
        channels: image channels.
        img_size: (height, width) for networks that are built for one image size.

    Raises:
        ModelConfigError: timm has no such network, or it returns no features.
        WeightsError: the weights cannot be downloaded, or do not fit.

    Examples:
        >>> [tuple(m.shape[1:]) for m in TimmBackbone("resnet10t")(torch.rand(2, 3, 64, 64))][-1]
        (512, 2, 2)
    """

    def __init__(
        self,
        name: str,
        pretrained: bool | str = False,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = 0,
        channels: int = 3,
        img_size: tuple[int, int] = SIZE,
    ):
        if not isinstance(pretrained, bool | str | Path):
            raise ModelConfigError(f"{name}: pretrained must be True, False or a path, got {pretrained!r}")
        indices = _indices(name, out_indices)
        template, options = timm_on_meta(name, indices, channels, tuple(img_size))
        every = timm_on_meta(name, None, channels, tuple(img_size))[0] if frozen_stages else template
        frozen = frozen_parameters(name, every, frozen_stages, tuple(img_size), channels)
        net = _timm_network(name, pretrained, options)
        layout = str(getattr(template, "output_fmt", "NCHW"))
        super().__init__(name, net, template.feature_info.channels(), layout.endswith("NHWC"), frozen)
        self.pretrained = pretrained  # decides the default of backbone_lr_ratio


@cache
def timm_on_meta(
    name: str, indices: tuple[int, ...] | None, channels: int, size: tuple[int, int]
) -> tuple[nn.Module, dict[str, Any]]:
    """Build a network without storage, for any image size if it has an option for that.

    Returns:
        The network in eval mode, and the keyword arguments it was built with.

    Raises:
        ModelConfigError: timm has no such network, or it returns no such features.
    """
    import timm

    if not isinstance(name, str) or not timm.is_model(name):
        near = did_you_mean(str(name), [*timm.list_models(), *timm.list_pretrained()])
        raise ModelConfigError(f"timm {timm.__version__} has no network {name!r}{near}")
    common = {"features_only": True, "in_chans": channels} | ({} if indices is None else {"out_indices": indices})
    for any_size in ({"dynamic_img_size": True}, {}, {"img_size": size}):
        try:
            with torch.device("meta"), torch.no_grad():
                net = timm.create_model(name, **common, **any_size).eval()
                net(torch.empty(1, channels, *size))
            return net, {**common, **any_size}
        except (TypeError, AssertionError, ValueError, RuntimeError, LookupError) as error:  # unknown option or size
            failure = error
    raise ModelConfigError(
        f"{name}: timm cannot build it with out_indices={indices}: {error_line(failure)}"
    ) from failure


def _indices(name: str, out_indices: Sequence[int] | int | None) -> tuple[int, ...]:
    """Return the indices of the features, by default the last five that timm returns."""
    if out_indices is None:
        return tuple(timm_on_meta(name, None, 3, SIZE)[0].feature_info.out_indices[-MAX_MAPS:])
    indices = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
    if not 1 <= len(indices) <= MAX_MAPS or not all(type(index) is int for index in indices):
        raise ModelConfigError(f"{name}: out_indices must be 1 to {MAX_MAPS} integers, got {out_indices!r}")
    return indices


def _timm_network(name: str, pretrained: bool | str, options: dict[str, Any]) -> nn.Module:
    """Build the network with its weights."""
    import timm

    if isinstance(pretrained, bool):
        try:
            return timm.create_model(name, pretrained=pretrained, **options)
        except (OSError, RuntimeError) as error:
            raise WeightsError(
                f"{name}: its weights cannot be downloaded ({error_line(error)}); "
                "use pretrained=False, or the path of a weights file"
            ) from error
    source = read_state_dict(pretrained)
    with torch.device("meta"):
        known = timm.create_model(name).state_dict()
    matching = [key for key in source if key in known and source[key].is_floating_point()]
    if not matching:
        raise WeightsError(f"{pretrained}: none of its {len(source)} tensors has a name of timm's {name}")
    LOGGER.info(f"{pretrained}: {len(matching)} of {len(source)} tensors match {name}")
    try:
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"state_dict": source}, **options)
    except RuntimeError as error:
        raise WeightsError(f"{pretrained}: does not fit {name}: {error_line(error)}") from error


# torchvision ----------------------------------------------------------------------------------------------------------


def torchvision_plan(
    ctx: RowContext,
    name: str,
    weights: str | None = None,
    nodes: Sequence[int] | Sequence[str] | None = None,
    frozen_stages: int = 0,
) -> LayerSpec:
    """Plan `[name, weights, nodes, frozen_stages]`; channels come from a run on the meta device."""
    ctx.require_once()
    if ctx.c1 != 3:
        raise ModelConfigError(f"torchvision networks need images of 3 channels, got {ctx.c1}")
    maps = torchvision_maps(name)
    return LayerSpec((name, weights, nodes, frozen_stages), tuple(maps[n][0] for n in _nodes(name, nodes)))


@register(torchvision_plan)
class TorchVisionBackbone(FeatureBackbone):
    """A classifier of `torchvision.models` without its head, by torchvision's feature extractor.

    Args:
        name: such as `resnet18`.
        weights: `DEFAULT` or the name of published weights, downloaded once; or a file.
        nodes: names of the modules whose outputs are the maps, or indices into the default ones; None: the last map of
            each stride 2, 4, 8, 16, 32.
        frozen_stages: number of default maps whose parameters are frozen; 0 trains everything.

    Raises:
        ModelConfigError: there is no such classifier, or it has no such maps.
        WeightsError: the weights cannot be downloaded, or do not fit.
    """

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        nodes: Sequence[int] | Sequence[str] | None = None,
        frozen_stages: int = 0,
    ):
        from torchvision.models.feature_extraction import create_feature_extractor

        if not isinstance(weights, str | Path | None):
            raise ModelConfigError(f"{name}: weights must be a name of published weights or a file, got {weights!r}")
        maps, chosen = torchvision_maps(name), _nodes(name, nodes)
        frozen: set[str] = set()
        if frozen_stages:
            template = create_feature_extractor(_classifier(name), _nodes(name, None))
            frozen = frozen_parameters(name, template, frozen_stages, TRACE_SIZE, 3)
        net = create_feature_extractor(_classifier(name, weights, meta=False), chosen)
        super().__init__(name, net, [maps[n][0] for n in chosen], maps[chosen[0]][2], frozen)
        self.pretrained = weights  # decides the default of backbone_lr_ratio


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


def _nodes(name: str, nodes: Sequence[int] | Sequence[str] | int | str | None) -> list[str]:
    """Return the names of the modules whose outputs are the maps."""
    maps = torchvision_maps(name)
    layouts = [last for _, stride, last in maps.values() if stride in STRIDES]
    usual = layouts.count(True) > layouts.count(False)
    default = {stride: path for path, (_, stride, last) in maps.items() if stride in STRIDES and last == usual}
    found = [default[stride] for stride in sorted(default)]
    if not found:
        raise ModelConfigError(f"{name}: none of its modules outputs a map (B, C, H, W) at a stride of {STRIDES}")
    if nodes is None:
        return found
    chosen = [nodes] if isinstance(nodes, int | str) else list(nodes)
    chosen = [found[n] if isinstance(n, int) and -len(found) <= n < len(found) else n for n in chosen]
    for node in chosen:
        if node not in maps:
            raise ModelConfigError(f"{name}: no module {node!r} outputs a map{did_you_mean(str(node), maps)}")
    if not 1 <= len(chosen) <= MAX_MAPS:
        raise ModelConfigError(f"{name}: nodes must name 1 to {MAX_MAPS} maps, got {len(chosen)}")
    return chosen


def _classifier(name: str, weights: str | None = None, meta: bool = True) -> nn.Module:
    """Build a classifier of torchvision: on the meta device in eval mode, or with its weights."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise ModelConfigError(f"torchvision.models has no classifier {name!r}{did_you_mean(str(name), known)}")
    quick = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}  # else minutes of scipy
    if meta:
        return models.get_model(name, weights=None, **quick).eval().to("meta")
    if weights is None or Path(weights).suffix:
        net = models.get_model(name, weights=None, **quick)
        if weights is not None:
            load_matching(net, read_state_dict(weights), origin=str(weights))
        return net
    published = list(models.get_model_weights(name).__members__)
    if weights not in published:
        raise ModelConfigError(f"{name}: no weights {weights!r}{did_you_mean(weights, published)}; known: {published}")
    try:
        return models.get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"{name}: its weights {weights} cannot be downloaded ({error_line(error)}); "
            "leave weights out, or pass the path of a weights file"
        ) from error


def error_line(error: Exception | None) -> str:
    """Return the type of an error and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"
