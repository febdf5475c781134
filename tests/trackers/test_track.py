"""Ids across frames: the package driven by hand gives the same; sequences, settings, errors."""

import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from ultralytics import RTDETR, YOLO
from ultralytics.data.streams import Frame
from ultralytics.engine.results import Boxes, Results
from ultralytics.trackers import BOTSORT, BYTETracker
from ultralytics.trackers.track import Trackers, read_tracker
from ultralytics.utils.errors import MissingPackageError, OptionError

package = pytest.importorskip("trackers")
supervision = pytest.importorskip("supervision")
SIZE = (96, 128)  # height, width
LOOSE = "track_high_thresh: 0.0\ntrack_low_thresh: 0.0\nnew_track_thresh: 0.0\nmatch_thresh: 1.0\n"
BY_HAND = {
    "bytetrack": lambda: package.ByteTrackTracker(
        minimum_iou_threshold=0.0, high_conf_det_threshold=0.0, track_activation_threshold=0.0
    ),
    "botsort": lambda: package.BoTSORTTracker(
        minimum_iou_threshold_first_assoc=0.0, high_conf_det_threshold=0.0, track_activation_threshold=0.0
    ),
}


def picture(step):
    """A frame with a red square that moves to the right, and a green one that moves up."""
    image = np.full((*SIZE, 3), 40, np.uint8)
    cv2.rectangle(image, (4 + 4 * step, 10), (30 + 4 * step, 36), (0, 0, 220), -1)
    cv2.rectangle(image, (90, 60 - 3 * step), (110, 80 - 3 * step), (0, 220, 0), -1)
    return image


def found(step, scores=(0.9, 0.8)):
    """The boxes of the squares."""
    squares = [[4 + 4 * step, 10, 30 + 4 * step, 36], [90, 60 - 3 * step, 110, 80 - 3 * step]]
    return torch.tensor([[*box, score, cls] for cls, (box, score) in enumerate(zip(squares, scores, strict=True))])


@pytest.fixture
def videos(tmp_path):
    """Two videos of eight frames, of the same squares."""
    files = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for file in files:
        writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"mp4v"), 10, SIZE[::-1])
        for step in range(8):
            writer.write(picture(step))
        writer.release()
    return [str(file) for file in files]


def exact(model):
    """Return a predictor class that finds the squares of `picture`, by their colors."""

    class Exact(model.predictor_class):
        def postprocess(self, preds, img, orig_imgs):
            results = []
            for picture, path in zip(orig_imgs, self.batch[0], strict=True):
                image, rows = picture.astype(int), []
                for cls, channel in enumerate((2, 1)):
                    y, x = np.nonzero(image[..., channel] - image[..., 0] > 90)
                    rows.append([x.min(), y.min(), x.max() + 1, y.max() + 1, 0.9 - 0.1 * cls, cls])
                results.append(Results(picture, path, self.model.names, torch.tensor(rows).float()))
            return results

    return Exact


def ids(results):
    return [None if result.boxes.id is None else result.boxes.id.int().tolist() for result in results]


@pytest.mark.parametrize("kind", ["bytetrack", "botsort"])
@pytest.mark.parametrize("cls", [RTDETR, YOLO])
def test_ids_and_boxes_equal_those_of_the_package(cls, kind, tiny, videos, tmp_path):
    torch.manual_seed(0)
    model, file = cls(tiny if cls is RTDETR else "yolov8n.yaml", verbose=False), tmp_path / "mine.yaml"
    file.write_text(f"tracker_type: {kind}\n{LOOSE}")
    options = {"imgsz": 64, "conf": 0.0, "max_det": 8, "verbose": False}
    tracked = model.track(videos[0], tracker=str(file), **options)
    by_hand, count = BY_HAND[kind](), 0
    for result, ours in zip(model.predict(videos[0], **options), tracked, strict=True):
        rows = supervision.Detections.from_ultralytics(result)
        theirs = by_hand.update(rows, *([result.orig_img] if kind == "botsort" else []))
        expected = {int(i) + 1: xyxy.tolist() for i, xyxy in zip(theirs.tracker_id, theirs.xyxy, strict=True) if i >= 0}
        boxes = ours.boxes if ours.boxes.is_track else ours.boxes[:0]
        assert {int(box.id): box.xyxy[0].tolist() for box in boxes} == expected
        assert boxes.conf.tolist() == sorted(boxes.conf.tolist(), reverse=True)
        count += len(expected)
    assert count > 8


