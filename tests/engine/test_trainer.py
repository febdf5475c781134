"""The training loop on a model that takes milliseconds: what is saved, what is resumed, why a run ends."""

from __future__ import annotations

import csv
import os
import shutil
import signal

import pytest
import torch

from tests.engine.fakes import TinyModel, TinyTrainer, tiny_options
from ultralytics.engine import checkpoint as run_files
from ultralytics.engine.checkpoint import load_checkpoint
from ultralytics.engine.train_state import NonFiniteLossError, TrainingInterrupted
from ultralytics.utils.errors import OptionError


def run(folder, callbacks=None, trainer=TinyTrainer, **changes) -> TinyTrainer:
    built = trainer(tiny_options(folder, **changes), None, callbacks)
    built.train()
    return built


def same_state(first: dict, second: dict) -> bool:
    same_weights = all(
        torch.equal(first[part][name], second[part][name]) for part in ("model", "ema") for name in first[part]
    )
    moments = [[s["exp_avg_sq"] for s in state["optimizer"]["state"].values()] for state in (first, second)]
    return same_weights and all(torch.equal(a, b) for a, b in zip(*moments, strict=True))


def rows(trainer: TinyTrainer) -> list[dict[str, str]]:
    return list(csv.DictReader(trainer.files.results.open()))


def test_a_run_leaves_its_files(tmp_path):
    trainer = run(tmp_path, save_period=2)
    assert sorted(file.name for file in trainer.save_dir.rglob("*") if file.is_file()) == [
        "args.yaml", "best.pt", "epoch2.pt", "epoch4.pt", "last.pt", "results.csv",
    ]  # fmt: skip
    assert list(rows(trainer)[0]) == [
        "epoch", "time", "train/a_loss", "train/b_loss", "metrics/mAP50-95(B)", "val/a_loss", "val/b_loss",
        "lr/pg0", "lr/pg1", "lr/pg2", "lr/pg3",
    ]  # fmt: skip
    assert [row["epoch"] for row in rows(trainer)] == ["1", "2", "3", "4"]
    last = load_checkpoint(trainer.last)
    assert (last["epoch"], last["best_fitness"], last["nc"], last["scaler"]) == (3, 0.4, 2, None)
    assert last["options"]["lr0"] == 0.01
    assert last["model"]["model.0.0.weight"].dtype == torch.float32


def test_the_same_seed_gives_the_same_weights(tmp_path):
    first, second = (load_checkpoint(run(tmp_path).last) for _ in range(2))
    assert same_state(first, second)
    assert not same_state(first, load_checkpoint(run(tmp_path, seed=1).last))


@pytest.mark.parametrize("changes", [{}, {"nbs": 4}, {"cos_lr": True, "lrf": 0.1, "multi_scale": True, "imgsz": 64}])
@pytest.mark.parametrize("stop_after", [1, 3, 4, 6, 7])
def test_interrupted_and_resumed_ends_where_an_uninterrupted_run_does(tmp_path, stop_after, changes):
    whole = run(tmp_path, name="whole", **changes)
    seen = []

    def press_ctrl_c(trainer):
        seen.append(trainer.batches_done)
        if len(seen) == stop_after:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(TrainingInterrupted, match=r"yolo train resume=.*last\.pt"):
        run(tmp_path, {"on_train_batch_end": press_ctrl_c}, name="cut", **changes)
    last = tmp_path / "cut" / "weights" / "last.pt"
    done = load_checkpoint(last)
    resumed = TinyTrainer(tiny_options(tmp_path, resume=str(last)), overrides={"workers": 0})
    resumed.train()
    assert done["epoch"] < 3
    assert resumed.save_dir == last.parent.parent
    assert same_state(load_checkpoint(whole.last), load_checkpoint(resumed.last))
    without_time = [{k: v for k, v in row.items() if k != "time"} for row in rows(whole)]
    assert [{k: v for k, v in row.items() if k != "time"} for row in rows(resumed)] == without_time


def test_the_handler_of_ctrl_c_is_put_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    run(tmp_path, epochs=1)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_finished_run_is_resumed_with_more_epochs(tmp_path):
    trainer = run(tmp_path, epochs=2)
    with pytest.raises(OptionError, match="has done its 2 epochs"):
        TinyTrainer(tiny_options(tmp_path, resume=str(trainer.last)), overrides={}).train()
    longer = TinyTrainer(tiny_options(tmp_path, resume=str(trainer.last)), overrides={"epochs": 3})
    longer.train()
    assert [row["epoch"] for row in rows(longer)] == ["1", "2", "3"]


