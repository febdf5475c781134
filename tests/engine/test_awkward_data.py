"""RTDETR on small or unusual data: it trains, validates and predicts, or raises a readable error."""

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from ultralytics import RTDETR
from ultralytics.utils.errors import DataError

NETWORK = "rtdetr-efficientvit-m0.yaml"
QUICK = {"imgsz": 64, "batch": 2, "epochs": 1, "workers": 0, "queries": 30, "device": "cpu", "plots": False}
EVERYTHING = {"augmentation": "official", "dense": 0.5, "close_mosaic": 0}  # all strong augmentation
MIDDLE = "0 0.5 0.5 0.4 0.4"

Picture = tuple[np.ndarray, Sequence[str]]  # pixels and label rows


def noise(height: int = 60, width: int = 80, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def write(root: Path, train: Sequence[Picture], val: Sequence[Picture] = (), classes: int = 2) -> str:
    """Write a data set of these pictures, the same for both splits unless `val` is given; return its YAML."""
    for split, pictures in (("train", train), ("val", val or train)):
        for name in ("images", "labels"):
            (root / name / split).mkdir(parents=True)
        for index, (pixels, rows) in enumerate(pictures):
            cv2.imwrite(str(root / "images" / split / f"{index:03}.png"), pixels)
            (root / "labels" / split / f"{index:03}.txt").write_text("".join(f"{row}\n" for row in rows))
    content = {"path": str(root), "train": "images/train", "val": "images/val"}
    (root / "data.yaml").write_text(yaml.safe_dump(content | {"names": [f"c{i}" for i in range(classes)]}))
    return str(root / "data.yaml")


def run(data: str, callbacks: dict | None = None, **changes) -> RTDETR:
    """Train, validate and predict; check that losses are finite and every image has a result."""
    options = {**QUICK, **changes, "data": data, "project": str(Path(data).parent / "runs")}
    model = RTDETR(NETWORK)
    for event, function in (callbacks or {}).items():
        model.add_callback(event, function)
    model.train(**options)
    assert all(math.isfinite(value) for value in model.trainer.losses.values())
    shared = {key: options[key] for key in ("imgsz", "workers", "device", "plots", "project", "batch")}
    assert math.isfinite(model.val(data=data, **shared).box.map)
    folder = Path(data).parent / "images" / "val"
    results = model.predict(str(folder), imgsz=options["imgsz"], device="cpu", conf=1e-6, project=options["project"])
    assert len(results) == len(list(folder.iterdir()))
    for result in results:
        height, width = result.orig_shape
        assert torch.isfinite(result.boxes.data).all() and (result.boxes.xyxy <= max(height, width)).all()
    return model


def test_one_image_of_one_class(tmp_path):
    model = run(write(tmp_path, [(noise(), [MIDDLE])], classes=1), batch=16, mixup=1.0, close_mosaic=0)
    assert model.trainer.model.nc == 1 and len(model.trainer.train_loader) == 1


def test_500_boxes_in_an_image(tmp_path):
    """Denoising queries are limited to twice the option."""
    places = np.random.default_rng(0).uniform(0.1, 0.9, (500, 2))
    rows = [f"{i % 2} {x:.4f} {y:.4f} {0.02 + i % 7 / 50:.4f} 0.05" for i, (x, y) in enumerate(places)]
    seen = []

    def watch(trainer) -> None:
        decoder = trainer.model.model[-1].decoder
        seen.append(None) if seen else decoder.register_forward_pre_hook(
            lambda module, inputs: seen.append(inputs[0].shape[1])
        )

    data = write(tmp_path, [(noise(200, 200), rows), (noise(), [MIDDLE])])
    model = run(data, {"on_train_start": watch}, denoising=20, mosaic=0.0, translate=0.0, scale=0.0, flipud=0.0)
    assert len(model.trainer.batch["cls"]) > 400
    assert max(count for count in seen if count) == 30 + 2 * 20


def test_images_without_boxes(tmp_path):
    options = {**QUICK, "project": str(tmp_path / "runs")}
    with pytest.raises(DataError, match="train: no boxes to train on in 3 images"):
        RTDETR(NETWORK).train(data=write(tmp_path / "train", [(noise(seed=i), []) for i in range(3)]), **options)
    data = write(tmp_path / "val", [(noise(seed=i), [MIDDLE]) for i in range(2)], val=[(noise(), [])])
    model = RTDETR(NETWORK)
    model.train(data=data, **options)
    assert model.trainer.finished_epochs == 1 and math.isnan(model.trainer.fitness)
    assert math.isnan(model.val(data=data, workers=0, plots=False, project=str(tmp_path / "runs")).box.map)


@pytest.mark.parametrize("batch", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_batch_of_one_image_with_1x1_map(tmp_path, batch):
    """At 32 px P5 is 1 x 1: for one image BatchNorm has a single value per channel, for which torch raises."""
    model = run(write(tmp_path, [(noise(seed=i), [MIDDLE]) for i in range(3)]), imgsz=32, batch=batch)
    assert all(torch.isfinite(value).all() for value in model.trainer.ema.ema.state_dict().values())


LARGE = pytest.param(7000, 8000, marks=pytest.mark.slow)  # near the limit of 62 million pixels


@pytest.mark.parametrize(("height", "width"), [(16, 16), LARGE])
@pytest.mark.parametrize("augmentation", [pytest.param("mosaic", marks=pytest.mark.slow), "official"])
def test_image_of_unusual_size(tmp_path, height, width, augmentation):
    pixels = np.kron(noise(height // 16, width // 16), np.ones((16, 16, 1), np.uint8))
    run(write(tmp_path, [(pixels, [MIDDLE])]), **{**EVERYTHING, "augmentation": augmentation})
