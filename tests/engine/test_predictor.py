import gc
import json
import logging
import os
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from tests.data.test_streams import write_video
from tests.golden import inputs
from ultralytics.cfg import get_cfg
from ultralytics.models.rtdetr.predict import RTDETRPredictor
from ultralytics.utils.errors import DataError, OptionError

GOLDEN = Path(__file__).parents[1] / "golden"
NUMBERS = np.load(GOLDEN / "rtdetr_postprocess_8.4.190.npz")
CASES = json.loads((GOLDEN / "rtdetr_postprocess_8.4.190.json").read_text())["cases"]


class FixedModel(nn.Module):
    """Return the same detections for every image, and record the inputs."""

    def __init__(self, y=None, nc=80):
        super().__init__()
        if y is None:
            y = torch.zeros(1, 3, 4 + nc)
            y[0, :, :4] = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.2, 0.2, 0.1, 0.1], [0.9, 0.9, 0.4, 0.4]])
            y[0, [0, 1, 2], [4, 4, 6]] = torch.tensor([0.9, 0.6, 0.1])
        self.y = y
        self.names = {i: f"thing{i}" for i in range(nc)}
        self.stride = torch.tensor([8.0, 16.0, 32.0])
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        return (self.y if len(self.y) == len(x) else self.y[:1].expand(len(x), -1, -1).clone()), None

    def predict(self, x, visualize=None, embed=None):
        if embed:
            return tuple(torch.full((4 * len(embed),), float(image.mean())) for image in x)
        visualize.mkdir(parents=True)
        (visualize / "layer0.png").touch()
        return self(x)


def predictor(tmp_path=None, **options):
    where = {"project": str(tmp_path / "runs")} if tmp_path else {}
    defaults = {"mode": "predict", "device": "cpu", "imgsz": 64, "save": False, "verbose": False}
    return RTDETRPredictor(get_cfg(None, {**defaults, **where, **options}))


def picture(height=40, width=60, value=100):
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture
def folder(tmp_path):
    for i in range(5):
        cv2.imwrite(str(tmp_path / f"p{i}.png"), picture(value=i * 50))
    return tmp_path


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"case{c['case']}")
def test_boxes_agree_with_the_reference(case):
    y = torch.from_numpy(inputs.detr_output(case["seed"], case["batch"]))
    options = {k: case[k] for k in ("conf", "classes", "max_det", "imgsz")}
    images = [np.zeros((h, w, 3), np.uint8) for h, w in case["image_shapes"]]
    for i, result in enumerate(predictor(one_class_per_query=False, **options)(images, FixedModel(y))):
        expected = NUMBERS[f"c{case['case']}_predictor{i}"]
        assert result.boxes.shape == expected.shape
        if len(expected):
            assert np.abs(result.boxes.numpy().data - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("options", "classes"),
    [({}, [2, 0]), ({"one_class_per_query": False}, [2, 1, 0, 0]), ({"classes": [0, 1]}, [0]), ({"conf": 0.6}, [2])],
)
def test_a_query_is_one_detection_with_its_best_class(options, classes):
    y = torch.tensor([[[0.5, 0.5, 0.2, 0.2, 0.33, 0.50, 0.7], [0.2, 0.2, 0.1, 0.1, 0.58, 0.1, 0.2]]]).repeat(1, 2, 1)
    y[0, 2:, 4:] = 0.01
    (result,) = predictor(**options)(picture(), FixedModel(y, nc=3))
    assert sorted(result.boxes.cls.tolist()) == sorted(classes) and result.boxes.conf.tolist() == sorted(
        result.boxes.conf.tolist(), reverse=True
    )


def test_network_input_is_stretched_rgb():
    image = inputs.gradient(37, 61)
    model = FixedModel()
    predictor(imgsz=[64, 96])(image, model)
    expected = cv2.resize(image, (96, 64), interpolation=cv2.INTER_LINEAR)[..., ::-1].transpose(2, 0, 1)
    np.testing.assert_allclose(model.seen[0][0], expected / np.float32(255), atol=1e-7)


