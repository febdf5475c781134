"""Compute COCO's official metrics (AP, AP50, AP75, small, medium, large, AR) from annotations and predictions.

    yolo val model=best.pt data=my.yaml save_json=True
    python tools/dataset/yolo2coco.py --data my.yaml --split val --save val.json
    python tools/get_COCO_metrice.py --anno_json val.json --pred_json runs/detect/val/predictions.json

The same as `yolo evaluate predictions.json annotations=val.json`; protocol=aitod, voc ... for other rules.
"""

from ultralytics.cli import run_script
from ultralytics.tools.evaluate import command

if __name__ == "__main__":
    run_script(command, __doc__, aliases={"anno_json": "annotations", "pred_json": "predictions"})
