"""RTDETR end to end on a few generated images: train, resume, validate, predict, save and load."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from ultralytics import RTDETR
from ultralytics.data.synthetic import NAMES, generate_shapes
from ultralytics.engine import checkpoint as checkpoints
from ultralytics.engine.checkpoint import load_checkpoint
from ultralytics.utils.errors import DataError, DeviceError, ModelConfigError, OptionError, UserError, WeightsError
from ultralytics.utils.flops import get_flops

QUICK = {"imgsz": 64, "batch": 4, "epochs": 1, "workers": 0, "queries": 10, "denoising": 4, "device": "cpu"}


@pytest.fixture(scope="module")
def trained(shapes, tiny, tmp_path_factory) -> RTDETR:
    """A model after one epoch; its run folder is `trained.trainer.save_dir`."""
    model = RTDETR(tiny)
    model.train(data=str(shapes), project=str(tmp_path_factory.mktemp("runs")), name="exp", **QUICK)
    return model


def test_a_run_leaves_files_and_the_best_weights(trained):
    folder = trained.trainer.save_dir
    assert {"best.pt", "last.pt"} == {p.name for p in (folder / "weights").iterdir()}
    header, row = (folder / "results.csv").read_text().strip().splitlines()
    assert header.startswith("epoch,time,train/giou_loss,train/cls_loss,train/l1_loss,")
    assert ",metrics/precision(B)," in header
    assert len(row.split(",")) == len(header.split(","))
    assert {"args.yaml", "results.png", "labels.jpg"} <= {p.name for p in folder.iterdir()}
    assert trained.names == dict(enumerate(NAMES))
    saved = load_checkpoint(trained.trainer.best)["model"]
    assert all(torch.equal(v, saved[k]) for k, v in trained.model.state_dict().items())


def test_weights_validate_on_the_data_and_size_they_were_trained_with(trained):
    model = RTDETR(trained.trainer.best)
    metrics = model.val(plots=False, workers=0, project=str(trained.trainer.save_dir))
    assert metrics.results_dict == pytest.approx(trained.metrics.results_dict, abs=1e-6)
    assert model.model.model[-1].num_queries == 10


def test_options_of_a_file_have_priority_over_those_of_the_training(trained, tmp_path):
    (file := tmp_path / "my.yaml").write_text("imgsz: 96\nconf: 0.9\nname: null\n", encoding="utf-8")
    model = RTDETR(trained.trainer.best)
    model.predict(np.zeros((64, 64, 3), np.uint8), cfg=file, conf=0.5)
    args = model.predictor.args
    assert (args.imgsz, args.conf, args.batch) == (96, 0.5, 1)


def test_runs_end_with_a_summary_table(trained, tmp_path):
    model = RTDETR(trained.trainer.best)
    with pytest.raises(UserError, match="there are no metrics yet"):
        model.summary_table()
    metrics = model.val(workers=0, project=str(tmp_path), device="cpu")
    for file in [folder / "summary_table.csv" for folder in (trained.trainer.save_dir, tmp_path / "val")]:
        assert len(list(file.parent.glob("summary_table.*"))) == 4
        with open(file, newline="") as stream:
            first = next(csv.DictReader(stream))
        assert (first["Model"], first["Size (px)"], first["Class"]) == ("tiny", "64", "all")
        assert float(first["Params (M)"]) * 1e6 == sum(p.numel() for p in model.model.parameters())
        assert float(first["File (MB)"]) * 1e6 == trained.trainer.best.stat().st_size
        assert float(first["mAP50-95"]) == pytest.approx(metrics.box.map, abs=1e-6)
    table = model.summary_table().model
    assert dict(zip(table.titles, table.rows[0], strict=True))["GFLOPs"] == get_flops(model.model, 64)


def test_predict_takes_an_array_and_streams(trained):
    image = np.full((50, 80, 3), 128, np.uint8)
    (vector,) = trained.embed(image)
    assert vector.shape == (16,)  # the mean over the last map before the head
    (result,) = trained.predict(image, conf=0.0)
    assert result.orig_shape == (50, 80) and 0 < len(result.boxes) <= 10
    assert result.names == trained.names
    stream = trained.predict([image, image], conf=0.0, stream=True, batch=2)
    assert [len(r.boxes) for r in stream] == [len(result.boxes)] * 2


def test_weights_are_held_once(trained):
    """The last.pt of an unfinished run has more than the network in use; only that stays in memory."""
    model = RTDETR(trained.trainer.save_dir / "weights" / "last.pt")
    model.checkpoint |= {"ema": model.checkpoint["model"], "optimizer": {"state": {}}}
    network = model.model
    assert not any(model.checkpoint[key] for key in ("model", "ema", "optimizer"))
    assert model.model is network
    assert model.checkpoint["options"]["imgsz"] == QUICK["imgsz"]


def test_a_model_is_shown_as_a_table(tiny):
    model = RTDETR(tiny)
    assert repr(model) == f"RTDETR({str(tiny)!r})" and "model" not in vars(model)
    assert (
        "80: 0, 1, 2" in (html := model._repr_html_())
        and f"{sum(p.numel() for p in model.model.parameters()):,}" in html
    )


def test_saved_and_fused_networks_predict_the_same(trained, tmp_path):
    trained.save(tmp_path / "copy.pt")
    model, image = RTDETR(tmp_path / "copy.pt"), np.full((50, 80, 3), 128, np.uint8)
    expected = trained.predict(image, conf=0.0)[0].boxes.data
    assert torch.equal(model.predict(image, conf=0.0)[0].boxes.data, expected)
    fused = model.fuse().predict(image, conf=0.0)[0].boxes.data
    assert torch.allclose(fused[:, :5], expected[:, :5], atol=1e-3)
    with pytest.raises(UserError, match="a fused network cannot be saved"):
        model.save(tmp_path / "fused.pt")


def test_load_takes_what_fits_and_logs_the_rest(trained, tiny, caplog):
    other = RTDETR(tiny)  # 80 classes
    other.load(trained.trainer.best)
    assert "enc_score_head.weight (shape (6, 32), the model has (80, 32))" in caplog.text
    ours, theirs = other.model.state_dict(), trained.model.state_dict()
    assert torch.equal(ours["model.0.conv.weight"], theirs["model.0.conv.weight"])


def test_recorded_recipes_are_not_followed(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("ULTRALYTICS_CACHE", str(tmp_path / "cache"))
    recipe = {"files": [{"url": "http://127.0.0.1:9/a.zip"}]}
    data = {"path": "new", "train": "a", "val": "a", "names": list(NAMES), "download": recipe}
    state = load_checkpoint(trained.trainer.last)
    state["options"]["data"] = data
    checkpoints.save_checkpoint(tmp_path / "e.pt", state)
    model = RTDETR(tmp_path / "e.pt")
    runs = (model.val, lambda: model.export(int8=True, format="openvino"))
    for run in (*runs, lambda: RTDETR(tmp_path / "e.pt").train(resume=True, epochs=9)):
        with pytest.raises(DataError, match=r"e\.pt: records its data set as a dict, which is not followed"):
            run()
    for given in ({"data": data}, {"trust": True}):
        with pytest.raises(UserError, match="could not be downloaded"):
            model.val(**given)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("rtdetr-m9.yaml", ModelConfigError, "no such file here, nor among the package's"),
        ("best.tflite", ModelConfigError, r"expected a model file \(.yaml\), weights \(.pt\) or an exported"),
        ("best.onnx", WeightsError, "no such file"),
        ("missing.pt", WeightsError, "no such weights file"),
    ],
)
def test_files_that_are_no_model_are_refused(model, error, message):
    with pytest.raises(error, match=message):
        RTDETR(model)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_does_not_exist_is_an_error_with_the_remedy(shapes, tiny):
    with pytest.raises(DeviceError, match=r"device='0': no CUDA device .* use device='cpu'"):
        RTDETR(tiny).train(data=str(shapes), epochs=72, device="0", project="runs")


def test_options_are_checked_before_anything_is_built(shapes, tiny):
    model = RTDETR(tiny)
    with pytest.raises(OptionError, match="did you mean 'epochs'"):
        model.train(data=str(shapes), epoch=3)
    assert "model" not in vars(model)


def test_sample_images_are_the_default_source(tiny, caplog):
    assert [Path(result.path).name for result in RTDETR(tiny).predict(imgsz=64)] == ["bus.jpg", "zidane.jpg"]
    assert "source= is not given; using the sample images" in caplog.text


@pytest.mark.slow
def test_two_runs_with_one_seed_give_equal_bits_on_several_threads(tmp_path):
    """Sums over threads differ in the last bits from one run to the next unless `deterministic` orders them."""
    root = tmp_path / "shapes"
    generate_shapes(root, images_train=160, images_val=2, size=160, seed=0)
    data = {"path": str(root), "train": "images/train", "val": "images/val", "names": list(NAMES)}
    options = {"imgsz": 160, "batch": 8, "nbs": 8, "queries": 40, "denoising": 30, "val": False, "plots": False}
    weights = []
    for run in ("a", "b"):
        model = RTDETR("rtdetr-efficientvit-m0.yaml")
        model.train(data=data, project=str(tmp_path), name=run, **QUICK | options)
        weights.append(load_checkpoint(model.trainer.last)["model"])
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.slow
def test_compiled_network_equals_the_plain_one(shapes, tiny, tmp_path, caplog):
    """In training, validation and prediction, with the real compiler: minutes."""
    # Of Adam's first step rounding decides the sign where a gradient is near 0; SGD's is the gradient itself.
    options = {"plots": False, "multi_scale": False, "optimizer": "SGD", "lr0": 1.0, "project": str(tmp_path)}
    states, scores, boxes = [], [], []
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for compile in (False, True):
        model = RTDETR(tiny)
        with caplog.at_level("WARNING", logger="ultralytics"):
            model.train(data=str(shapes), compile=compile, **QUICK, **options)
            metrics = model.val(batch=3, workers=0, device="cpu", compile=compile, project=str(tmp_path))
            boxes.append(model.predict(image, conf=0, device="cpu", compile=compile)[0].boxes.data)
        states.append(model.model.state_dict())
        scores.append(metrics.box.map50)
    assert "torch.compile failed" not in caplog.text
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-5)
    assert scores[1] == pytest.approx(scores[0], abs=0.02)
    assert len(boxes[0]) == len(boxes[1])
    nearest = torch.cdist(boxes[0], boxes[1]).min(1).values  # places may be changed by rounding
    assert nearest.max() < 0.5
