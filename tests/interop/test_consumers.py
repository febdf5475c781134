"""Other packages (supervision, trackers, sahi) read results and run the model. Slow: they take seconds to import."""

import cv2
import numpy as np
import pytest
import torch
import yaml

from tests.interop.networks import NETWORK
from ultralytics import RTDETR
from ultralytics.data.synthetic import NAMES
from ultralytics.engine.results import Results

pytestmark = pytest.mark.slow
ROWS = [[10.0, 10.0, 50.0, 60.0, 0.9, 1.0], [100.0, 20.0, 150.0, 80.0, 0.8, 0.0]]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Untrained weights with the names of the drawn shapes; "seg" or "obb" in their path does not change the task."""
    folder = tmp_path_factory.mktemp("segments-obb")
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**NETWORK, "nc": len(NAMES), "names": list(NAMES)}))
    torch.manual_seed(0)
    RTDETR(folder / "tiny.yaml").save(folder / "tiny.pt")
    return folder / "tiny.pt"


def frame(shift=0, rows=ROWS, kind=torch.tensor):
    """Return the result of a frame with all boxes shifted to the right by `shift` pixels."""
    moved = np.array(rows, np.float32).reshape(-1, len(rows[0]) if rows else 6) + 0
    moved[:, [0, 2]] += shift
    return Results(np.zeros((100, 200, 3), np.uint8), "a.jpg", {0: "cat", 1: "dog"}, kind(moved))


@pytest.mark.parametrize("kind", [torch.tensor, np.array])
def test_supervision_detections(kind):
    supervision = pytest.importorskip("supervision")
    found = supervision.Detections.from_ultralytics(frame(kind=kind))
    assert found.xyxy.tolist() == [row[:4] for row in ROWS]
    assert found.confidence.tolist() == pytest.approx([0.9, 0.8])
    assert found.class_id.tolist() == [1, 0]
    assert found["class_name"].tolist() == ["dog", "cat"]
    assert found.tracker_id is None and found.mask is None
    assert len(supervision.Detections.from_ultralytics(frame(rows=[], kind=kind))) == 0
    tracked = frame(rows=[[10, 10, 50, 60, 7, 0.9, 1]], kind=kind)
    assert supervision.Detections.from_ultralytics(tracked).tracker_id.tolist() == [7]


def test_supervision_with_a_prediction(weights):
    supervision = pytest.importorskip("supervision")
    picture = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    result = RTDETR(weights)(picture, conf=0.0, imgsz=64, verbose=False)[0]
    found = supervision.Detections.from_ultralytics(result)
    assert np.array_equal(found.xyxy, result.boxes.xyxy.numpy())
    assert found["class_name"].tolist() == [result.names[int(c)] for c in result.boxes.cls]
    drawn = supervision.LabelAnnotator().annotate(supervision.BoxAnnotator().annotate(picture.copy(), found), found)
    assert (drawn != picture).any()


def test_trackers_track_detections():
    trackers = pytest.importorskip("trackers")
    supervision = pytest.importorskip("supervision")
    tracker, detections = trackers.ByteTrackTracker(), supervision.Detections
    ids = [tracker.update(detections.from_ultralytics(frame(2 * k))).tracker_id.tolist() for k in range(5)]
    assert ids[-1] == ids[-2] and len(set(ids[-1])) == 2 and min(ids[-1]) >= 0


@pytest.fixture(scope="module")
def sahi_model(weights):
    sahi = pytest.importorskip("sahi")
    given = {"model_path": str(weights), "confidence_threshold": 0.0, "device": "cpu", "image_size": 64}
    return sahi.AutoDetectionModel.from_pretrained(model_type="rtdetr", **given)


def test_sahi_loads_a_detector_that_gives_the_same_boxes(sahi_model, weights, tmp_path):
    from sahi.predict import get_prediction

    assert sahi_model.category_names == list(NAMES)
    assert not sahi_model.has_mask and not sahi_model.is_obb
    picture = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)  # BGR
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    theirs = get_prediction(str(tmp_path / "a.png"), sahi_model).object_prediction_list
    ours = RTDETR(weights)(picture, conf=0.0, imgsz=64, verbose=False)[0].boxes.clipped()
    assert len(theirs) == len(ours) > 0
    for mine, other in zip(ours, theirs, strict=True):
        assert other.bbox.to_xyxy() == pytest.approx(mine.xyxy[0].tolist(), abs=1e-3)
        assert other.score.value == pytest.approx(float(mine.conf[0]), abs=1e-6)
        assert other.category.id == int(mine.cls[0])


def test_sahi_predicts_in_slices(sahi_model):
    from sahi.predict import get_sliced_prediction

    picture = np.random.default_rng(0).integers(0, 255, (128, 192, 3), np.uint8)
    sides = {"slice_height": 64, "slice_width": 64, "overlap_height_ratio": 0, "overlap_width_ratio": 0}
    found = get_sliced_prediction(picture, sahi_model, **sides, perform_standard_pred=False, verbose=0)
    rights = [one.bbox.to_xyxy()[2] for one in found.object_prediction_list]
    assert max(rights) > 128  # boxes of the last column of slices, at their place in the whole picture
