"""Train RT-DETR or YOLO. Edit this file, or set options on the command line:

    python train.py                                             built-in data set, minutes on a CPU
    python train.py --data my.yaml --epochs 72 --batch 4        your data, the paper's recipe
    python train.py --model my-model.yaml --data my.yaml        your model
    python train.py --model yolo11n.yaml --data my.yaml         a YOLO, by its published recipe
    python train.py --resume runs/detect/train/weights/last.pt  resume an interrupted run

`yolo cfg` explains every option. The same in Python:

    from ultralytics import RTDETR

    model = RTDETR("rtdetr-efficientvit-m0.yaml")
    model.train(data="my.yaml", cache=False, imgsz=640, epochs=72, batch=4, workers=0, device="0",
                project="runs/RT-DETR-train", name="exp")
"""

from ultralytics.cli import run_script
from ultralytics.utils import LOGGER
from ultralytics.utils.files import resumed_weights

MODEL = "rtdetr-efficientvit-m0.yaml"  # a name from ultralytics/cfg/models/rt-detr, or the path of your YAML

# For the built-in data set only: small images, few queries and a high learning rate with cosine decay, to learn within
# ten minutes on two CPU cores. With data= or resume= on the command line the defaults of `yolo cfg` are used.
SHAPES_RECIPE = {
    "data": "shapes.yaml",
    "imgsz": 160,
    "epochs": 10,
    "batch": 8,
    "nbs": 8,  # an optimizer step for every batch
    "lr0": 5e-4,
    "lrf": 0.05,
    "cos_lr": True,
    "ema_decay": 0.98,  # for 500 steps; the paper's 0.9999 averages over 10,000
    "ema_warmup": 50,
    "mosaic": 0.0,
    "multi_scale": False,
    "scale": 0.3,
    "cache": True,
    "workers": 0,
}
SHAPES_DECODER = {"queries": 40, "denoising": 30}  # of an RT-DETR: an image has at most six objects


def main(**given: object) -> None:
    """Train with the options of the command line."""
    from ultralytics.models import RTDETR, Model  # torch is imported after run_script has set up its threads

    is_own_run = bool({"data", "resume"} & set(given))
    name = given.pop("model", None) or resumed_weights(given.get("resume"), given.get("project")) or MODEL
    model = Model(name, modules=given.get("modules"), trust=given.get("trust", False))
    if not is_own_run:
        LOGGER.info("No data= given: training on the built-in shapes.yaml with SHAPES_RECIPE of train.py")
        given = {**SHAPES_RECIPE, **(SHAPES_DECODER if isinstance(model, RTDETR) else {}), **given}
    model.train(**given)


if __name__ == "__main__":
    run_script(main, __doc__)
