"""results.csv has clean headers, and the last lines of a run say which epoch was best and why it ended."""

from __future__ import annotations

import csv

import pytest

from tests.engine.fakes import TinyTrainer, tiny_options


def run(folder, planned=TinyTrainer.planned, **changes) -> TinyTrainer:
    trainer = type("Planned", (TinyTrainer,), {"planned": planned})(tiny_options(folder, **changes))
    trainer.train()
    return trainer


@pytest.fixture
def told(caplog):
    """The lines of the log so far."""
    with caplog.at_level("INFO", logger="ultralytics"):
        yield lambda: caplog.text.splitlines()


def test_the_headers_of_results_csv_have_no_blanks(tmp_path):
    trainer = run(tmp_path, epochs=2)
    header = trainer.files.results.read_text().splitlines()[0]
    assert " " not in header and header.startswith(
        "epoch,time,train/a_loss,train/b_loss,metrics/mAP50-95(B),val/a_loss"
    )
    rows = list(csv.DictReader(trainer.files.results.open()))
    assert all(float(value) >= 0 for row in rows for value in row.values())


def test_the_log_says_which_group_a_column_is_about(tmp_path, told):
    trainer = run(tmp_path, epochs=1, backbone_lr_ratio=0.5, warmup_iters=0)
    names = "lr/pg0 backbone/decay, lr/pg1 backbone/no decay, lr/pg2 rest/decay, lr/pg3 rest/no decay"
    assert any(names in line for line in told())
    row = next(csv.DictReader(trainer.files.results.open()))
    assert [float(row[f"lr/pg{index}"]) for index in range(4)] == pytest.approx([0.005, 0.005, 0.01, 0.01])


def test_a_whole_run_says_which_epoch_was_best(tmp_path, told):
    run(tmp_path, planned=(0.1, 0.3, 0.2, 0.2))
    lines = told()
    assert any("4 of 4 epochs in 0:0" in line and line.endswith(": all that were asked for.") for line in lines)
    assert "Best epoch: 2, with mAP50-95 0.3000." in lines
    assert "  weights/best.pt  epoch 2" in lines and "  weights/last.pt  epoch 4, to go on training" in lines


def test_early_stopping_says_why_and_how_to_go_on(tmp_path, told):
    trainer = run(tmp_path, planned=(0.1, 0.5, 0.4, 0.3), epochs=9, patience=2)
    lines = told()
    (end,) = (line for line in lines if "4 of 9 epochs" in line)
    assert "Ended early: no better result for 2 epochs (patience=2): the best fitness, 0.5000, was" in end
    assert "Best epoch: 2, with mAP50-95 0.5000." in lines
    assert lines[-1] == f"  yolo train resume={trainer.last} patience=0"
    given = {"resume": str(trainer.last), "patience": 0}
    resumed = TinyTrainer(tiny_options(tmp_path, **given), overrides=given)
    resumed.train()
    assert resumed.epoch == 9


def test_the_time_limit_says_so_too(tmp_path, told):
    trainer = run(tmp_path, epochs=1000, time=1e-5)
    lines = told()
    assert any("Ended early: " in line and "of time=1e-05 hours have passed" in line for line in lines)
    assert lines[-1] == f"  yolo train resume={trainer.last} time=HOURS"


def test_without_validation_or_labels_no_epoch_is_called_best(tmp_path, told):
    run(tmp_path, epochs=1, val=False)
    assert "Best epoch: not known, as val=False says; best.pt is the last one." in told()
    run(tmp_path, planned=(float("nan"),), epochs=1)
    assert "Best epoch: not known, as the validation images have no labels; best.pt is the last one." in told()


def test_without_saving_nothing_is_said_about_weights(tmp_path, told):
    run(tmp_path, epochs=1, save=False)
    assert not any("weights/" in line or "yolo predict" in line for line in told())