def test_resume_takes_the_options_of_the_run(tmp_path):
    trainer = run(tmp_path, epochs=2, lr0=0.02)
    weights = str(trainer.last)
    # Of plain options, what differs from the defaults must have been written by the user.
    with pytest.raises(OptionError, match=r"lr0=0\.01: a resumed run keeps its lr0=0\.02"):
        TinyTrainer(tiny_options(tmp_path, resume=True, model=weights, lr0=0.01))
    given = {"resume": True, "model": weights, "epochs": 5, "lr0": 0.02}
    resumed = TinyTrainer(tiny_options(tmp_path, **given), overrides=given)
    assert (resumed.args.lr0, resumed.args.epochs, resumed.args.batch) == (0.02, 5, 2)


def test_resume_without_a_checkpoint_names_the_newest(tmp_path):
    with pytest.raises(OptionError, match="there is none in"):
        TinyTrainer(tiny_options(tmp_path, resume=True))
    trainer = run(tmp_path, epochs=1)
    with pytest.raises(OptionError, match=f"the newest here is resume={trainer.last}"):
        TinyTrainer(tiny_options(tmp_path, resume=True, model="rtdetr-r18.yaml"))


def test_early_stopping_explains_itself(tmp_path, caplog):
    class Worsening(TinyTrainer):
        planned = (0.1, 0.5, 0.4, 0.3, 0.2, 0.1)

    with caplog.at_level("INFO", logger="ultralytics"):
        trainer = run(tmp_path, trainer=Worsening, epochs=9, patience=2)
    assert trainer.epoch == 4
    assert "no better result for 2 epochs (patience=2)" in caplog.text
    assert "reached in epoch 2" in caplog.text
    assert load_checkpoint(trainer.best)["epoch"] == 1
    assert f"yolo predict model={trainer.best}" in caplog.text


def test_the_time_limit_ends_the_run_before_it_is_passed(tmp_path, caplog):
    with caplog.at_level("INFO", logger="ultralytics"):
        trainer = run(tmp_path, epochs=1000, time=1e-5)
    assert trainer.epoch < 10
    assert "of time=1e-05 hours" in caplog.text


def spoiled_loss(trainer, times):
    """Make the loss NaN for so many batches from now on."""
    left, forward = [times], trainer.model.forward

    def spoil(batch):
        left[0] -= 1
        return (torch.tensor(float("nan")), torch.full((2,), float("nan"))) if left[0] >= 0 else forward(batch)

    trainer.model.forward = spoil


@pytest.mark.parametrize("part", ["loss", "gradient"])
def test_a_loss_that_is_not_finite_again_ends_the_run_and_keeps_the_batch(tmp_path, part):
    def spoil(trainer):
        if trainer.epoch == 1 and part == "loss":
            spoiled_loss(trainer, times=9)
        elif trainer.epoch == 1:
            trainer.model.model[1].weight.register_hook(lambda gradient: gradient * float("inf"))

    with pytest.raises(NonFiniteLossError, match=f"Epoch 2, batch 1: .*{part}.*second time.*lower lr0") as caught:
        run(tmp_path, {"on_train_epoch_start": spoil})
    assert "last.pt" in str(caught.value)
    saved = load_checkpoint(tmp_path / "train" / "weights" / "last.pt")
    assert saved["epoch"] == 0
    assert all(value.isfinite().all() for value in saved["model"].values())
    batch = torch.load(tmp_path / "train" / "non_finite.pt", weights_only=True)
    assert batch["img"].shape == (2, 3, 64, 64) and len(batch["bboxes"]) == 3


@pytest.mark.parametrize("save", [True, False])
def test_a_loss_that_is_not_finite_once_goes_back_at_half_the_rate(tmp_path, caplog, save):
    rates = []

    def spoil(trainer):
        if trainer.epoch == 1 and trainer.rate_scale == 1:
            spoiled_loss(trainer, times=1)

    def note(trainer):
        rates.append((trainer.epoch, trainer.optimizer.param_groups[0]["lr"]))

    with caplog.at_level("WARNING", logger="ultralytics"):
        trainer = run(tmp_path, {"on_train_epoch_start": spoil, "on_train_epoch_end": note}, warmup_iters=0, save=save)
    assert "Epoch 2, batch 1: the loss is nan (a_loss nan, b_loss nan)" in caplog.text
    assert "from the last good state, epoch 2, batch 1, at 0.5" in caplog.text
    assert rates == [(epoch, pytest.approx(rate)) for epoch, rate in enumerate((0.01, 0.005, 0.005, 0.005))]
    assert [row["epoch"] for row in rows(trainer)] == ["1", "2", "3", "4"]
    assert all(value.isfinite().all() for value in trainer.ema.ema.state_dict().values())


