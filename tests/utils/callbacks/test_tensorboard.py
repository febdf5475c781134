"""The event file is read back with TensorBoard's own reader."""

from __future__ import annotations

import pytest

from tests.engine.fakes import TinyTrainer, tiny_options
from tests.engine.test_distribute import run_two

pytest.importorskip("tensorboard")


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def test_what_is_in_the_event_file(follow):
    trainer = follow("tensorboard")
    read = events(trainer.save_dir)
    scalars = read.Tags()["scalars"]
    assert {"train/a_loss", "metrics/mAP50-95(B)", "val/b_loss", "lr/pg0", "train/imgsz", "time"} <= set(scalars)
    fitness = read.Scalars("metrics/mAP50-95(B)")
    assert [(point.step, pytest.approx(point.value)) for point in fitness] == [(1, 0.1), (2, 0.2)]
    losses = [float(row["train/a_loss"]) for row in trainer.files.read_results()]
    assert [point.value for point in read.Scalars("train/a_loss")] == pytest.approx(losses, rel=1e-5)
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    assert [point.value for point in read.Scalars("model/parameters")] == [parameters]
    assert read.Scalars("best/metrics/mAP50-95(B)")[0].value == pytest.approx(0.1)
    (text,) = read.Tensors("options/text_summary")
    assert "    lr0: 0.01" in text.tensor_proto.string_val[0].decode()
    (picture,) = read.Images("results")
    assert picture.width > 100 and picture.encoded_image_string.startswith(b"\x89PNG")


def test_epochs_that_are_done_again_after_a_kill_are_there_once(follow, tmp_path):
    def killed(trainer):
        if trainer.epoch == 1:
            raise ConnectionAbortedError  # stands for SIGKILL: nothing of the package catches it

    def kill_later(trainer):  # after the epoch was told, before it was saved
        trainer.callbacks.add("on_fit_epoch_end", killed)

    with pytest.raises(ConnectionAbortedError):
        follow("tensorboard", {"on_train_start": kill_later}, epochs=3)
    folder = tmp_path / "mine" / "exp"
    assert [point.step for point in events(folder).Scalars("train/a_loss")] == [1, 2]
    resumed = TinyTrainer(tiny_options(tmp_path, resume=str(folder)), overrides={})
    resumed.train()
    assert [point.step for point in events(folder).Scalars("train/a_loss")] == [1, 2, 3]


def test_of_two_processes_one_writes(tmp_path):
    _, folder = run_two(tmp_path, loggers="tensorboard", epochs=2)
    assert len(list(folder.glob("events*"))) == 1
    assert [point.step for point in events(folder).Scalars("train/a_loss")] == [1, 2]
