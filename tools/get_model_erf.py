"""Measure the effective receptive field of layers: figure, and the squares with 20, 30, 50 and 99 % of it.

    python tools/get_model_erf.py --weights best.pt --dataset images/ --num_images 50 --layer 4

The same as `yolo erf model=best.pt source=images/`.
"""

from ultralytics.cli import run_script
from ultralytics.tools.explain.receptive_field import command

if __name__ == "__main__":
    names = {"weights": "model", "weight": "model", "layer": "layers", "dataset": "source", "num_images": "images"}
    run_script(command, __doc__, aliases=names)
