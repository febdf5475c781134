import torch

from ultralytics.nn.summary import inspect_model
from ultralytics.tools.common import load_network
from ultralytics.tools.profile_layers import layer_times, profile_table
from ultralytics.utils.tables import read_csv


def test_layers_add_up_to_the_model(model_file):
    network = load_network(str(model_file))
    times = layer_times(network, torch.rand(1, 3, 64, 64), torch.device("cpu"), warmup=1, repeats=2)
    assert len(times) == len(network.model) == 3 and min(times) > 0
    inspection = inspect_model(network, 64)
    *rows, total = profile_table(inspection, times).rows
    assert [row[2] for row in rows] == ["EfficientViT_M0", "Conv", "RTDETRDecoder"] and rows[1][1] == "top"
    assert total[4] == sum(p.numel() for p in network.parameters())
    assert [row[4] for row in rows] == [sum(p.numel() for p in layer.parameters()) for layer in network.model]
    assert abs(total[6] - inspection.info.gflops_attention) < 1e-9
    assert abs(sum(row[9] for row in rows) - 100) < 1e-9


def test_the_most_expensive_first(model_file):
    network = load_network(str(model_file))
    inspection = inspect_model(network, 64)
    rows = profile_table(inspection, [1.0, 7.0, 3.0], "time").rows
    assert [row[8] for row in rows] == [7.0, 3.0, 1.0, 11.0]
    by_parameters = [row[4] for row in profile_table(inspection, [1.0, 7.0, 3.0], "parameters").rows[:-1]]
    assert by_parameters == sorted(by_parameters, reverse=True)


def test_the_command_writes_its_table(yolo, model_file, tmp_path):
    words = ("profile", f"model={model_file}", "imgsz=64", "repeats=1", "warmup=0", "device=cpu", "nc=2")
    code, text = yolo(*words, "sort=flops")
    assert code == 0 and "RTDETRDecoder" in text and "means of 1 runs after 0 warmup runs" in text
    rows = read_csv(tmp_path / "runs/profile/tiny-model/profile.csv")
    assert len(rows) == 4 and rows[-1]["Layer"] == "sum"
    code, text = yolo(*words, "sort=tim")
    assert code == 2 and "sort: expected one of 'layer', 'parameters', 'flops', 'time', got 'tim'" in text
