"""Detect objects with a trained detector and save the images with their boxes.

    python detect.py --weights runs/detect/train/weights/best.pt --source image.jpg
    python detect.py --weights best.pt --source folder/       also 'pattern*.jpg', a video, or 0 for the camera
    python detect.py --weights best.pt --source folder/ --conf 0.5 --save_txt

`yolo cfg` lists all options.
"""

from ultralytics.cli import run_script

WEIGHTS = "runs/detect/train/weights/best.pt"
OPTIONS = {"conf": 0.25, "save": True}  # defaults of this script


def main(**given: object) -> None:
    """Detect with the options given on the command line."""
    from ultralytics.models import Model  # torch is imported after run_script has set up its threads

    options = {**OPTIONS, **given}
    code = {"modules": options.get("modules"), "trust": options.get("trust", False)}
    model = Model(options.pop("model", WEIGHTS), **code)
    # one image or frame at a time; each result has boxes.xyxy, boxes.conf and boxes.cls
    for _result in model.predict(stream=True, **options):
        pass


if __name__ == "__main__":
    run_script(main, __doc__, aliases={"weights": "model"})
