"""Convert YOLO labels to COCO json, with the ids of `yolo val save_json=True`.

    python tools/dataset/yolo2coco.py --data my.yaml --split val --save val.json
    python tools/dataset/yolo2coco.py --images images/val --classes classes.txt --save val.json

The same as `yolo yolo2coco data=my.yaml`.
"""

from ultralytics.cli import run_script
from ultralytics.tools.yolo2coco import command

if __name__ == "__main__":
    run_script(command, __doc__, aliases={"image_path": "images", "label_path": "labels", "save_path": "save"})
