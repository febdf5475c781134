"""Reading weights of others and loading what fits."""

import pytest
import torch
from torch import nn

from ultralytics.nn.weights import load_matching, read_state_dict
from ultralytics.utils.errors import WeightsError

TENSORS = {"weight": torch.ones(2, 3), "bias": torch.ones(2)}


@pytest.mark.parametrize(
    "content",
    [
        TENSORS,
        {"model": TENSORS},
        {"state_dict": {f"module.{k}": v for k, v in TENSORS.items()}},
        {"ema": {"module": TENSORS}, "model": {"weight": torch.zeros(2, 3)}, "epoch": 3},
        {"ema": None, "model": TENSORS, "loss_sum": torch.zeros(3)},
    ],
    ids=["plain", "model", "data parallel", "averaged first", "no average"],
)
def test_tensors_are_found_where_files_keep_them(content, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    found = read_state_dict(tmp_path / "w.pth")
    assert set(found) == set(TENSORS) and torch.equal(found["weight"], TENSORS["weight"])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda f: f.write_text("epoch,loss"), "not a weights file"),
        (lambda f: torch.save({"epoch": 3}, f), "no tensors by name"),
        (lambda f: torch.save([1, 2], f), "no tensors by name"),
        (lambda f: f.mkdir(), "is a folder"),
        (lambda f: torch.save({"model": nn.Linear(3, 2)}, f), "pickled Python classes"),
    ],
    ids=["text", "no tensors", "a list", "folder", "classes"],
)
def test_what_is_no_weights_file_is_refused(write, message, tmp_path):
    file = tmp_path / "w.pth"
    write(file)
    with pytest.raises(WeightsError, match=message):
        read_state_dict(file)


def test_the_report_names_what_fits_and_what_does_not():
    model = nn.Linear(3, 2)
    report = load_matching(model, {"weight": TENSORS["weight"], "bias": torch.ones(5), "head": torch.ones(1)})
    assert report.matched == ("weight",) and report.missing == ("bias",)
    assert report.left == {"bias": "shape (5,), the model has (2,)", "head": "no such name in the model"}
    assert torch.equal(model.weight.detach(), TENSORS["weight"])


def test_nothing_fitting_is_an_error_and_changes_nothing():
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    with pytest.raises(WeightsError, match="none of its 1 tensors fits Linear, which has 2"):
        load_matching(model, {"weight": torch.ones(4, 4)})
    assert torch.equal(model.weight.detach(), before)
