"""Load a weights file into a model, or a classifier's weights into its backbone, with a report."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.weights.imagenet import IMAGENET, imagenet_weights
from ultralytics.nn.weights.names import OWN_NAMES, NamingScheme, backbone_schemes, common_prefixes, detector_schemes
from ultralytics.nn.weights.read import Weights, as_weights, known_names, read_weights
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import WeightsError, counted
from ultralytics.utils.torch_utils import check_weights

# Tensors with one row per class: class scores of the heads, and the embedding of the denoising queries.
CLASS_ROWS = re.compile(
    r"(^|\.)(denoising_class_embed|\w*score_head(\.\d+)?|one_to_many\.score\.layers\.1|(one2one_)?cv3\.\d+\.2)\."
    r"(weight|bias)$"
)
CROPPED = "cropped to its center"  # the only change that loses something; it is warned about
LISTED = 8  # names of each kind in the log
Fitted = tuple[Tensor | None, str]  # a tensor and its change in words ('' for none), or None and the reason


def match_classes(source: Mapping[int, str], target: Mapping[int, str]) -> list[int | None]:
    """Return for each class of the model the class in the file with its name: case, `_`, `-` and spaces are ignored."""

    def plain(name: str) -> str:
        return re.sub(r"[\s_-]+", " ", str(name)).strip().casefold()

    indices = {plain(name): index for index, name in reversed(source.items())}
    return [indices.get(plain(name)) for name in target.values()]


def fit(name: str, value: Tensor, target: Tensor | None, classes: Sequence[int | None] | None = None) -> Fitted:
    """Return the tensor in the shape of `target`, the model's tensor of this name.

    Attention biases are interpolated, depthwise kernels padded with zeros or cropped, rows of classes matched by name.
    """
    if target is None:
        return None, "no such name in the model"
    if classes is not None and CLASS_ROWS.search(name):
        return _move_classes(value, target, classes)
    if value.shape == target.shape:
        return value, ""
    if name.endswith("attention_biases"):
        return _resize_biases(value, target)
    if value.ndim == target.ndim == 4 and value.shape[:2] == target.shape[:2] and target.shape[1] == 1:
        return _resize_kernel(value, target)
    return None, _mismatch(value, target)


def _move_classes(value: Tensor, target: Tensor, classes: Sequence[int | None]) -> Fitted:
    """Copy the rows of common classes into the model's tensor."""
    ours = [index for index, row in enumerate(classes) if row is not None]
    theirs = [classes[index] for index in ours]
    if not ours:
        return None, "the model has none of the file's classes"
    if len(target) != len(classes) or len(value) <= max(theirs) or value.shape[1:] != target.shape[1:]:
        return None, _mismatch(value, target)
    if value.shape == target.shape and ours == theirs and len(ours) == len(target):
        return value, ""
    result = target.detach().clone().to(value.dtype)
    result[ours] = value[theirs]
    return result, f"{len(ours)} of {counted(len(target), 'class')} by name"


def _mismatch(value: Tensor, target: Tensor) -> str:
    return f"shape {tuple(value.shape)}, the model has {tuple(target.shape)}"


def _resize_biases(value: Tensor, target: Tensor) -> Fitted:
    """Interpolate attention biases by |dy|, |dx|, (heads, side * side), to a window of another size.

    Ends are aligned: the last windows of the published classifiers are smaller, but span the same pixels.
    """
    heads, old, new = len(target), math.isqrt(value.shape[-1]), math.isqrt(target.shape[-1])
    if value.shape != (heads, old * old) or target.shape != (heads, new * new):
        return None, _mismatch(value, target)
    table = value.float().view(1, heads, old, old)
    table = F.interpolate(table, (new, new), mode="bilinear", align_corners=True)  # (1, heads, new, new)
    return table.flatten(2)[0].to(value.dtype), f"window {old}x{old} interpolated to {new}x{new}"


