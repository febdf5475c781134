"""Option names of other packages: what they are called here, or why they are not supported and what to use instead.

Unsupported options are errors and never ignored, so that no result is reported for an option without effect.
"""

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
    "show_boxes": "boxes",
    "show": "view_img",
    "line_width": "line_thickness",
    "freeze": "frozen",
}
RENAMED = {other: name for name, others in _OTHER_NAMES.items() for other in others.split()}

# Options that may be given, but only as False.
ALWAYS_OFF = {
    "rect": "RT-DETR resizes every image to a square of imgsz, in training and validation",
    "augment": "RT-DETR has no test-time augmentation",
}

# Assignments in published trainer examples that match the behavior here and are accepted.
NO_EFFECT = {"warmup_bias_lr": 0.0}

_REASONS = {
    "RT-DETR predicts a set of objects and needs no NMS. For fewer boxes raise conf or lower max_det": (
        "iou agnostic_nms nms save_hybrid"
    ),
    "it is a loss weight of YOLO. Use loss_cls, loss_bbox and loss_giou": "box cls cls_pw dfl",
    "it is for other tasks; this package detects upright boxes": (
        "pose kobj rle angle overlap_mask mask_ratio retina_masks copy_paste copy_paste_mode"
    ),
    "use hsv_*, degrees, translate, scale, shear, flipud, fliplr, mosaic and mixup": (
        "auto_augment erasing crop_fraction cutmix bgr augmentations"
    ),
    "the varifocal loss uses IoU targets, which label smoothing does not apply to": "label_smoothing",
    "RT-DETR warms up the learning rate by steps. Use warmup_iters": "warmup_epochs warmup_momentum warmup_bias_lr",
    "RT-DETR is trained without dropout. Modules take it as an argument in the model YAML": "dropout",
    "tracking is not implemented. `yolo predict` detects objects in each frame of a video": "tracker persist",
    "export has format, half, int8, dynamic and simplify": "keras optimize quantize dnn",
    "val and predict always report the time per image, and RTDETR(...).info() parameters and GFLOPs": "profile",
    "predict saves the annotated video; extract frames with ffmpeg": "save_frames",
    "use save=False, show_labels=False or show_conf=False": "nosave hide_labels hide_conf",
    "RT-DETR is always end-to-end": "end2end",
}
RETIRED = {name: reason for reason, names in _REASONS.items() for name in names.split()}
