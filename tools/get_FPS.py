"""Measure the speed of a network: latency in both forms, images per second, memory.

    python tools/get_FPS.py --weights runs/detect/train/weights/best.pt --imgsz 640 --batch 1 --device 0 --half
    python tools/get_FPS.py --model rtdetr-r18.yaml --warmup 20 --repeats 100 --device cpu

The same as `yolo fps model=... imgsz=640 batch=1`. Random images are used; loading and drawing are not measured.
"""

from ultralytics.cli import run_script
from ultralytics.tools.fps import command

if __name__ == "__main__":
    run_script(command, __doc__, aliases={"weights": "model", "testtime": "repeats"})
