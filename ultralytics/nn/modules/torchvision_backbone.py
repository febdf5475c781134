"""Classifiers of torchvision as backbones, cut where the stride changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.backbones import (
    MOST_MAPS,
    TRIAL_ERRORS,
    FeatureBackbone,
    Recipe,
    check_frozen,
    dependencies,
    error_line,
)
from ultralytics.nn.plans import LayerSpec, RowContext
from ultralytics.nn.registry import register
from ultralytics.nn.weights import load_matching, read_state_dict
from ultralytics.utils.errors import MissingPackageError, ModelConfigError, WeightsError, did_you_mean

SIZE = (640, 320)  # of the image for which the maps are traced; it is not square, which tells the axes apart
STRIDES = (2, 4, 8, 16, 32)
CLASSIFIERS = ("classifier", "fc", "head", "heads")


def plan(
    ctx: RowContext,
    name: str,
    weights: str | None = None,
    nodes: Sequence[int] | Sequence[str] | None = None,
    frozen_stages: int = 0,
) -> LayerSpec:
    """`[name, weights, nodes, frozen_stages]`; the channels are those that a run on the meta device gives."""
    ctx.require_once()
    if ctx.c1 != 3:
        raise ModelConfigError(f"networks of torchvision read images of 3 channels, got {ctx.c1}")
    return LayerSpec((name, weights, nodes, frozen_stages), study(name, _as_tuple(nodes)).widths)


@register(plan)
class TorchVisionBackbone(FeatureBackbone):
    """A classifier of `torchvision.models` up to the last map of each stride, by its feature extractor.

    Args:
        name: such as `resnet18`.
        weights: `DEFAULT` or the name of one of its published weights, which are downloaded once; or a file.
        nodes: modules whose outputs are the maps, such as [layer2, layer3, layer4]; or numbers among the maps that are
            found without it; None for the last map of each stride 2, 4, 8, 16, 32.
        frozen_stages: freeze all that the first n maps found without `nodes` depend on; 0 trains everything.
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
            raise ModelConfigError(f"{name}: weights is DEFAULT, a name of its weights or a file, got {weights!r}")
        recipe, whole = study(name, _as_tuple(nodes)), study(name)
        check_frozen(name, frozen_stages, len(whole.nodes))
        stages: list[set[str]] = []
        if frozen_stages:
            twin = create_feature_extractor(_on_meta(name), _returned(whole.nodes))
            stages = dependencies(twin, list(twin(torch.empty(1, 3, *SIZE, device="meta")).values()))
        net = create_feature_extractor(_create(name, weights), _returned(recipe.nodes))
        super().__init__(name, net, recipe, stages, frozen_stages)
        self.pretrained = weights  # the trainer's rate for the backbone depends on it


@lru_cache(maxsize=64)
def study(name: str, nodes: tuple[int | str, ...] | None = None) -> Recipe:
    """Maps of a classifier: which modules give them, their channels and strides, from one run on the meta device.

    Raises:
        ModelConfigError: there is no such classifier, it gives no maps, or `nodes` names others than it has.
    """
    net = _on_meta(name)
    maps = _traced(name, net)
    order = [channels_last for _, stride, channels_last in maps.values() if stride in STRIDES]
    usual = order.count(True) > order.count(False)  # Swin ends with a change of the order, which is left out
    last = {stride: m for m, (_, stride, channels_last) in maps.items() if stride in STRIDES and channels_last == usual}
    found = [last[stride] for stride in sorted(last)]
    if not found:
        raise ModelConfigError(f"{name}: no module of it gives a map (B, C, H, W) at a stride of {STRIDES}")
    chosen = found if nodes is None else [_node(name, node, found, maps) for node in nodes]
    if not 1 <= len(chosen) <= MOST_MAPS:
        raise ModelConfigError(f"{name}: nodes names 1 to {MOST_MAPS} maps, got {len(chosen)}")
    widths, strides, last_axis = zip(*(maps[module] for module in chosen), strict=True)
    if len(set(last_axis)) > 1:
        raise ModelConfigError(f"{name}: the maps of {chosen} differ in the order of their axes")
    return Recipe(widths, strides, channels_last=last_axis[0], nodes=tuple(chosen))


