"""Train RT-DETR. Edit this file, or say on the command line what differs:

    python train.py                                             the built-in data set, minutes on a CPU
    python train.py --data my.yaml --epochs 72 --batch 4        your data, the paper's recipe
    python train.py --model my-model.yaml --data my.yaml        your model
    python train.py --resume runs/detect/train/weights/last.pt  go on with a run that was stopped

Every option is explained by `yolo cfg`. The same in a file of your own:

    from ultralytics import RTDETR

    model = RTDETR("rtdetr-efficientvit-m0.yaml")
    model.train(data="my.yaml", cache=False, imgsz=640, epochs=72, batch=4, workers=0, device="0",
                project="runs/RT-DETR-train", name="exp")
"""

from ultralytics import RTDETR
from ultralytics.cli import run_script
from ultralytics.utils import LOGGER
from ultralytics.utils.files import resumed_weights

MODEL = "rtdetr-efficientvit-m0.yaml"  # a name from ultralytics/cfg/models/rt-detr, or the path of your YAML

# For the built-in data set only: small images, few queries and a high rate that falls along a cosine, so that two CPU
# cores see it work within ten minutes. With data= or resume= on the command line `yolo cfg`'s defaults hold instead.
SHAPES_RECIPE = {
    "data": "shapes.yaml",
    "imgsz": 160,
    "epochs": 10,
    "batch": 8,
    "nbs": 8,  # a step of the optimiser for every batch
    "queries": 40,  # an image has at most six objects
    "denoising": 30,
    "lr0": 5e-4,
    "lrf": 0.05,
    "cos_lr": True,
    "ema_decay": 0.98,  # the run has 500 steps; the paper's average would still remember the first ones
    "ema_warmup": 50,
    "mosaic": 0.0,
    "multi_scale": False,
    "scale": 0.3,
    "cache": True,
    "workers": 0,
}


def main(**given: object) -> None:
    """Train with the options given on the command line."""
    own_run = {"data", "resume"} & set(given)
    options = given if own_run else {**SHAPES_RECIPE, **given}
    if not own_run:
        LOGGER.info("No data= given: training on the built-in shapes.yaml with SHAPES_RECIPE of train.py")
    model = RTDETR(options.pop("model", None) or resumed_weights(options.get("resume")) or MODEL)
    model.train(**options)


if __name__ == "__main__":
    run_script(main, __doc__)
