"""Other packages read results and run the model, each with the same numbers. Slow: they take seconds to import."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.interop.networks import NETWORK
from ultralytics import RTDETR, YOLO
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
def yolo(tmp_path_factory):
    """Untrained YOLO with biases that give scores around 0.5."""
    torch.manual_seed(0)
    model = YOLO("yolov8n.yaml", verbose=False)
    for branch in model.model.model[-1].cv3:
        torch.nn.init.normal_(branch[-1].weight, std=0.1)
        torch.nn.init.constant_(branch[-1].bias, -2.0)
    model.save(tmp_path_factory.mktemp("yolo") / "tiny.pt")
    return tmp_path_factory.getbasetemp() / "yolo0" / "tiny.pt"


@pytest.fixture(scope="module", params=["rtdetr", "ultralytics", "yolov8"])
def sahi_model(request, weights, yolo):
    """A detector of sahi, and the same model from its weights."""
    sahi = pytest.importorskip("sahi")
    file = weights if request.param == "rtdetr" else yolo
    given = {"model_path": str(file), "confidence_threshold": 0.0, "device": "cpu", "image_size": 64}
    model = (RTDETR if request.param == "rtdetr" else YOLO)(file, verbose=False)
    return sahi.AutoDetectionModel.from_pretrained(model_type=request.param, **given), model


def rows(found):
    """The predictions of sahi as a set of x1, y1, x2, y2, score, class."""
    return {(*(round(v, 2) for v in one.bbox.to_xyxy()), round(one.score.value, 5), one.category.id) for one in found}


def ours(model, picture, x=0, y=0):
    """Our predictions on a slice at (x, y), clipped and moved to their place, as rows of sahi."""
    boxes = model(picture, conf=0.0, imgsz=64, verbose=False)[0].boxes.clipped().data.tolist()
    return {
        (*(round(v, 2) for v in (x1 + x, y1 + y, x2 + x, y2 + y)), round(s, 5), int(c))
        for x1, y1, x2, y2, s, c in boxes if x2 > x1 and y2 > y1
    }  # fmt: skip


def near(a, b):
    """Check that two sets of rows are equal up to the last digit."""
    a, b = (np.array(sorted(part)) for part in (a, b))
    return a.shape == b.shape and np.abs(a - b).max() <= 0.011


def test_sahi_predicts_as_we_do(sahi_model, tmp_path):
    from sahi.predict import get_prediction, get_sliced_prediction

    theirs, model = sahi_model
    assert theirs.category_names == list(model.names.values()) and not theirs.has_mask and not theirs.is_obb
    picture = np.random.default_rng(0).integers(0, 255, (128, 192, 3), np.uint8)  # BGR
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    whole = get_prediction(str(tmp_path / "a.png"), theirs).object_prediction_list
    assert len(whole) > 5 and near(rows(whole), ours(model, picture))
    options = {"perform_standard_pred": False, "postprocess_type": "NMS", "postprocess_match_threshold": 1.01}
    one = {"slice_height": 128, "slice_width": 192, **options, "verbose": 0}
    found = get_sliced_prediction(picture[..., ::-1].copy(), theirs, **one).object_prediction_list
    assert near(rows(found), rows(whole))
    six = {"slice_height": 64, "slice_width": 64, "overlap_height_ratio": 0, "overlap_width_ratio": 0}
    found = get_sliced_prediction(picture[..., ::-1].copy(), theirs, **{**one, **six}).object_prediction_list
    places = [(x, y) for y in (0, 64) for x in (0, 64, 128)]
    assert near(rows(found), set().union(*(ours(model, picture[y : y + 64, x : x + 64], x, y) for x, y in places)))


def test_boxmot_detects_and_tracks(yolo):
    pytest.importorskip("boxmot")
    from boxmot import ByteTrack
    from boxmot.detectors import DetectorSpec
    from boxmot.detectors.backends.ultralytics import UltralyticsDetector
    from boxmot.structures import Frame

    options = (("confidence", 0.01), ("image_size", 64))
    detector, model = UltralyticsDetector(DetectorSpec("ultralytics", str(yolo), options=options)), YOLO(yolo)
    pictures = np.random.default_rng(0).integers(0, 255, (3, 96, 128, 3), np.uint8)
    frames = [
        Frame(torch.from_numpy(picture[..., ::-1].transpose(2, 0, 1).copy()), sample_id=str(i))
        for i, picture in enumerate(pictures)
    ]
    theirs, results = detector.predict(frames), model(list(pictures), conf=0.01, imgsz=64, batch=3, verbose=False)
    for one, result in zip(theirs, results, strict=True):
        assert len(one) > 5
        torch.testing.assert_close(one.geometry.values, result.boxes.xyxy)
        torch.testing.assert_close(one.scores, result.boxes.conf)
        assert one.class_ids.tolist() == result.boxes.cls.int().tolist()
    tracker = ByteTrack()
    for step in range(4):
        moved = frame(2 * step)
        tracks = tracker.update(moved.boxes.data.numpy(), moved.orig_img)
    assert len(tracks) == 2 and np.abs(np.sort(tracks[:, 0]) - [16, 106]).max() < 2


def test_norfair_follows_detections():
    norfair = pytest.importorskip("norfair")
    tracker = norfair.Tracker(distance_function="iou", distance_threshold=0.7, initialization_delay=0)
    for step in range(5):
        boxes = frame(2 * step).boxes
        found = [
            norfair.Detection(box.xyxy.numpy().reshape(2, 2), scores=box.conf.numpy().repeat(2), label=int(box.cls))
            for box in boxes
        ]
        assert sorted((one.id, one.label) for one in tracker.update(found)) == [(1, 1), (2, 0)]


def test_fiftyone_converts_detections():
    conversion = pytest.importorskip("fiftyone.utils.ultralytics", exc_type=ImportError)
    found = conversion.to_detections(frame()).detections
    assert [(one.label, round(one.confidence, 5)) for one in found] == [("dog", 0.9), ("cat", 0.8)]
    np.testing.assert_allclose(found[0].bounding_box, [0.05, 0.1, 0.2, 0.5], rtol=1e-6)
    assert conversion.to_detections([frame(rows=[[10, 10, 50, 60, 7, 0.9, 1]])])[0].detections[0].index == 7


def test_fiftyone_converts_a_model(yolo):
    conversion = pytest.importorskip("fiftyone.utils.ultralytics", exc_type=ImportError)
    model = YOLO(yolo, verbose=False)
    model.overrides["imgsz"] = 64
    converted = conversion.convert_ultralytics_model(model)
    converted.config.confidence_thresh = 0.01
    pictures = np.random.default_rng(0).integers(0, 255, (2, 96, 128, 3), np.uint8)
    theirs = converted.predict_all([Image.fromarray(picture) for picture in pictures])
    results = model([Image.fromarray(picture) for picture in pictures], conf=0.01, rect=False, verbose=False)
    for one, result in zip(theirs, results, strict=True):
        assert len(one.detections) == len(result) > 5
        boxes = np.array([detection.bounding_box for detection in one.detections])  # left, top, width, height
        np.testing.assert_allclose(boxes[:, :2] + boxes[:, 2:], result.boxes.xyxyn[:, 2:], atol=1e-5)
        np.testing.assert_allclose([found.confidence for found in one.detections], result.boxes.conf, atol=1e-5)
        assert [found.label for found in one.detections] == [result.names[int(c)] for c in result.boxes.cls]


def test_roboflow_packages_published_weights(yolo, tmp_path, monkeypatch):
    packaging = pytest.importorskip("roboflow.util.model_processor")
    monkeypatch.chdir(tmp_path)
    model = YOLO(yolo)
    file = Path(model.export(format="published", imgsz=64))
    options = {"build_dir": tmp_path / "build", "allow_dependency_mismatch": True}
    bundle = packaging.package_custom_weights("yolov8n", str(file.parent), file.name, **options)
    facts = json.loads((tmp_path / "build" / "model_artifacts.json").read_text())
    assert bundle.model_type == "yolov8n" and bundle.archive_path.stat().st_size > 1e6
    assert (facts["nc"], list(facts["names"])) == (80, list(model.names.values()))
    packed, tensors = torch.load(tmp_path / "build" / "state_dict.pt", weights_only=True), model.model.state_dict()
    assert packed.keys() == tensors.keys()
    assert all(torch.equal(packed[name].to(tensor.dtype), tensor) for name, tensor in tensors.items())


def test_gradio_interface(yolo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gradio = pytest.importorskip("gradio")
    model = YOLO(yolo)

    def detect(image, conf, iou):
        (result,) = model.predict(source=image, conf=conf, iou=iou, show_labels=True, show_conf=True, imgsz=64)
        return Image.fromarray(result.plot()[..., ::-1])

    inputs = [gradio.Image(type="pil"), gradio.Slider(0, 1, 0.25), gradio.Slider(0, 1, 0.45)]
    demo = gradio.Interface(detect, inputs, gradio.Image(type="pil"))
    picture = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    uploaded = demo.input_components[0].data_model(path=str(tmp_path / "a.png"))
    given = demo.input_components[0].preprocess(uploaded)
    shown = demo.output_components[0].postprocess(demo.fn(given, 0.01, 0.45))
    drawn = np.asarray(Image.open(shown.path).convert("RGB"))
    assert drawn.shape == picture.shape and np.abs(drawn.astype(int) - picture).max() > 100


def test_streamlit_page(yolo):
    testing = pytest.importorskip("streamlit.testing.v1")

    def page(file):
        import numpy as np
        import streamlit as st

        from ultralytics import YOLO

        conf = st.sidebar.slider("Confidence", 0.0, 1.0, 0.01)
        image = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
        result = YOLO(file).predict(image, conf=conf, iou=0.45, imgsz=64)[0]
        st.image(result.plot(), channels="BGR")
        st.dataframe(result.to_df())
        st.metric("objects", len(result.boxes))

    app = testing.AppTest.from_function(page, args=(str(yolo),), default_timeout=300).run()
    assert not app.exception and int(app.metric[0].value) == len(app.dataframe[0].value) > 5
    fewer = app.sidebar.slider[0].set_value(1.0).run()
    assert not fewer.exception and fewer.metric[0].value == "0"
