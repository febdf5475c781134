"""Option names of other packages: what they are called here, or why they are not supported and what to use instead.

Unsupported options are errors, so that no result is reported without their effect. Only those that the published
package does not read for boxes either are left out, with a warning.
"""

from collections.abc import Mapping
from typing import Any

from ultralytics.utils import IterableSimpleNamespace

_OTHER_NAMES = {
    "model": "weights",
    "batch": "batch_size bs",
    "imgsz": "img img_size image_size",
    "lr0": "lr learning_rate",
    "workers": "num_workers",
    "queries": "num_queries nq",
    "denoising": "num_denoising nd",
    "clip_grad": "grad_clip clip_max_norm",
    "conf": "conf_thres conf_threshold",
    "show": "view_img",
    "freeze": "frozen",
}
RENAMED = {other: name for name, others in _OTHER_NAMES.items() for other in others.split()}

# Earlier names, which the published package accepts, too: the option, and whether the value is inverted.
DEPRECATED = {
    "boxes": ("show_boxes", False), "hide_labels": ("show_labels", True), "hide_conf": ("show_conf", True),
    "line_thickness": ("line_width", False),
}  # fmt: skip

PRECISIONS = {  # values of the published `quantize`: the option that is on
    **dict.fromkeys(("8", "int8", "w8a8"), "int8"), **dict.fromkeys(("16", "fp16", "w16a16"), "half"),
}  # fmt: skip

_REASONS = {
    "it is for validation with given labels; validate without it": "save_hybrid",
    "it is for other tasks; this package detects upright boxes": (
        "pose kobj rle angle overlap_mask mask_ratio retina_masks copy_paste copy_paste_mode auto_augment erasing "
        "crop_fraction"
    ),
    "use hsv_*, degrees, translate, scale, shear, flipud, fliplr, mosaic, mixup, cutmix and augmentations": "bgr",
    "the classification losses have IoU targets, which label smoothing does not apply to": "label_smoothing",
    "it is for classification. Modules take it as an argument in the model YAML": "dropout",
    "it is an argument of the method `track` of a model, for one frame a call": "persist",
    "export has format, half, int8, dynamic and simplify": "keras optimize dnn",
    "write 8 (int8), 16 (half) or 32": "quantize",
    "val and predict always report the time per image, and `info()` of a model parameters and GFLOPs": "profile",
    "use save=False": "nosave",
}
RETIRED = {name: reason for reason, names in _REASONS.items() for name in names.split()}
WITHOUT_EFFECT = {name for name, reason in RETIRED.items() if reason.startswith("it is for other tasks")}
WITHOUT_EFFECT |= {"dropout", "label_smoothing", "profile"}

# Options of the published package that have no effect here: at these values (its defaults), or off.
PUBLISHED_DEFAULTS = (
    ("pose", 12.0), ("kobj", 1.0), ("rle", 1.0), ("angle", 1.0), ("overlap_mask", True), ("mask_ratio", 4),
    ("retina_masks", True),
    ("copy_paste_mode", "flip"), ("auto_augment", "randaugment"), ("erasing", 0.4), ("crop_fraction", 1.0),
    ("tracker", "botsort.yaml"), ("tracker", "tracktrack.yaml"), ("cls_remap", True), ("channels_last", None),
    ("distill_model", None), ("dis", 6.0), ("dlog", 1.0), ("dgrad", 0.5), ("dlam", 1.0), ("cfg", None),
    ("quantize", 32),
)  # fmt: skip


def published_hyp(options: Mapping[str, Any]) -> IterableSimpleNamespace:
    """Return options with all published ones, such as `mask_ratio`, for methods of scripts that read or set them."""
    return IterableSimpleNamespace(**{**dict.fromkeys(RETIRED, 0.0), **dict(PUBLISHED_DEFAULTS), **options})


def has_no_effect(option: str, value: object) -> bool:
    """Check for an option of the published package that is off or at its default."""
    return (option in RETIRED and value in (None, False, "")) or (option, value) in PUBLISHED_DEFAULTS
