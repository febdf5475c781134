"""Validate a trained RT-DETR: precision, recall and mAP for each class, curves and the confusion matrix.

    python val.py --weights runs/detect/train/weights/best.pt
    python val.py --weights best.pt --data my.yaml --split test --imgsz 640 --batch 4

Without --data, the data set that the weights were trained on. Every option is explained by `yolo cfg`.
"""

from ultralytics import RTDETR
from ultralytics.cfg.arguments import run_script

WEIGHTS = "runs/detect/train/weights/best.pt"
OPTIONS = {"split": "val"}  # what the command line does not say


def main(given: dict) -> None:
    """Validate with the options given on the command line."""
    options = {**OPTIONS, **given}
    model = RTDETR(options.pop("model", WEIGHTS))
    model.val(**options)


if __name__ == "__main__":
    run_script(main, __doc__, aliases={"weights": "model"})
