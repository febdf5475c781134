import torch

from ultralytics.tools.common import load_network
from ultralytics.tools.profile_layers import layer_times
from ultralytics.utils.tables import read_csv


def test_every_layer_is_timed(model_file):
    network = load_network(str(model_file))
    times = layer_times(network, torch.rand(1, 3, 64, 64), torch.device("cpu"), warmup=1, repeats=2)
    assert len(times) == len(network.model) == 3 and min(times) > 0
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in network.model)


def test_the_command_writes_its_table(yolo, model_file, tmp_path):
    words = ("profile", f"model={model_file}", "imgsz=64", "repeats=1", "warmup=0", "device=cpu", "nc=2")
    code, text = yolo(*words, "sort=flops")
    assert code == 0 and "RTDETRDecoder" in text and "means of 1 runs after 0 warmup runs" in text
    rows = read_csv(tmp_path / "runs/profile/tiny-model/profile.csv")
    assert len(rows) == 4 and rows[-1]["layer"] == "sum"
    code, text = yolo(*words, "sort=tim")
    assert code == 2 and "sort: expected one of 'layer', 'parameters', 'flops', 'time', got 'tim'" in text
