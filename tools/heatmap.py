"""Draw class-activation maps of detections over images. Needs `pip install grad-cam`.

    python tools/heatmap.py --weights best.pt --source image.jpg
    python tools/heatmap.py --weights best.pt --source folder/ --method LayerCAM --layers 16,19,22 --target all

The same as `yolo heatmap model=best.pt source=image.jpg`. The pictures are written to runs/heatmap.
"""

from ultralytics.cli import run_script
from ultralytics.tools.explain.heatmap import command

if __name__ == "__main__":
    run_script(command, __doc__, aliases={"weights": "model"})
