"""Any network of timm (https://github.com/huggingface/pytorch-image-models) that gives features, as a backbone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    layout,
)
from ultralytics.nn.plans import LayerSpec, RowContext
from ultralytics.nn.registry import register
from ultralytics.nn.weights import read_state_dict
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import MissingPackageError, ModelConfigError, WeightsError, did_you_mean

SIZE = (640, 640)  # for which a network that accepts one size only is built
OTHER_SIZE = (480, 320)  # a second one that tells whether it accepts any


def plan(
    ctx: RowContext,
    name: str,
    pretrained: bool | str = False,
    out_indices: Sequence[int] | None = None,
    frozen_stages: int = 0,
) -> LayerSpec:
    """`[name, pretrained, out_indices, frozen_stages]`; the channels are those of timm's `feature_info`."""
    ctx.require_once()
    size = tuple(ctx.sizes[0]) if ctx.sizes else SIZE
    recipe = study(name, _as_tuple(out_indices), ctx.c1, size)
    extra = {"channels": ctx.c1, "img_size": size}
    return LayerSpec((name, pretrained, out_indices, frozen_stages), recipe.widths, kwargs=extra)


@register(plan)
class TimmBackbone(FeatureBackbone):
    """A network of timm, built by `timm.create_model(name, features_only=True)`.

    Args:
        name: with or without a tag, such as `resnet18` or `resnet18.a1_in1k`.
        pretrained: True for timm's own weights, which are downloaded once; or a file with the weights of this network.
        out_indices: numbers of the features of the network; None for timm's own choice, the last five of it.
        frozen_stages: freeze all that the first n features of timm's own choice depend on; 0 trains everything.
        channels: of the image.
        img_size: height and width, which matter to the few networks that accept one size only.
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
        if not isinstance(pretrained, bool | str | Path):  # a number would pass for True, and download
            raise ModelConfigError(f"{name}: pretrained is True, False or the path of a file, got {pretrained!r}")
        recipe = study(name, _as_tuple(out_indices), channels, tuple(img_size))
        check_frozen(name, frozen_stages, len(_features(name, channels)))
        stages = stages_of(name, channels, tuple(img_size)) if frozen_stages else ()
        super().__init__(name, _create(name, pretrained, recipe.options), recipe, stages, frozen_stages)
        self.pretrained = pretrained  # the trainer's rate for the backbone depends on it


@lru_cache(maxsize=64)
def study(
    name: str,
    out_indices: tuple[int, ...] | None = None,
    channels: int = 3,
    size: tuple[int, int] = SIZE,
) -> Recipe:
    """How to build a network and what it gives: the first way that runs for two image sizes on the meta device.

    Raises:
        ModelConfigError: there is no such network, it gives no features, or no way of building it runs.
    """
    indices = _last_five(name, channels) if out_indices is None else out_indices
    if not 1 <= len(indices) <= MOST_MAPS:
        raise ModelConfigError(f"{name}: out_indices names 1 to {MOST_MAPS} features, got {list(indices)}")
    common = {"out_indices": indices, "in_chans": channels}
    first = _on_meta(name, common)
    if isinstance(first, Exception):
        raise ModelConfigError(f"{name}: out_indices {list(indices)} does not fit it: {error_line(first)}") from first
    widths, strides = tuple(first.feature_info.channels()), tuple(first.feature_info.reduction())
    failure: Exception | None = None
    for options, multiple, sizes in _ways(first, strides, size):
        answer = _trial(name, {**common, **options}, multiple, sizes, widths, strides)
        if isinstance(answer, bool):
            fixed = size if len(sizes) == 1 else None
            return Recipe(widths, strides, {**common, **options}, multiple, fixed, answer)
        failure = failure or answer
    raise ModelConfigError(
        f"{name}: does not run as a backbone for {size[0]}x{size[1]}: {error_line(failure)}"
    ) from failure


def _ways(
    net: nn.Module, strides: Sequence[int], size: tuple[int, int]
) -> Iterator[tuple[dict[str, Any], int, list[tuple[int, int]]]]:
    """Options, padding and image sizes to try: timm's options for any size first, a fixed size last."""
    any_size = [size, OTHER_SIZE]
    for multiple in (1, max(strides), 2 * max(strides)):
        for options in ({}, {"dynamic_img_size": True}, {"strict_img_size": False}):
            yield options, multiple, any_size
    # Windows tile an image that is a multiple of the size for which the network was published.
    from timm.models import get_model_input_config

    own = max(get_model_input_config(net)["input_size"][1:])
    yield {}, own, any_size
    yield {"img_size": size}, 1, [size]
    yield {}, 1, [size]


