"""RTDETR end to end on a few generated images: train, resume, validate, predict, save and load."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.interop.networks import NETWORK
from tests.shapes import write_shapes
from ultralytics import RTDETR
from ultralytics.cfg import get_cfg
from ultralytics.cfg.model_yaml import MODELS_DIR
from ultralytics.data.synthetic import NAMES, generate_shapes
from ultralytics.engine.checkpoint import load_checkpoint
from ultralytics.models.rtdetr import RTDETRTrainer
from ultralytics.utils.errors import DeviceError, ModelConfigError, OptionError, UserError, WeightsError
from ultralytics.utils.flops import get_flops

QUICK = {"imgsz": 64, "batch": 4, "epochs": 1, "workers": 0, "queries": 10, "denoising": 4, "device": "cpu"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("data"), train=6, val=3)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("model") / "tiny.yaml"
    file.write_text(yaml.safe_dump(NETWORK))
    return file


@pytest.fixture(scope="module")
def trained(data, tiny, tmp_path_factory) -> RTDETR:
    """A model after one epoch; its run folder is `trained.trainer.save_dir`."""
    model = RTDETR(tiny)
    model.train(data=str(data), project=str(tmp_path_factory.mktemp("runs")), name="exp", **QUICK)
    return model


def test_a_run_leaves_weights_results_and_pictures(trained):
    folder = trained.trainer.save_dir
    assert {"best.pt", "last.pt"} == {p.name for p in (folder / "weights").iterdir()}
    header, row = (folder / "results.csv").read_text().strip().splitlines()
    assert header.startswith("epoch,time,train/giou_loss,train/cls_loss,train/l1_loss,metrics/precision(B)")
    assert len(row.split(",")) == len(header.split(","))
    assert {"args.yaml", "results.png", "labels.png"} <= {p.name for p in folder.iterdir()}


def test_the_model_holds_the_best_weights_afterwards(trained):
    assert trained.names == dict(enumerate(NAMES))
    saved = load_checkpoint(trained.trainer.best)["ema"]
    assert all(torch.equal(v, saved[k]) for k, v in trained.model.state_dict().items())


def test_weights_validate_on_the_data_and_size_they_were_trained_with(trained):
    model = RTDETR(trained.trainer.best)
    metrics = model.val(plots=False, workers=0, project=str(trained.trainer.save_dir))
    expected = trained.metrics.results_dict
    assert metrics.results_dict == pytest.approx(expected, abs=1e-6)
    assert model.model.model[-1].num_queries == 10


def test_runs_end_with_a_summary_table(trained, tmp_path):
    model = RTDETR(trained.trainer.best)
    with pytest.raises(UserError, match="there are no metrics yet"):
        model.summary_table()
    metrics = model.val(workers=0, project=str(tmp_path), device="cpu")
    tables = [folder / "summary_table.csv" for folder in (trained.trainer.save_dir, tmp_path / "val")]
    for file in tables:
        assert len(list(file.parent.glob("summary_table.*"))) == 4
        with open(file, newline="") as stream:
            first = next(csv.DictReader(stream))
        assert (first["Model"], first["Size (px)"], first["Class"]) == ("tiny", "64", "all")
        assert float(first["Params (M)"]) * 1e6 == sum(p.numel() for p in model.model.parameters())
        assert float(first["File (MB)"]) * 1e6 == trained.trainer.best.stat().st_size
        assert float(first["mAP50-95"]) == pytest.approx(metrics.box.map, abs=1e-6)
    table = model.summary_table().model
    row = dict(zip(table.titles, table.rows[0], strict=True))
    assert (row["GFLOPs"], row["Batch"]) == (get_flops(model.model, 64), get_cfg().batch)


def test_predict_takes_an_array_and_streams(trained):
    image = np.full((50, 80, 3), 128, np.uint8)
    (vector,) = trained.embed(image)
    assert vector.shape == (16,)  # the mean over the last map before the head
    (result,) = trained.predict(image, conf=0.0)
    assert result.orig_shape == (50, 80) and 0 < len(result.boxes) <= 10
    assert result.names == trained.names
    stream = trained.predict([image, image], conf=0.0, stream=True, batch=2)
    assert [len(r.boxes) for r in stream] == [len(result.boxes)] * 2


def test_saved_weights_predict_the_same(trained, tmp_path):
    trained.save(tmp_path / "copy.pt")
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(RTDETR(tmp_path / "copy.pt").model(x)[0], trained.model.eval()(x)[0])


def test_weights_are_held_once(trained):
    """last.pt has the network, its EMA and two moments of the optimizer; only the network in use stays in memory."""
    model = RTDETR(trained.trainer.save_dir / "weights" / "last.pt")
    assert model.checkpoint["optimizer"]
    network = model.model
    assert not any(model.checkpoint[key] for key in ("model", "ema", "optimizer"))
    assert model.model is network
    assert model.checkpoint["options"]["imgsz"] == QUICK["imgsz"]


def test_a_fused_network_predicts_the_same_but_is_not_saved(trained, tmp_path):
    model = RTDETR(trained.trainer.best)
    image = np.full((50, 80, 3), 128, np.uint8)
    before = model.predict(image, conf=0.0)[0].boxes.data
    after = model.fuse().predict(image, conf=0.0)[0].boxes.data
    assert torch.allclose(before[:, :5], after[:, :5], atol=1e-3)
    with pytest.raises(UserError, match="a fused network cannot be saved"):
        model.save(tmp_path / "fused.pt")


def test_load_takes_what_fits_and_logs_the_rest(trained, tiny, caplog):
    other = RTDETR(tiny)  # 80 classes
    with caplog.at_level("INFO", logger="ultralytics"):
        other.load(trained.trainer.best)
    assert "enc_score_head.weight (shape (6, 32), the model has (80, 32))" in caplog.text
    ours, theirs = other.model.state_dict(), trained.model.state_dict()
    assert torch.equal(ours["model.0.conv.weight"], theirs["model.0.conv.weight"])


@pytest.mark.parametrize("row", [[], ["weights.pth"]], ids=["from scratch", "pretrained"])
def test_a_backbone_with_weights_in_its_row_learns_at_a_tenth_of_the_rate(row, data, tmp_path):
    weights = tmp_path / "weights.pth"
    torch.save({"model": RTDETR("rtdetr-efficientvit-m0.yaml").model.model[0].state_dict()}, weights)
    text = (MODELS_DIR / "rt-detr" / "rtdetr-efficientvit-m0.yaml").read_text()
    file = tmp_path / "net.yaml"
    file.write_text(text.replace("EfficientViT_M0, []", f"EfficientViT_M0, {[str(weights)] if row else []}"))
    options = {**QUICK, "model": str(file), "data": str(data), "project": str(tmp_path), "plots": False}
    trainer = RTDETRTrainer(get_cfg(overrides=options))
    trainer.setup()
    assert trainer.args.backbone_lr_ratio == (0.1 if row else 1.0)


def test_resume_continues_with_more_epochs(trained):
    model = RTDETR(trained.trainer.last)
    model.train(resume=True, epochs=2)
    rows = (trained.trainer.save_dir / "results.csv").read_text().strip().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "2"]


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


def test_a_gpu_that_does_not_exist_is_an_error_with_the_remedy(data):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(DeviceError, match=r"device='0': no CUDA device .* use device='cpu'"):
        RTDETR("rtdetr-efficientvit-m0.yaml").train(data=str(data), epochs=72, device="0", project="runs")


def test_options_are_checked_before_anything_is_built(data):
    model = RTDETR("rtdetr-efficientvit-m0.yaml")
    with pytest.raises(OptionError, match="did you mean 'epochs'"):
        model.train(data=str(data), epoch=3)
    with pytest.raises(UserError, match="source= is missing"):
        model.predict()
    assert "model" not in vars(model)


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
