"""YOLO models against the published package: parameters, wiring, layers, FLOPs, predictions; fused and rewritten."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.golden.fill import fill
from tests.golden.inputs import image
from tests.golden.yolo_blocks import keys_crc
from ultralytics.nn import accelerate
from ultralytics.nn.parser import build_module
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.flops import get_flops

GOLDEN = Path(__file__).parents[1] / "golden"
MODELS = json.loads((GOLDEN / "yolo_models.json").read_text())
NUMBERS = np.load(GOLDEN / "yolo_models.npz")
SIZES = json.loads((GOLDEN / "yolo_sizes.json").read_text())  # parameters, and a CRC of their names and shapes
LARGEST = 5_000_000  # parameters of a model that is built in every test run
STEP = 16  # every 16th position of y and of the raw maps is recorded


@pytest.fixture(scope="module", params=MODELS, ids=str)
def reference(request) -> tuple[str, DetectionModel, dict]:
    """A model with the reference's weights, and the reference."""
    expected = MODELS[request.param]
    return request.param, fill(DetectionModel(f"{request.param}.yaml", nc=80), expected["gain"]), expected


def input_of(expected: dict) -> Tensor:
    return torch.from_numpy(image(expected["seed"], 256, 256))


def close(ours: Tensor, name: str) -> bool:
    numbers = NUMBERS[name]
    return ours.shape == numbers.shape and np.abs(ours.numpy() - numbers).max() <= 1e-4 * np.abs(numbers).max()


def tensors(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a layer's output under the reference's names."""
    if isinstance(value, Tensor):
        yield name, value
        return
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield from tensors(f"{name}.{key}" if isinstance(value, dict) else f"{name}[{key}]", part)


def test_parameters_and_wiring_are_those_of_the_reference(reference):
    _, model, expected = reference
    assert keys_crc(model) == expected["keys_crc"]  # names, shapes and order
    assert sum(p.numel() for p in model.parameters()) == expected["n_params"]
    assert model.stride.tolist() == model.model[-1].stride.tolist() == expected["stride"]
    assert model.save == expected["save"]
    layers = [[m.i, m.f, m.type.rsplit(".", 1)[-1], m.np] for m in model.model]
    assert layers == expected.get("layers", layers)
    info = expected.get("info")
    assert not info or sum(p.numel() for p in model.parameters() if p.requires_grad) == info["gradients"]


@pytest.mark.parametrize(
    "name", [n if size <= LARGEST else pytest.param(n, marks=pytest.mark.slow) for n, (size, _) in SIZES.items()]
)
def test_every_scale_of_every_file_has_the_parameters_of_the_published_model(name):
    model = DetectionModel(f"{name}.yaml")
    assert [sum(p.numel() for p in model.parameters()), keys_crc(model)] == SIZES[name]


@pytest.mark.parametrize(
    ("row", "scale", "expected"),
    [
        (["C3k2", [64]], "s", "c3k=False"),
        (["C3k2", [64]], "m", "c3k=True"),
        (["C3k2", [64, False, 0.25]], "x", "c3k=True, e=0.25"),
        (["A2C2f", [128, True, 1]], "m", "area=1"),
        (["A2C2f", [128, True, 1]], "l", "area=1, residual=True, mlp_ratio=1.2"),
        (["A2C2f", [128, True, 1, False, 2.0]], "l", "area=1, residual=False, mlp_ratio=2.0"),
    ],
)
def test_blocks_of_large_scales_differ_as_published(row, scale, expected):
    backbone = [[-1, 1, "Conv", [128, 3, 8]], [-1, 1, *row]]
    scales = {scale: [1.0, 1.0, 1024]}
    model = DetectionModel({"nc": 3, "scales": scales, "backbone": backbone, "head": [[[1], 1, "Detect", ["nc"]]]})
    assert model.model[1].arguments.endswith(expected)


@pytest.mark.parametrize(
    ("args", "act"),
    [([32], "SiLU"), ([32, 5], "SiLU"), ([32, 5, 3, False], "Identity"), ([32, 5, 3, True], "Identity")],
)
def test_the_first_convolution_of_sppf_has_an_activation_unless_the_row_counts_its_poolings(args, act):
    assert type(build_module("SPPF", args, inputs=((16, 8, 8),)).cv1.act).__name__ == act  # as published


def test_gflops_are_those_of_the_reference(reference):
    _, model, expected = reference
    if "gflops_reported" in expected:
        assert get_flops(model) == pytest.approx(expected["gflops_reported"], rel=1e-5)


@torch.no_grad()
def test_layers_and_predictions_are_those_of_the_reference(reference):
    name, model, expected = reference
    paired = hasattr(model.model[-1], "one2one_cv2")
    model.end2end = False  # the recorded y is of the one-to-many branch
    stats: dict[str, list[float]] = {}

    def record(layer, output):
        for key, x in tensors(f"model.{layer.i}", output):
            stats[key] = [float(x.mean()), float(x.std(correction=0)), float(x.abs().max())]

    y, raw = model._run_layers(input_of(expected), None, record)
    assert close(y[0, :, ::STEP], f"{name}_y")
    recorded = NUMBERS[f"{name}_layer_stats"]
    ours = np.array([stats[key] for key in expected["layer_names"]])
    assert (np.abs(ours - recorded) <= 1e-4 * recorded[:, 2:]).all()
    for key in NUMBERS.files:
        if key.startswith(f"{name}_one2"):
            branch, part = key.removeprefix(f"{name}_").split(".")
            assert close(raw[branch][part][0, :, ::STEP], key)
    if paired:
        model.end2end = True
        best = model(input_of(expected))[0]
        assert best.shape == (1, 300, 6) and (best[0, :-1, 4] >= best[0, 1:, 4]).all()
        if (key := f"{name}_y_end2end") in NUMBERS:
            np.testing.assert_allclose(best[0, :, 4], NUMBERS[key][:, 4], rtol=1e-4)
            pairs = {tuple(np.round(row[[0, 1, 2, 3, 5]])) for row in best[0].numpy()}
            same = [tuple(np.round(row[[0, 1, 2, 3, 5]])) in pairs for row in NUMBERS[key]]
            assert np.mean(same) > 0.9  # neighbors of nearly equal scores, and sides near half a pixel, may differ


@torch.no_grad()
def test_fusing_and_rewriting_keep_the_predictions(reference):
    _, model, expected = reference
    model.end2end = hasattr(model.model[-1], "one2one_cv2")
    x = input_of(expected)
    y = model(x)[0]
    scale = float(y.abs().max())
    fused = copy.deepcopy(model).fuse()
    if "n_params_fused" in expected:
        assert sum(p.numel() for p in fused.parameters()) == expected["n_params_fused"]
    for other in (fused, accelerate.for_inference(model)):
        result = other(x)[0]
        if model.end2end:
            result, wanted = result[..., 4], y[..., 4]  # rows of nearly equal scores may change places
            torch.testing.assert_close(result, wanted, rtol=1e-3, atol=1e-6)
        else:
            torch.testing.assert_close(result, y, rtol=0, atol=1e-4 * scale)
    if model.end2end:
        with pytest.raises(ModelConfigError, match="does not have its one-to-many branch"):
            fused.end2end = False