def _trial(
    name: str,
    options: dict[str, Any],
    multiple: int,
    sizes: Sequence[tuple[int, int]],
    widths: Sequence[int],
    strides: Sequence[int],
) -> bool | Exception:
    """Whether its maps are channels-last; or what is wrong with this way of building it."""
    net = _on_meta(name, options)
    if isinstance(net, Exception):
        return net
    answers = set()
    for size in sizes:
        padded = tuple(-(-side // multiple) * multiple for side in size)
        try:
            with torch.no_grad():
                maps = net(torch.empty(1, options["in_chans"], *padded, device="meta"))
        except TRIAL_ERRORS as error:
            return error
        answers.add(layout(maps, widths, strides, padded))
        if None in answers:
            shapes = [tuple(m.shape[1:]) for m in maps]
            return ValueError(f"its maps are {shapes}, its feature_info says channels {widths} at strides {strides}")
    if any("rel_pos_h" in key for key, _ in net.named_parameters()):
        # Tables that are read by index: on the meta device no index is out of range.
        net = _create(name, False, options).eval()
        try:
            with torch.no_grad():
                for height, width in sizes:
                    net(torch.zeros(1, options["in_chans"], height, width))
        except TRIAL_ERRORS as error:
            return error
    return answers.pop() if len(answers) == 1 else ValueError("the order of its axes changes with the image size")


@lru_cache(maxsize=256)
def _features(name: str, channels: int) -> tuple[int, ...]:
    """Numbers of the features that timm chooses by default; also the check that the name is one.

    Raises:
        ModelConfigError: timm has no such network, or it gives no features.
    """
    timm = _timm()
    if not isinstance(name, str) or not timm.is_model(name):
        near = did_you_mean(name, [*timm.list_models(), *timm.list_pretrained()])
        raise ModelConfigError(f"timm {timm.__version__} has no network {name!r}{near}")
    net = _on_meta(name, {"in_chans": channels})
    if isinstance(net, Exception):
        raise ModelConfigError(f"{name}: timm gives no features of it: {error_line(net)}") from net
    return tuple(net.feature_info.out_indices)


def _last_five(name: str, channels: int) -> tuple[int, ...]:
    return _features(name, channels)[-MOST_MAPS:]


def stages_of(name: str, channels: int = 3, size: tuple[int, int] = SIZE) -> list[set[str]]:
    """Names of the parameters that each feature of timm's own choice depends on."""
    recipe = study(name, None, channels, size)
    net = _on_meta(name, {**recipe.options, "out_indices": _features(name, channels)})
    padded = (-(-side // recipe.multiple) * recipe.multiple for side in size)
    return dependencies(net, net(torch.empty(1, channels, *padded, device="meta")))


def _on_meta(name: str, options: dict[str, Any]) -> nn.Module | Exception:
    """The network in eval mode without storage, or the error of its constructor."""
    try:
        with torch.device("meta"):
            return _timm().create_model(name, features_only=True, **options).eval()
    except TRIAL_ERRORS as error:
        return error


def _create(name: str, pretrained: bool | str, options: dict[str, Any]) -> nn.Module:
    """The network with its weights."""
    create = _timm().create_model
    if isinstance(pretrained, str | Path):
        weights = _weights_of_file(name, pretrained)
        options = {**options, "pretrained_cfg_overlay": {"state_dict": weights}}
    try:
        return create(name, features_only=True, pretrained=bool(pretrained), **options)
    except (*TRIAL_ERRORS, OSError) as error:  # connections, the hub's errors and missing files are OSErrors
        if not pretrained:
            raise ModelConfigError(f"{name}: timm cannot build it: {error_line(error)}") from error
        if isinstance(pretrained, str | Path):
            raise WeightsError(f"{pretrained}: does not fit {name}: {error_line(error)}") from error
        raise WeightsError(
            f"{name}: its weights cannot be downloaded ({error_line(error)}); "
            f"use pretrained=False, or the path of a file that holds them"
        ) from error


def _weights_of_file(name: str, file: str | Path) -> dict[str, Tensor]:
    """Tensors of a file, some of which have to be of this network; timm fits sizes and leaves the classifier out."""
    source = read_state_dict(file)
    with torch.device("meta"):
        known = _timm().create_model(name).state_dict()
    matching = [key for key in source if key in known]
    if not any(source[key].is_floating_point() for key in matching):
        raise WeightsError(
            f"{file}: none of its {len(source)} tensors has a name of timm's {name}, "
            f"for example {next(iter(source))!r}; is it a file of another network?"
        )
    LOGGER.info(
        f"{file}: {len(matching)} of {len(source)} tensors are of {name}, which has {len(known)} with its classifier"
    )
    return source


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise MissingPackageError("TimmBackbone needs timm: pip install timm") from error
    return timm


def _as_tuple(out_indices: Sequence[int] | int | None) -> tuple[int, ...] | None:
    if out_indices is None:
        return None
    indices = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
    if not all(type(index) is int for index in indices):
        raise ModelConfigError(f"TimmBackbone: out_indices is a list of whole numbers, got {out_indices!r}")
    return indices