def test_a_statistic_that_is_not_finite_is_never_kept(tmp_path):
    def spoil(trainer):
        if trainer.epoch == 1:
            trainer.model.model[0][1].running_var.fill_(float("inf"))

    with pytest.raises(NonFiniteLossError, match="a weight or statistic of the network is not finite"):
        run(tmp_path, {"on_train_batch_start": spoil}, nbs=4)
    weights = tmp_path / "train" / "weights"
    for file in weights.iterdir():
        saved = load_checkpoint(file)
        assert all(value.isfinite().all() for part in ("model", "ema") for value in saved[part].values())


def test_overflowing_steps_in_float16_are_skipped_and_told(tmp_path, caplog):
    class Half(TinyTrainer):
        def mixed_precision(self):
            return torch.float16  # as on a GPU without bfloat16

    def overflow(trainer):
        if trainer.epoch == 1 and trainer.batches_done == 0:
            handle = trainer.model.model[1].weight.register_hook(
                lambda gradient: (handle.remove(), gradient * float("inf"))[1]
            )

    with caplog.at_level("INFO", logger="ultralytics"):
        trainer = run(tmp_path, {"on_train_batch_start": overflow}, trainer=Half, amp=True)
    assert "mixed precision float16" in caplog.text
    assert "step 4 is skipped (2 in all)" in caplog.text  # the scale that the scaler starts from is too large as well
    assert (trainer.skipped, trainer.rate_scale, trainer.epoch) == (2, 1.0, 4)
    assert load_checkpoint(trainer.last)["scaler"]["scale"] < 2**16


def test_killed_in_its_first_epoch_a_run_can_be_resumed(tmp_path):
    whole = run(tmp_path, name="whole")

    def killed(trainer):
        raise ConnectionAbortedError  # stands for SIGKILL: nothing of the package catches it

    with pytest.raises(ConnectionAbortedError):
        run(tmp_path, {"on_train_batch_end": killed}, name="cut")
    folder = tmp_path / "cut"
    resumed = TinyTrainer(tiny_options(tmp_path, resume=str(folder)), overrides={})
    resumed.train()
    assert same_state(load_checkpoint(whole.last), load_checkpoint(resumed.last))


def test_within_an_epoch_the_state_is_kept_by_time(tmp_path):
    seen = []

    def note(trainer):
        saved = load_checkpoint(trainer.last)
        seen.append((saved["epoch"] + 1, saved["batches_done"]))

    run(tmp_path, {"on_train_batch_start": note}, epochs=2, save_minutes=0)
    assert seen == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_damaged_checkpoint_is_replaced_by_the_newest_that_can_be_read(tmp_path, damage, caplog):
    trainer = run(tmp_path, epochs=3, save_period=2)
    trainer.best.unlink()  # a link to the content of last.pt
    if damage == "cut":
        content = trainer.last.read_bytes()
        trainer.last.unlink()
        trainer.last.write_bytes(content[:2000])
    else:
        trainer.last.unlink()
    given = {"resume": str(trainer.last), "epochs": 4}
    with caplog.at_level("WARNING", logger="ultralytics"):
        resumed = TinyTrainer(tiny_options(tmp_path, **given), overrides=given)
    assert "epoch2.pt, epoch 2" in caplog.text
    resumed.train()
    assert [row["epoch"] for row in rows(resumed)] == ["1", "2", "3", "4"]


def test_accumulated_batches_equal_one_large_batch(tmp_path):
    class Quiet(TinyTrainer):
        batches = 5

    trainer = run(tmp_path, trainer=Quiet, epochs=1, nbs=4)
    assert [trainer.is_update_due(i) for i in range(5)] == [False, True, False, True, True]
    assert [trainer.group_length(i) for i in range(5)] == [2, 2, 2, 2, 1]
    assert (trainer.updates, trainer.total_updates) == (3, 3)


def test_mosaic_is_closed_for_the_last_epochs(tmp_path):
    trainer = run(tmp_path, close_mosaic=2)
    assert len(trainer.train_loader.closed) == 2


def test_frozen_layers_stay_as_they_are(tmp_path):
    torch.manual_seed(0)
    model = TinyModel()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = TinyTrainer(tiny_options(tmp_path, freeze=1, epochs=1), model=model)
    trainer.train()
    moved = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert moved == ["model.1.weight", "model.1.bias"]