def test_a_sequence_a_call_for_each_frame_and_videos_one_by_one(tiny, videos, tmp_path):
    model, options = RTDETR(tiny), {"imgsz": 64, "verbose": False}
    options["predictor"] = exact(model)
    whole = ids(model.track(videos[0], **options))
    assert whole == [[1, 2]] * 8  # BoT-SORT has ids from the first frame on
    assert ids(model.track(videos, **options)) == whole * 2
    first = ids(model.track(picture(0), tracker="bytetrack.yaml", persist=True, **options))
    rest = [ids(model.track(picture(i), tracker="bytetrack.yaml", persist=True, **options)) for i in range(1, 4)]
    assert first == [None] and rest == [[[1, 2]]] * 3  # ByteTrack confirms a track in its second frame
    assert ids(model.track(picture(4), tracker="bytetrack.yaml", **options)) == [None]
    for step in range(3):
        cv2.imwrite(str(tmp_path / f"{step}.png"), picture(step))
    assert ids(model.track(str(tmp_path / "*.png"), batch=2, **options)) == [[1, 2]] * 3
    assert ids(model.predict(picture(0), **options)) == [None]
    streamed = model.track(videos[0], stream=True, save=True, save_txt=True, project=str(tmp_path), **options)
    assert [result.summary()[1]["track_id"] for result in streamed] == [2] * 8
    assert (tmp_path / "track" / "labels" / "a_8.txt").read_text().split()[5] == "1"


def test_each_stream_has_a_tracker_of_its_own():
    trackers, seen = Trackers("botsort.yaml"), []
    for step in range(3):
        frames = [Frame(picture(step), path, path, "stream", step + 1) for path in ("rtsp://a", "rtsp://b")]
        results = [Results(frame.image, frame.path, ["a", "b"], found(step)[:n]) for n, frame in enumerate(frames, 1)]
        trackers.update(frames, results)
        seen.append(ids(results))
    assert seen == [[[1], [1, 2]]] * 3 and len(trackers) == 2


def test_published_classes_return_rows():
    tracker = BYTETracker(SimpleNamespace(track_high_thresh=0.5, new_track_thresh=0.5, track_buffer=2))
    seen = [tracker.update(Boxes(found(step, scores=(0.9, 0.05)), SIZE)) for step in range(3)]
    assert len(seen[0]) == 0 and seen[0].shape == (0, 8)
    np.testing.assert_allclose(seen[2], [[12, 10, 38, 36, 1, 0.9, 0, 0]], rtol=1e-6)
    tracker.reset()
    assert len(tracker.update(Boxes(found(3), SIZE))) == 0
    still = BOTSORT({"gmc_method": "none", "tracker_type": "botsort"})
    assert still.update(Boxes(found(0), SIZE), picture(0))[:, 4].tolist() == [1, 2]
    assert still.update(Boxes(found(1)[:0], SIZE), picture(1)).shape == (0, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tracker_type: botsort\ntrack_hi_thresh: 0.5", r"mine.yaml:2: unknown key 'track_hi_thresh'; did you mean"),
        ("tracker_type: ocsort", r"tracker_type: expected one of 'bytetrack', 'botsort', got 'ocsort'"),
        ("tracker_type: botsort\nmatch_thresh: 2", r"mine.yaml:2: match_thresh: expected a number in \[0, 1\], got 2"),
        ("tracker_type: botsort\nwith_reid: true", "with_reid: there is no tracking by appearance"),
        ("track_buffer: 3", "tracker_type is missing; expected bytetrack or botsort"),
    ],
)
def test_settings_that_are_refused(text, message, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(OptionError, match=message):
        read_tracker(tmp_path / "mine.yaml")


def test_tracker_files(tmp_path, caplog):
    assert read_tracker("botsort.yaml")["gmc_method"] == "sparseOptFlow"
    with pytest.raises(OptionError, match=r"no file 'botsrt.yaml'; did you mean 'botsort.yaml'\?; built in are"):
        read_tracker("botsrt.yaml")
    (tmp_path / "byte.yaml").write_text("tracker_type: bytetrack\nfuse_score: true\ntrack_buffer: 9\n")
    settings = read_tracker(tmp_path / "byte.yaml")
    assert "without effect for bytetrack of the package trackers: fuse_score" in caplog.text
    assert (settings["track_buffer"], settings["match_thresh"]) == (9, 0.8)


def test_missing_and_old_packages(monkeypatch, tiny):
    with pytest.raises(OptionError, match="embed returns no detections"):
        RTDETR(tiny).track(picture(0), embed=[1])
    monkeypatch.setitem(sys.modules, "trackers", SimpleNamespace(__version__="1"))
    with pytest.raises(MissingPackageError, match='too old: pip install "trackers>=2\\.6"'):
        BOTSORT({})
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(MissingPackageError, match=r'not installed: pip install "trackers>=2.6"'):
        RTDETR(tiny).track(picture(0), imgsz=64)