def _resize_kernel(value: Tensor, target: Tensor) -> Fitted:
    """Pad or crop a depthwise kernel (C, 1, h, w) around its center.

    A padded kernel computes the same if the padding of the convolution grows with it. A cropped kernel does not.
    """
    (h, w), (height, width) = value.shape[2:], target.shape[2:]
    if (height - h) % 2 or (width - w) % 2:
        return None, f"kernel {h}x{w} has no center in common with the model's {height}x{width}"
    margins = ((width - w) // 2,) * 2 + ((height - h) // 2,) * 2  # negative margins crop
    how = f"{CROPPED} {height}x{width}" if min(margins) < 0 else f"padded with zeros to {height}x{width}"
    return F.pad(value, margins), f"kernel {h}x{w} {how}"


@dataclass(frozen=True)
class LoadReport:
    """Result of loading weights.

    Attributes:
        matched: names of tensors that were loaded unchanged.
        resized: names of tensors that were loaded after a change, with the change.
        left: names in the file of tensors that were not loaded, with the reason.
        missing: names of tensors of the model that keep their values.
        notes: further information, a sentence each.
    """

    matched: tuple[str, ...]
    resized: Mapping[str, str]
    left: Mapping[str, str]
    missing: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"{counted(len(self.matched), 'tensor')} loaded unchanged, {len(self.resized)} after a change of shape, "
            f"{len(self.left)} left in the file, {len(self.missing)} of the model not in the file"
        ]
        kinds = {
            "changed": [f"{name} ({how})" for name, how in self.resized.items()],
            "left": [f"{name} ({why})" for name, why in self.left.items()],
            "not in the file": self.missing,
        }
        for kind, names in kinds.items():
            more = ", ..." if len(names) > LISTED else ""
            lines += [f"  {kind}: {', '.join(names[:LISTED])}{more}"] if names else []
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def load_matching(
    model: nn.Module, tensors: Mapping[str, Tensor], *, origin: str = "weights", scheme: NamingScheme = OWN_NAMES,
    classes: Sequence[int | None] | None = None, within: Iterable[str] | None = None,
) -> LoadReport:  # fmt: skip
    """Load every tensor that fits a tensor of the model with the same name, and log a report.

    Args:
        origin: source of the tensors, for messages.
        scheme: mapping from names in the file to names in the model.
        classes: result of `match_classes`, for tensors with one row per class.
        within: names of the model's tensors to load; None for all.

    Raises:
        WeightsError: nothing fits, or values are not finite. The model is then unchanged.
    """
    state = model.state_dict()
    target = state if within is None else {name: state[name] for name in within}
    fitting, resized, left = {}, {}, {}
    for theirs, value in tensors.items():
        ours = scheme(theirs)
        fitted, text = fit(ours, value, target.get(ours), classes)
        if fitted is None:
            left[theirs] = text
            continue
        fitting[ours] = fitted
        if text:
            resized[ours] = text
    _check_fitting(fitting, left, origin, f"{type(model).__name__}, which has {len(state)}")
    implied = {name: value for name, value in scheme.implied.items() if name not in fitting}
    fitting.update(implied)
    resized.update(dict.fromkeys(implied, "set to the identity: the file's network has no layer here"))
    notes = [scheme.title, *match_epsilon(model, fitting, scheme.norm_eps)]
    if scheme.prefix != scheme.base:
        notes.append(f"names in the file start with {scheme.prefix!r}, names in the model with {scheme.base!r}")
    model.load_state_dict(fitting, strict=False)
    matched = tuple(name for name in fitting if name not in resized)
    missing = tuple(n for n, t in target.items() if n not in fitting and t.is_floating_point())  # others are counts
    report = LoadReport(matched, resized, left, missing, tuple(notes))
    _log(report, origin)
    return report


def _log(report: LoadReport, origin: str) -> None:
    LOGGER.info(f"{origin}: {report}")
    if cropped := [f"{name} ({how})" for name, how in report.resized.items() if CROPPED in how]:
        LOGGER.warning(
            f"{origin}: {counted(len(cropped), 'kernel')} larger than in the model, cropped, which changes the "
            f"output, for example {cropped[0]}"
        )
    loaded = len(report.matched) + len(report.resized)
    if 2 * len(report.missing) > loaded:  # less than two thirds
        LOGGER.warning(
            f"{origin}: {loaded} of {counted(loaded + len(report.missing), 'tensor')} of the model loaded, the others "
            "unchanged; is it a file of this network?"
        )


