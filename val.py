"""Validate a trained detector: summary table, curves and confusion matrix.

    python val.py --weights runs/detect/train/weights/best.pt
    python val.py --weights best.pt --data my.yaml --split test --imgsz 640 --batch 4

The default data set is that of the training. `yolo cfg` lists all options.

The run folder contains summary_table.txt, .md, .tex and .csv: parameters, GFLOPs, times of pre-processing, model and
post-processing, FPS, file size, and P, R, F1, mAP50, mAP75 and mAP50-95 of every class. To compare several runs:
`yolo table runs/detect/val runs/detect/val2`.
"""

from ultralytics.cli import run_script

WEIGHTS = "runs/detect/train/weights/best.pt"
OPTIONS = {"split": "val"}  # defaults of this script


def main(**given: object) -> None:
    """Validate with the options given on the command line."""
    from ultralytics.models import Model  # torch is imported after run_script has set up its threads

    options = {**OPTIONS, **given}
    code = {"modules": options.get("modules"), "trust": options.get("trust", False)}
    model = Model(options.pop("model", WEIGHTS), **code)
    model.val(**options)


if __name__ == "__main__":
    run_script(main, __doc__, aliases={"weights": "model"})
