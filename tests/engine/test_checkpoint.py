"""Checkpoints: exact round trip, full disks, truncated files, other formats."""

import resource

import pytest
import torch

from ultralytics.engine.checkpoint import FORMAT_VERSION, load_checkpoint, save_checkpoint
from ultralytics.utils.errors import UserError, WeightsError


def state(**extra) -> dict:
    weights = {"layer.weight": torch.arange(6.0).reshape(2, 3)}
    return {"model_yaml": {"nc": 2}, "names": {0: "cat", 1: "犬"}, "nc": 2, "model": weights, "ema": None, **extra}


def test_round_trip_is_exact(tmp_path):
    save_checkpoint(tmp_path / "a.pt", state(rng=[(1, 2), None], best_fitness=0.1))
    loaded = load_checkpoint(tmp_path / "a.pt")
    assert loaded["format_version"] == FORMAT_VERSION
    assert torch.equal(loaded["model"]["layer.weight"], torch.arange(6.0).reshape(2, 3))
    assert (loaded["names"], loaded["rng"], loaded["best_fitness"]) == ({0: "cat", 1: "犬"}, [(1, 2), None], 0.1)
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]


def test_full_disk_keeps_the_previous_file(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, state())
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # a write beyond it fails as on a full disk
    try:
        with pytest.raises(UserError, match=r"last\.pt: cannot save .*File too large.*existing file is intact"):
            save_checkpoint(path, state(model={"big": torch.zeros(1_000_000)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_objects_are_rejected_before_writing(tmp_path):
    with pytest.raises(TypeError, match=r"checkpoint\['options'\]\['device'\] is a device"):
        save_checkpoint(tmp_path / "a.pt", state(options={"device": torch.device("cpu")}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"w": torch.zeros(2), "b": torch.zeros(1)}, "got a dict with w, b"),
        ([1, 2], "got a list"),
        ({"model": torch.nn.Linear(1, 1)}, "pickled Python classes"),
        ({"format_version": 99}, "format 99, expected 1"),
    ],
)
def test_error_describes_the_file(tmp_path, content, message):
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    with pytest.raises(WeightsError, match=message) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