def _check_fitting(fitting: Mapping[str, Tensor], left: Mapping[str, str], origin: str, model: str) -> None:
    """Raise WeightsError if no weight fits, or one that fits has NaN or infinite values."""
    weights = {name: value for name, value in fitting.items() if value.is_floating_point()}
    if not weights:
        name, reason = next(iter(left.items()), ("", "the file is empty"))
        raise WeightsError(
            f"{origin}: none of its tensors fits {model}; for example {name!r}: {reason}. "
            "Is it a file of another model? For the weights of a classifier use backbone_weights="
        )
    check_weights(weights, origin)


def match_epsilon(model: nn.Module, tensors: dict[str, Tensor], eps: float | None) -> list[str]:
    """Change running variances v, trained with `eps`, to the model's epsilon: v + eps and the outputs stay the same.

    Returns a note for the report if any changed. A variance is never below minus the model's epsilon.
    """
    changed = 0
    for name, module in model.named_modules() if eps is not None else ():
        key = f"{name}.running_var"
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and key in tensors and module.eps != eps:
            value = tensors[key]
            tensors[key] = (value.double() + (eps - module.eps)).to(torch.promote_types(value.dtype, torch.float32))
            changed += 1
    note = f"running variances of {counted(changed, 'normalization')} moved by the difference to their epsilon {eps}"
    return [note] if changed else []


def load_weights(
    model: nn.Module, weights: str | Path | Weights, *, names: Mapping[int, str] | None = None
) -> LoadReport:
    """Load whatever fits of a weights file into a detection model, and log a report.

    Reads checkpoints of this package, published ones, state_dicts, and checkpoints of the official RT-DETR. Rows of
    classes are matched by class names if the file and the model have names.

    Args:
        weights: a file, or the result of `read_weights`.
        names: class names of the model, by default its own.

    Raises:
        WeightsError: the file cannot be read, or nothing in it fits.

    Examples:
        >>> from ultralytics.nn.tasks import RTDETRDetectionModel
        >>> source, target = (RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml", nc=nc) for nc in (80, 3))
        >>> report = load_weights(target, Weights(source.state_dict(), "coco.pt"))
        >>> report.left["model.19.enc_score_head.bias"]
        'shape (80,), the model has (3,)'
    """
    weights = as_weights(weights)
    ours = known_names(model.names if names is None else names)
    classes = match_classes(weights.names, ours) if weights.names and ours else None
    scheme = _best_scheme(detector_schemes(model), weights.tensors, model.state_dict())
    return load_matching(model, weights.tensors, origin=weights.origin, scheme=scheme, classes=classes)


def load_backbone(model: nn.Module, weights: str | Path | Weights) -> LoadReport:
    """Load a classifier's weights, by file or "imagenet", into the backbone of a detection model, and log a report.

    The naming scheme of the file, and a prefix such as `module.` or `encoder.`, are those by which most tensors fit.
    Layers that got weights have the file as their attribute `pretrained`.

    Raises:
        WeightsError: the file cannot be read, the model has no backbone, or nothing in the file fits it.
    """
    if weights == IMAGENET:
        weights = imagenet_weights(model)
    weights = weights if isinstance(weights, Weights) else read_weights(weights)
    target = {n: t for n, t in model.state_dict().items() if int(n.split(".")[1]) in model.backbone_layers}
    if not target:
        raise WeightsError(f"{weights.origin}: the model file has no layer with weights under `backbone`.")
    scheme = _best_scheme(backbone_schemes(model, weights.tensors, target), weights.tensors, target)
    report = load_matching(model, weights.tensors, origin=weights.origin, scheme=scheme, within=target)
    for index in {int(name.split(".")[1]) for name in (*report.matched, *report.resized)}:
        model.model[index].pretrained = weights.origin  # the trainer lowers the rate of a pretrained backbone
    return report


def _best_scheme(
    schemes: Iterable[NamingScheme], tensors: Mapping[str, Tensor], target: Mapping[str, Tensor]
) -> NamingScheme:
    """Return the scheme, with the file's prefix, by which most tensors fit the target."""

    def score(scheme: NamingScheme) -> tuple[int, int]:
        names = {scheme(name): value for name, value in tensors.items() if value.is_floating_point()}
        fitting = sum(fit(name, value, target.get(name))[0] is not None for name, value in names.items())
        return fitting, -len(scheme.prefix)

    prefixes = common_prefixes(tensors, share=0.15)
    return max((replace(scheme, prefix=prefix) for scheme in schemes for prefix in prefixes), key=score)