def test_tensors_reach_the_network_unchanged():
    x, model = torch.rand(2, 3, 32, 64), FixedModel()
    first, _ = predictor()(x, model)
    assert (model.seen[0] == x).all() and first.orig_shape == (32, 64)
    with pytest.raises(DataError, match="33x64; the sides must be multiples of 32"):
        predictor()(torch.rand(1, 3, 33, 64), model)


def test_results_in_batches_with_speed(folder):
    model = FixedModel()
    results = predictor(batch=2)(folder, model)
    assert [len(x) for x in model.seen] == [2, 2, 1]
    assert [Path(r.path).name for r in results] == [f"p{i}.png" for i in range(5)]
    assert [len(r) for r in results] == [2] * 5  # conf null is 0.25
    np.testing.assert_allclose(results[0].boxes.xyxy[0], [15, 10, 45, 30])
    assert results[0].speed.keys() == {"preprocess", "inference", "postprocess"} and results[0].save_dir is None
    assert [len(r) for r in predictor(conf=0.05)(picture(), model)] == [3]
    assert predictor(conf=0.05, classes=2)(picture(), model)[0].boxes.cls.tolist() == [2]


def test_log_lines(folder, caplog):
    caplog.set_level(logging.INFO)
    predictor(verbose=True)(folder / "p1.png", FixedModel())
    first, last = caplog.messages
    assert first.startswith(f"image 1/1 {folder / 'p1.png'}: 64x64 2 thing0s, ") and first.endswith("ms")
    assert last.startswith("Speed: ") and "ms inference" in last and "(1, 3, 64, 64)" in last


def test_streaming_keeps_no_results():
    model, alive = FixedModel(), []
    for result in predictor(batch=2)([picture() for _ in range(12)], model, stream=True):
        alive.append(weakref.ref(result))
        del result
        model.seen.clear()
        gc.collect()
        assert sum(ref() is not None for ref in alive) <= 4  # a batch, and the one before it


def test_streaming_is_lazy_but_a_missing_source_is_an_error_at_once(tmp_path):
    model = FixedModel()
    generator = predictor()([picture(), picture()], model, stream=True)
    assert not model.seen
    next(generator)
    generator.close()
    with pytest.raises(DataError, match="does not exist"):
        predictor()(tmp_path / "no.jpg", model, stream=True)


def test_results_can_be_changed_and_the_model_trained_afterwards():
    model = FixedModel()
    model.y.requires_grad_()
    (result,) = predictor()(picture(), model)
    result.boxes.data[:, :4] += 1
    assert not result.boxes.data.requires_grad
    model(torch.zeros(1, 3, 32, 32))[0].sum().backward()
    assert model.y.grad is not None


def test_everything_that_can_be_saved(folder, tmp_path):
    predictor(tmp_path)(picture(), FixedModel())
    assert not (tmp_path / "runs").exists()  # nothing is written unless asked for
    (folder / "other").mkdir()
    cv2.imwrite(str(folder / "other" / "p0.jpg"), picture())
    options = {"save": True, "save_txt": True, "save_conf": True, "save_crop": True}
    results = predictor(tmp_path, **options)(f"{folder}/**/p0.*", FixedModel())
    run = tmp_path / "runs" / "predict"
    assert results[0].save_dir == str(run)
    files = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
    crops = {f"crops/thing0/{name}.jpg" for name in ("p0", "p0-2", "p0_2", "p0_2-2")}
    images = {p for p in files if "/" not in p}
    assert files == images | {"labels/p0.txt", "labels/p0_2.txt"} | crops
    assert {p.split(".")[0] for p in images} == {"p0", "p0_2"}
    assert (run / "labels/p0.txt").read_text() == "0 0.5 0.5 0.5 0.5 0.9\n0 0.2 0.2 0.1 0.1 0.6\n"
    predictor(tmp_path, save=True)(picture(), FixedModel())
    assert (tmp_path / "runs" / "predict2" / "image0.jpg").exists()


