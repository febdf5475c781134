"""What a script has replaced or overridden of the published package, so that it is used, or reported if it is not."""

import inspect
import logging
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from ultralytics.utils.public import NAMES, PLACED

BUILDER, DATASET_NAMES = "build_yolo_dataset", {"letterbox": "YOLODataset", "stretch": "RTDETRDataset"}  # by `resize`
LOSS_PARTS = ("v8DetectionLoss", "BboxLoss", "DFLoss", "TaskAlignedAssigner", "utils.loss.bbox_iou")
# a script may assign to these, in any module unless it is named, and training uses it
REPLACEABLE = (
    *LOSS_PARTS, "DetectionModel", "E2ELoss", "RTDETRDataset", "RTDETRDetectionLoss", "RTDETRDetectionModel",
    "ap_per_class", "build_dataloader", "build_yolo_dataset", "non_max_suppression", "v8_transforms", "YOLODataset",
    "utils.tal.bbox_iou", "data.augment.Albumentations",
)  # fmt: skip
UNCALLED = {  # published methods that are not called here, by what to override
    "forward": "get_pos_mask get_box_metrics select_candidates_in_gts select_topk_candidates select_highest_overlaps "
    "get_targets _get_loss _get_loss_aux _get_loss_bbox _get_loss_class",
    "get_labels": "cache_labels verify_labels get_label_files cache_images cache_images_to_disk set_rectangle",
    "eval_json": "coco_evaluate", "write_results": "save_predicted_images show", "save_metrics": "read_results_csv",
}  # fmt: skip


class Default(partial):
    """Attribute that a function of the object computes until a subclass of a script sets it."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else self(instance)


class Overridable:
    """Base of classes that warn of an overridden published method that is not called here."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        for own, names in UNCALLED.items():
            for name in sorted(vars(cls).keys() & names.split()):
                if hasattr(cls, own) and own not in vars(cls) and not any(hasattr(b, name) for b in cls.__bases__):
                    logger = logging.getLogger(__name__.partition(".")[0])
                    logger.warning(f"{cls.__name__}.{name} is not called here; override {own}")


def replacements(name: str | None = None) -> dict[str, object]:
    """Return the classes and functions of a script in place of public names, by place: `ultralytics.data.LetterBox`.

    With `name` only those of a public name, or of one in a module such as `utils.loss.bbox_iou`.
    """
    own, (module, _, short) = __name__.partition(".")[0], (name or "").rpartition(".")
    places = ({f"{own}.{module}"} if module else PLACED) & sys.modules.keys()
    members, names = {place: vars(sys.modules[place]) for place in places}, {short} if name else NAMES.keys()
    found = {f"{place}.{n}": members[place][n] for place in members for n in members[place].keys() & names}
    return {n: x for n, x in found.items() if callable(x) and not str(getattr(x, "__module__", own)).startswith(own)}


def replaced(name: str) -> object | None:
    """Return what a script has assigned to a public name, in any module or in that before it; None if nothing."""
    return next(iter(replacements(name).values()), None)


def accepted(call: Callable[..., object], **given: object) -> dict[str, object]:
    """Return the arguments that a function or class of a script takes; those of older releases lack some."""
    taken = inspect.signature(call).parameters
    return {name: value for name, value in given.items() if name in taken or "kwargs" in taken}


def unused_replacements() -> list[str]:
    """Return a warning for each name that a script has replaced without an effect, see REPLACEABLE."""
    places = {*replacements()}
    places -= {place for name in REPLACEABLE if places for place in replacements(name)}
    return [f"{place} was replaced, which has no effect here; override a method" for place in sorted(places)]