def _node(name: str, node: int | str, found: Sequence[str], maps: dict[str, tuple[int, int, bool]]) -> str:
    if isinstance(node, int) and not isinstance(node, bool):
        if not -len(found) <= node < len(found):
            raise ModelConfigError(f"{name}: no map {node}; it has 0 to {len(found) - 1}: {', '.join(found)}")
        return found[node]
    if node not in maps:
        raise ModelConfigError(f"{name}: no module {node!r} that gives a map{did_you_mean(str(node), maps)}")
    return node


def _traced(name: str, net: nn.Module) -> dict[str, tuple[int, int, bool]]:
    """Channels, stride and whether channels come last, by the name of each module that gives a map, in running order.

    Only the parts of the network and the members of its lists count: inside a block stand maps, such as the widened
    one of a mobile block, that are not the result of a stage.
    """
    maps: dict[str, tuple[int, int, bool]] = {}
    lists = nn.Sequential | nn.ModuleList | nn.ModuleDict

    def watch(module: nn.Module, path: str) -> None:
        def note(_: nn.Module, __: Any, output: Any) -> None:
            if (found := _as_map(output)) is not None:
                maps.pop(path, None)
                maps[path] = found

        module.register_forward_hook(note)

    for path, child in net.named_children():
        if path in CLASSIFIERS:  # SqueezeNet's gives a map, too, of the classes
            continue
        watch(child, path)
        for step, grandchild in child.named_children() if isinstance(child, lists) else ():
            watch(grandchild, f"{path}.{step}")
    try:
        with torch.no_grad():
            net(torch.empty(1, 3, *SIZE, device="meta"))
    except TRIAL_ERRORS as error:
        raise ModelConfigError(f"{name}: does not run for {SIZE[0]}x{SIZE[1]} pixels: {error_line(error)}") from error
    return maps


def _as_map(output: Any) -> tuple[int, int, bool] | None:
    """Channels, stride and whether channels come last of a map of an image of SIZE; None for anything else."""
    if not isinstance(output, Tensor) or output.ndim != 4:
        return None
    _, a, b, c = output.shape
    for channels_last, (channels, height, width) in ((False, (a, b, c)), (True, (c, a, b))):
        if min(height, width) > 1:
            strides = {2 ** round(math.log2(side / n)) for side, n in zip(SIZE, (height, width), strict=True)}
            if len(strides) == 1 and 1.7 < height / width < 2.4:
                return channels, int(strides.pop()), channels_last
    return None


def _returned(nodes: Sequence[str]) -> dict[str, str]:
    return {node: str(number) for number, node in enumerate(nodes)}


def _names() -> list[str]:
    models = _torchvision().models
    return models.list_models(module=models)


def _on_meta(name: str) -> nn.Module:
    """The classifier in eval mode without storage."""
    if name not in _names():
        raise ModelConfigError(f"torchvision.models has no classifier {name!r}{did_you_mean(name, _names())}")
    get_model = _torchvision().models.get_model
    try:
        with torch.device("meta"):
            return get_model(name, weights=None, **_quick(name)).eval()
    except NotImplementedError:  # RegNet works its widths out with tensors
        return get_model(name, weights=None).eval().to("meta")


def _quick(name: str) -> dict[str, Any]:
    """Arguments without which two classifiers draw truncated normal weights by SciPy, for minutes."""
    return {"init_weights": False} if name in ("googlenet", "inception_v3") else {}


def _create(name: str, weights: str | None) -> nn.Module:
    """The classifier with its weights."""
    models = _torchvision().models
    if weights is None or Path(weights).suffix:
        net = models.get_model(name, weights=None, **_quick(name))
        if weights is not None:
            load_matching(net, read_state_dict(weights), origin=str(weights))
        return net
    published = models.get_model_weights(name)
    if weights not in published.__members__:
        known = list(published.__members__)
        raise ModelConfigError(
            f"{name}: no weights {weights!r}{did_you_mean(weights, known)}; it has {', '.join(known)}"
        )
    try:
        return models.get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:  # no connection; or a file whose hash is not the published one
        raise WeightsError(
            f"{name}: its weights {weights} cannot be downloaded ({error_line(error)}); "
            f"leave weights out, or give the path of a file that holds them"
        ) from error


def _torchvision() -> Any:
    try:
        import torchvision
    except ImportError as error:
        raise MissingPackageError("TorchVisionBackbone needs torchvision: pip install torchvision") from error
    return torchvision


def _as_tuple(nodes: Sequence[int] | Sequence[str] | int | str | None) -> tuple[int | str, ...] | None:
    if nodes is None:
        return None
    return (nodes,) if isinstance(nodes, int | str) else tuple(nodes)