def test_videos_are_saved_as_videos(tmp_path):
    for name, count in (("a", 6), ("b", 3)):
        writer = cv2.VideoWriter(str(tmp_path / f"{name}.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 20, (64, 48))
        for _ in range(count):
            writer.write(picture(48, 64))
        writer.release()
    results = predictor(tmp_path, save=True, save_txt=True, vid_stride=2, batch=4)(tmp_path, FixedModel())
    assert len(results) == 3 + 1
    run = tmp_path / "runs" / "predict"
    for name, count in (("a", 3), ("b", 1)):
        video = cv2.VideoCapture(str(run / f"{name}.avi"))
        assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)) == (count, 10)
        drawn = video.read()[1]
        assert drawn.shape == (48, 64, 3) and (drawn != 100).any()
        video.release()
    assert sorted(p.name for p in (run / "labels").iterdir()) == ["a_1.txt", "a_2.txt", "a_3.txt", "b_1.txt"]


@pytest.mark.parametrize("fps", [211.2183, 1000 / 7, 999.99, 0.004])
def test_videos_of_odd_frame_rates_are_saved_whole(tmp_path, fps, monkeypatch):
    """A MPEG-4 file has 16 bits for its time base; cameras and converters write any rate."""
    name = os.fsdecode(b"\xff")  # not UTF-8
    write_video(tmp_path / "a.avi", 12, "MJPG").rename(tmp_path / f"{name}.avi")
    monkeypatch.setattr("ultralytics.data.streams.frame_rate", lambda capture: fps)
    got = predictor(tmp_path, save=True)(tmp_path / f"{name}.avi", FixedModel())
    capture = cv2.VideoCapture(os.fsencode(tmp_path / "runs" / "predict" / f"{name}.avi"))
    assert len(got) == sum(capture.grab() for _ in range(20)) == 12
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(max(fps, 0.01), rel=1e-3)


@pytest.mark.parametrize("name", [b"n" * 251 + b".png", b"\xff\n.png", "猫".encode() * 83 + b".tiff"])
def test_results_of_odd_names_are_saved(tmp_path, name):
    file = tmp_path / os.fsdecode(name)
    file.write_bytes(cv2.imencode(".png", picture())[1].tobytes())
    model = FixedModel()
    model.names[0] = "a/b\n" + "c" * 300
    (result,) = predictor(tmp_path, save=True, save_txt=True, save_crop=True)(file, model)
    saved = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert len(saved) == 2 + len(result) and (tmp_path / "runs" / "predict" / file.name) in saved


def test_feature_vectors_and_feature_maps(tmp_path):
    vectors = predictor(tmp_path, embed=[1, 3], save=True)([picture(value=255), picture(value=0)], FixedModel())
    assert [v.shape for v in vectors] == [(8,), (8,)] and vectors[0][0] == 1 and vectors[1][0] == 0
    assert not (tmp_path / "runs").exists()
    assert len(predictor(tmp_path, visualize=True)([picture(), picture()], FixedModel())) == 2
    assert all((tmp_path / f"runs/predict/features/image{i}/layer0.png").exists() for i in (0, 1))


def test_callbacks_see_the_batch():
    seen = []
    events = ("on_predict_start", "on_predict_batch_start", "on_predict_postprocess_end", "on_predict_batch_end")
    predict = predictor()
    for event in (*events, "on_predict_end"):
        predict.add_callback(event, lambda p, event=event: seen.append((event, len(p.results))))
    predict([picture()] * 2, FixedModel())
    assert seen == list(zip((*events, "on_predict_end"), (0, 0, 2, 2, 2), strict=True))


def test_options_and_sources_that_do_not_fit_are_errors(tmp_path, caplog, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="source: none of its images and videos could be read"):
        predictor()(tmp_path, FixedModel())
    assert "a.jpg" in caplog.text and "skipped" in caplog.text
    with pytest.raises(OptionError, match="embed and visualize"):
        predictor(embed=[1], visualize=True)
    with pytest.raises(OptionError, match=r"classes=\[80\]: the model has classes 0 to 79"):
        predictor(classes=[3, 80])(picture(), FixedModel())
    with pytest.raises(ValueError, match="model: got None, expected a network or a file"):
        predictor()(picture())
    with pytest.raises(DataError, match="source: got None"):
        predictor()(None, FixedModel())
    (result,) = predictor(half=True)(picture(), FixedModel())
    assert "half=True needs a CUDA GPU" in caplog.text
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    for show in (result.show, lambda: predictor(show=True)([picture()] * 2, FixedModel())):
        caplog.clear()
        show()
        assert caplog.text.count("no window can be opened here") == 1