def test_without_validation_the_last_weights_are_the_best(tmp_path):
    trainer = run(tmp_path, val=False)
    assert load_checkpoint(trainer.best)["epoch"] == 3
    assert "val/a_loss" not in rows(trainer)[0]
    assert trainer.metrics["metrics/mAP50-95(B)"] == 0.1  # the final validation takes place


def test_save_false_writes_no_weights(tmp_path):
    trainer = run(tmp_path, save=False)
    assert not list(trainer.save_dir.rglob("*.pt"))


def test_killed_between_two_files_the_run_gets_there_again(tmp_path, monkeypatch):
    whole = run(tmp_path, name="whole")

    def killed(source, target):
        if target.name == "last.pt" and load_checkpoint(source)["epoch"] == 2:
            raise ConnectionAbortedError  # stands for SIGKILL: nothing of the package catches it

    original = run_files._link
    monkeypatch.setattr(run_files, "_link", lambda *paths: killed(*paths) or original(*paths))
    with pytest.raises(ConnectionAbortedError):
        run(tmp_path, name="cut")
    monkeypatch.undo()
    last = tmp_path / "cut" / "weights" / "last.pt"
    assert load_checkpoint(last)["epoch"] == 1
    resumed = TinyTrainer(tiny_options(tmp_path, resume=str(last)), overrides={})
    resumed.train()
    assert same_state(load_checkpoint(whole.last), load_checkpoint(resumed.last))
    assert [row["epoch"] for row in rows(resumed)] == ["1", "2", "3", "4"]


def test_a_checkpoint_moved_away_from_its_run_gets_a_best_of_its_own(tmp_path):
    trainer = run(tmp_path, epochs=2)
    moved = shutil.copy(trainer.last, tmp_path / "moved.pt")
    given = {"resume": str(moved), "epochs": 3}
    resumed = TinyTrainer(tiny_options(tmp_path, **given), overrides=given)
    resumed.train()
    assert resumed.save_dir == tmp_path / "train2"
    assert load_checkpoint(resumed.best)["epoch"] == 2


def test_without_labels_to_validate_on_the_newest_weights_are_the_best(tmp_path):
    class Unjudged(TinyTrainer):
        planned = (float("nan"),)

    trainer = run(tmp_path, trainer=Unjudged, patience=1)
    assert (trainer.epoch, load_checkpoint(trainer.best)["epoch"]) == (4, 3)


def test_events_come_in_order(tmp_path):
    events = ("on_train_start", "on_train_epoch_start", "on_train_batch_end", "on_fit_epoch_end", "on_model_save")
    seen = []
    run(tmp_path, {event: lambda _, event=event: seen.append(event) for event in events}, epochs=1)
    assert seen == [
        "on_train_start", "on_train_epoch_start", *["on_train_batch_end"] * 3, "on_fit_epoch_end", "on_model_save",
    ]  # fmt: skip


def test_image_size_is_rounded_up(tmp_path, caplog):
    with caplog.at_level("WARNING", logger="ultralytics"):
        trainer = run(tmp_path, imgsz=100, epochs=1)
    assert trainer.args.imgsz == 128
    assert "imgsz=100 is not a multiple of the model's stride 32; using 128" in caplog.text


def test_multi_scale_stays_within_three_and_five_quarters(tmp_path):
    sizes = set()
    run(tmp_path, {"on_train_batch_end": lambda trainer: sizes.add(trainer.batch["img"].shape[-1])},
        imgsz=128, multi_scale=True, epochs=20)  # fmt: skip
    assert sizes == {96, 128, 160}


def test_a_device_that_is_not_there_leaves_no_folder(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ValueError, match="no CUDA device is visible"):
        run(tmp_path, device="0")
    assert not list(tmp_path.iterdir())


def test_when_a_run_is_over_best_holds_the_averaged_weights_alone(tmp_path):
    trainer = run(tmp_path, epochs=2, save_period=1)
    best, last = load_checkpoint(trainer.best), load_checkpoint(trainer.last)
    assert best["optimizer"] is None and last["optimizer"] is not None
    assert all(torch.equal(value, best["model"][name]) for name, value in best["ema"].items())
    assert load_checkpoint(trainer.last.with_name("epoch2.pt"))["optimizer"] is not None  # shared its content before
    resumed = run(tmp_path, resume=str(trainer.last), epochs=3)
    assert resumed.epoch == 3 and load_checkpoint(resumed.best)["optimizer"] is None
