"""The option save_labels: predictions of images and videos as labels in the run folder."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from tests.engine.test_predictor import FixedModel, picture, predictor
from tests.interop.networks import untrained_weights
from ultralytics import RTDETR
from ultralytics.data.synthetic import generate_shapes
from ultralytics.utils.errors import OptionError


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "sources"
    folder.mkdir()
    for name, height, width in (("a.jpg", 40, 60), ("b.png", 30, 20)):
        cv2.imwrite(str(folder / name), picture(height, width))
    video = cv2.VideoWriter(str(folder / "film.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for value in range(3):
        video.write(np.full((48, 64, 3), 50 * value, np.uint8))
    video.release()
    return folder


def test_labels_of_images_and_frames_in_the_run_folder(tmp_path, sources):
    results = predictor(tmp_path, save_labels="coco,yolo")(sources, FixedModel())
    run = tmp_path / "runs" / "predict"
    data = json.loads((run / "coco" / "annotations" / "instances_predictions.json").read_text())
    sizes = {image["file_name"]: (image["width"], image["height"]) for image in data["images"]}
    frames = {f"film_{number}.jpg": (64, 48) for number in (1, 2, 3)}
    assert sizes == {"a.jpg": (60, 40), "b.png": (20, 30), **frames}
    assert len(data["annotations"]) == sum(len(result) for result in results) == 10
    of_a = next(image["id"] for image in data["images"] if image["file_name"] == "a.jpg")
    boxes = [a["bbox"] for a in data["annotations"] if a["image_id"] == of_a]
    assert boxes == [[15.0, 10.0, 30.0, 20.0], [9.0, 6.0, 6.0, 4.0]]  # centre 0.5, size 0.5; centre 0.2, size 0.1
    assert {f.stem for f in (run / "yolo" / "labels").iterdir()} == {"a", "b", "film_1", "film_2", "film_3"}


def test_a_stream_that_is_left_early_has_complete_labels_of_what_was_seen(tmp_path, sources):
    stream = predictor(tmp_path, save_labels="cvat", batch=1)(sources, FixedModel(), stream=True)
    next(stream)
    file = tmp_path / "runs" / "predict" / "cvat" / "annotations.xml"
    assert not file.exists()
    stream.close()
    assert file.read_text(encoding="utf-8").count("<image ") == 1


def test_vectors_are_no_labels(tmp_path, sources):
    predictor(tmp_path, save_labels="coco", embed=[1])(sources, FixedModel())
    assert not (tmp_path / "runs").exists()


def test_an_unknown_format_is_answered_before_anything_is_read(tmp_path):
    with pytest.raises(OptionError, match=r"save_labels: expected one or several of 'coco', .*did you mean 'coco'"):
        predictor(tmp_path, save_labels="cocoo")


def test_predictions_judged_by_their_own_labels_are_perfect(tmp_path):
    """Labels written by prediction and read by validation: 0.995 is what its interpolation makes of a perfect AP."""
    generate_shapes(tmp_path / "shapes", images_train=1, images_val=3, size=96, seed=0)
    images = tmp_path / "shapes" / "images" / "val"
    model = RTDETR(untrained_weights(tmp_path))
    given = {"conf": 0.01, "imgsz": 64, "verbose": False, "project": str(tmp_path / "runs")}
    results = model.predict(images, save_labels=["coco", "yolo"], **given)
    run = Path(results[0].save_dir)
    shutil.copytree(images, run / "yolo" / "images")
    base = {"path": str(run), "names": model.names}
    json_file = {"annotations": {"val": "coco/annotations/instances_predictions.json"}}
    for name, content in {
        "coco": {**base, "train": str(images), "val": str(images), **json_file},
        "yolo": {**base, "train": "yolo/images", "val": "yolo/images"},
    }.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        metrics = model.val(data=str(tmp_path / f"{name}.yaml"), imgsz=64, workers=0, plots=False, verbose=False)
        assert metrics.labels.sum() == sum(len(result) for result in results) > 0
        assert metrics.box.map == pytest.approx(0.995)
