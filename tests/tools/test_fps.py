import pytest
import torch

from ultralytics.models.benchmark import measure_speeds
from ultralytics.tools.common import load_network
from ultralytics.tools.fps import layer_times
from ultralytics.utils.tables import read_csv


def test_all_networks_are_timed_in_the_same_form(yolo, model_file, weights, tmp_path):
    text = yolo("fps", model_file, weights, "imgsz=64", "repeats=6", "warmup=1", "device=cpu")
    assert "medians of 6 timed runs after 1 warmup runs" in text
    rows = read_csv(tmp_path / "runs/fps/fps/fps.csv")
    assert [row["Model"] for row in rows] == [str(model_file), str(weights)]
    for row in rows:
        assert float(row["Folded (ms)"]) > 0 and float(row["Optimized (ms)"]) > 0 and int(row["Rewrites"]) > 0
        assert float(row["FPS (folded)"]) == pytest.approx(1000 / float(row["Folded (ms)"]))


def test_a_network_that_cannot_be_rewritten_is_timed_as_it_is(model_file):
    networks = {"fused": load_network(str(model_file)).fuse()}
    speed = measure_speeds(networks, imgsz=64, device=torch.device("cpu"), warmup=0, repeats=2)["fused"]
    assert speed.folded > 0 and (speed.optimized, speed.rewrites, speed.memory) == (None, 0, None)


@pytest.mark.slow
def test_an_exported_model(yolo, refused, exported):
    assert "2 timed runs" in yolo("fps", f"model={exported}", "imgsz=64", "repeats=2", "warmup=1", "device=cpu")
    for words in (("profile",), ("heatmap", "source=a.jpg")):
        text = refused(words[0], f"model={exported}", *words[1:])
        assert "an exported model has no layers; use the weights (.pt)" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "yolo fps: model= is missing; usage: yolo fps model=... [imgsz=640]"),
        (("model=no.pt",), "no.pt"),
        (("model=m.yaml", "repeats=1"), "repeats: expected an integer >= 2, got 1"),
        (("model=m.yaml", "half=True", "device=cpu"), "half=True: expected a CUDA device, got cpu"),
        (("model=m.yaml", "bacth=2"), "unknown argument 'bacth=2'; did you mean 'batch'?"),
        (("model=WEIGHTS", "nc=3"), "has weights for a fixed number of classes"),
    ],
)
def test_errors(refused, weights, words, message):
    assert message in refused("fps", *(word.replace("WEIGHTS", str(weights)) for word in words))


def test_every_layer_is_timed(model_file):
    network = load_network(str(model_file))
    times = layer_times(network, torch.rand(1, 3, 64, 64), torch.device("cpu"), warmup=1, repeats=2)
    assert len(times) == len(network.model) == 3 and min(times) > 0
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in network.model)


def test_profile_writes_its_table(yolo, refused, model_file, tmp_path):
    words = ("profile", f"model={model_file}", "imgsz=64", "repeats=1", "warmup=0", "device=cpu", "nc=2")
    text = yolo(*words, "sort=flops")
    assert "RTDETRDecoder" in text and "means of 1 runs after 0 warmup runs" in text
    rows = read_csv(tmp_path / "runs/profile/tiny-model/profile.csv")
    assert len(rows) == 4 and rows[-1]["layer"] == "sum"
    assert "sort: expected one of 'layer', 'parameters', 'flops', 'time', got 'tim'" in refused(*words, "sort=tim")
