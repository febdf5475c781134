"""Options that people know from the package whose interface this keeps, and what to do instead of them here.

None of them is accepted and ignored: a run whose option had no effect would be reported as if it had.
"""

from __future__ import annotations

from types import MappingProxyType

# Other people's names for options that exist here.
RENAMED = MappingProxyType(
    {
        "weights": "model",
        "batch_size": "batch",
        "bs": "batch",
        "img": "imgsz",
        "img_size": "imgsz",
        "image_size": "imgsz",
        "lr": "lr0",
        "learning_rate": "lr0",
        "num_workers": "workers",
        "num_queries": "queries",
        "nq": "queries",
        "num_denoising": "denoising",
        "nd": "denoising",
        "grad_clip": "clip_grad",
        "clip_max_norm": "clip_grad",
        "conf_thres": "conf",
        "conf_threshold": "conf",
        "boxes": "show_boxes",
        "view_img": "show",
        "line_thickness": "line_width",
        "frozen": "freeze",
    }
)

_NO_NMS = "RT-DETR predicts a set of objects and has no NMS. Fewer boxes: raise conf or lower max_det"
_NO_MASKS = "it belongs to segmentation models, and this package detects boxes"
_NO_POSES = "it belongs to pose models, and this package detects boxes"
_CLASSIFIER = "it belongs to classification models. For boxes see hsv_*, scale, mosaic and mixup"
_YOLO_LOSS = "it weighs a loss of YOLO. RT-DETR's losses are weighed by loss_cls, loss_bbox and loss_giou"
_TF = "there is no export to TensorFlow. See `yolo cfg` for format"
_NO_TRACKING = "there is no tracking here. `yolo predict` detects in each frame of a video"
_WARMUP = "RT-DETR warms up by iterations and on the learning rate only. Set warmup_iters (default 2000)"

RETIRED = MappingProxyType(
    {
        "iou": _NO_NMS,
        "agnostic_nms": _NO_NMS,
        "nms": _NO_NMS,
        "save_hybrid": _NO_NMS,
        "box": _YOLO_LOSS,
        "cls": _YOLO_LOSS,
        "cls_pw": _YOLO_LOSS,
        "dfl": _YOLO_LOSS,
        "pose": _NO_POSES,
        "kobj": _NO_POSES,
        "rle": _NO_POSES,
        "angle": "it belongs to oriented boxes, and this package detects upright boxes",
        "label_smoothing": "the varifocal loss takes its targets from the IoU, so there are no labels to smooth",
        "warmup_epochs": _WARMUP,
        "warmup_momentum": _WARMUP,
        "warmup_bias_lr": _WARMUP,
        "overlap_mask": _NO_MASKS,
        "mask_ratio": _NO_MASKS,
        "retina_masks": _NO_MASKS,
        "copy_paste": "it pastes objects along their masks, and boxes have none. Use mosaic or mixup",
        "copy_paste_mode": "it pastes objects along their masks, and boxes have none. Use mosaic or mixup",
        "cutmix": "not there. Use mosaic or mixup",
        "bgr": "not there: images are always RGB to the network. For colour changes use hsv_h, hsv_s and hsv_v",
        "dropout": "the published RT-DETR has none. Inside a model YAML, modules take dropout as an argument",
        "auto_augment": _CLASSIFIER,
        "erasing": _CLASSIFIER,
        "crop_fraction": _CLASSIFIER,
        "augmentations": "augmentation is set by hsv_*, degrees, translate, scale, shear, flips, mosaic and mixup",
        "tracker": _NO_TRACKING,
        "persist": _NO_TRACKING,
        "keras": _TF,
        "optimize": "it is for TorchScript on phones. Exports here are folded always, nothing to switch on",
        "quantize": "write int8=True or half=True",
        "dnn": "ONNX models are run by onnxruntime. Leave it out",
        "profile": "nothing to switch on: val and predict always report the time per image, and "
        "RTDETR('...').info() the parameters and GFLOPs",
        "save_frames": "not there. predict writes the video with its boxes; frames can be cut with ffmpeg",
        "nosave": "write save=False",
        "hide_labels": "write show_labels=False",
        "hide_conf": "write show_conf=False",
        "end2end": "RT-DETR is end to end always",
    }
)

# Values of them that say how things are here; published examples of trainers assign them.
HOLDS_ANYWAY = MappingProxyType({"warmup_bias_lr": 0.0})
