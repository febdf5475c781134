"""The option save_labels: predictions of images and videos as labels in the run folder."""

import json

import cv2
import numpy as np
import pytest

from tests.engine.test_predictor import FixedModel, picture, predictor
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
