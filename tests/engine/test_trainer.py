"""The training loop on a model that takes milliseconds: steps, checkpoints, resume, rollback, interruption."""

import os
import platform
import re
import shutil
import signal

import pytest
import torch
import yaml

from tests.engine.fakes import TinyTrainer, results, tiny_options
from ultralytics.cfg import get_cfg
from ultralytics.data.build import EpochLoader
from ultralytics.data.dataset import epoch_order
from ultralytics.engine import train_setup
from ultralytics.engine.checkpoint import load_checkpoint
from ultralytics.engine.train_log import RunClock
from ultralytics.engine.train_state import NonFiniteLossError, TrainingInterrupted
from ultralytics.utils.errors import OptionError, UserError


def run(folder, callbacks=None, trainer=TinyTrainer, **changes) -> TinyTrainer:
    built = trainer(tiny_options(folder, **changes), None, callbacks)
    built.train()
    return built


def resume(folder, checkpoint, callbacks=None, trainer=TinyTrainer, **changes) -> TinyTrainer:
    given = {"resume": checkpoint if checkpoint is True else str(checkpoint), **changes}
    built = trainer(tiny_options(folder, **given), given, callbacks)
    built.train()
    return built


def same_state(first: dict, second: dict) -> bool:
    same_weights = all(
        torch.equal(first[part][name], second[part][name]) for part in ("model", "ema") for name in first[part]
    )
    moments = [[s["exp_avg_sq"] for s in state["optimizer"]["state"].values()] for state in (first, second)]
    return same_weights and all(torch.equal(a, b) for a, b in zip(*moments, strict=True))


def test_files_of_a_run(tmp_path):
    trainer = run(tmp_path, save_period=2)
    assert sorted(file.name for file in trainer.save_dir.rglob("*") if file.is_file()) == [
        "args.yaml", "best.pt", "epoch2.pt", "epoch4.pt", "last.pt", "results.csv",
    ]  # fmt: skip
    assert [row["epoch"] for row in results(trainer.save_dir)] == ["1", "2", "3", "4"]
    last = load_checkpoint(trainer.last)
    assert (last["epoch"], last["best_fitness"], last["nc"], last["scaler"]) == (3, 0.4, 2, None)
    assert last["options"]["lr0"] == 0.01
    assert last["model"]["model.0.0.weight"].dtype == torch.float32


def test_modules_that_change_with_the_epoch_are_set_before_each(tmp_path):
    seen = []

    class Scheduled(TinyTrainer):
        def setup_model(self):
            super().setup_model()
            self.model.model[1].set_epoch = lambda *epoch: seen.append(epoch)

    trainer = run(tmp_path, trainer=Scheduled, epochs=2, patience=0)
    resume(tmp_path, trainer.last, trainer=Scheduled, epochs=4, resume_changed=True)
    assert seen == [(0, 2), (1, 2), (2, 4), (3, 4)]


@pytest.mark.parametrize("changes", [{}, {"nbs": 4}, {"cos_lr": True, "lrf": 0.1, "multi_scale": True, "imgsz": 64}])
@pytest.mark.parametrize("stop_after", [1, 3, 4, 8])
def test_resume_after_interruption_is_bit_exact(tmp_path, stop_after, changes):
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
    resumed = resume(tmp_path, last)
    assert done["epoch"] < 3
    assert same_state(load_checkpoint(whole.last), load_checkpoint(resumed.last))
    assert results(resumed.save_dir) == results(whole.save_dir)
    assert results(resumed.save_dir) != results(run(tmp_path, seed=1, **changes).save_dir)


def test_resume_keeps_the_options_of_the_run(tmp_path):
    weights = str(run(tmp_path, epochs=2, lr0=0.02).last)
    # Of plain options, what differs from the defaults must have been written by the user.
    with pytest.raises(OptionError, match=r"lr0=0\.01: a resumed run keeps its lr0=0\.02"):
        TinyTrainer(tiny_options(tmp_path, resume=True, model=weights, lr0=0.01))
    longer = resume(tmp_path, True, model=weights, epochs=3, lr0=0.02)
    assert (longer.args.lr0, longer.args.batch) == (0.02, 2)
    assert [row["epoch"] for row in results(longer.save_dir)] == ["1", "2", "3"]


@pytest.mark.parametrize("save_optimizer", [False, True])
@pytest.mark.parametrize("patience", [0, 1])
def test_resume_of_a_finished_run_succeeds_and_changes_nothing(tmp_path, caplog, save_optimizer, patience):
    trainer = run(tmp_path, save_optimizer=save_optimizer, patience=patience, trainer=Declining)
    assert trainer.finished_epochs == (2 if patience else 4)
    before = {file: file.stat().st_mtime_ns for file in trainer.save_dir.rglob("*")}
    for resumed in (trainer.last, trainer.best, trainer.save_dir):
        resume(tmp_path, resumed)
    assert caplog.text.count("this run has finished: nothing is left to do") == 3
    assert before == {file: file.stat().st_mtime_ns for file in trainer.save_dir.rglob("*")}
    caplog.clear()
    longer = resume(tmp_path, trainer.last, epochs=6, patience=0)
    assert [row["epoch"] for row in results(longer.save_dir)] == ["1", "2", "3", "4", "5", "6"]
    assert ("the optimizer starts new" in caplog.text) != save_optimizer


class Declining(TinyTrainer):
    planned = (0.9, 0.2, 0.1)


def test_run_interrupted_in_its_final_validation_is_completed(tmp_path):
    def stop(trainer):
        raise KeyboardInterrupt

    class Interrupted(Declining):
        final_eval = stop

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, trainer=Interrupted, patience=1, save_optimizer=False)
    resumed = resume(tmp_path, tmp_path / "train", trainer=Declining)
    assert len(results(resumed.save_dir)) == 2 and load_checkpoint(resumed.last)["finished"]


def test_new_run_in_the_folder_of_an_earlier_one_starts_clean(tmp_path, caplog):
    first = run(tmp_path, save_period=1, exist_ok=True)
    (first.save_dir / "notes.txt").write_text("mine")
    run(tmp_path, epochs=2, exist_ok=True)
    assert sorted(file.name for file in first.save_dir.iterdir()) == [
        "args.yaml", "notes.txt", "previous", "results.csv", "weights",
    ]  # fmt: skip
    assert sorted(file.name for file in (first.save_dir / "weights").iterdir()) == ["best.pt", "last.pt"]
    assert len(results(first.save_dir)) == 2 and len(results(first.save_dir / "previous")) == 4
    assert f"an earlier run was here and is now in {first.save_dir / 'previous'}" in caplog.text


@pytest.mark.parametrize("exist_ok", [True, False])
def test_unfinished_run_is_named_when_the_command_is_repeated(tmp_path, caplog, exist_ok):
    def interrupt(trainer):
        if trainer.epoch == 2 and len(calls) == 0:
            calls.append(os.kill(os.getpid(), signal.SIGINT))

    calls = []
    with pytest.raises(TrainingInterrupted):
        run(tmp_path, {"on_train_batch_end": interrupt}, exist_ok=exist_ok)
    run(tmp_path, {"on_train_batch_end": interrupt}, exist_ok=exist_ok)
    run_folder = tmp_path / "train" / "previous" if exist_ok else tmp_path / "train"
    assert "unfinished run, interrupted in epoch 3 of 4" in caplog.text
    assert f"yolo train resume={run_folder / 'weights' / 'last.pt'}" in caplog.text
    resume(tmp_path, run_folder / "weights" / "last.pt")
    assert len(results(run_folder)) == len(results(tmp_path / ("train" if exist_ok else "train2"))) == 4
    caplog.clear()
    run(tmp_path, exist_ok=exist_ok)
    assert "unfinished run" not in caplog.text


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (lambda text: b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode(), ["1", "2", "3"]),  # a spreadsheet's
        (lambda text: text.replace("\n1,", "\n1.0,").encode(), ["1", "2", "3"]),
        (lambda text: text.partition("\n")[2].encode(), ["3"]),  # without titles
        (lambda text: text.replace(",", ";").replace(".", ",").encode(), ["3"]),
        (lambda text: text.encode("utf-16")[2:], ["3"]),
        (lambda text: b"\xff" + text.encode(), ["3"]),
        (lambda text: text.replace("0.1", "n/a", 1).encode(), ["3"]),
        (lambda text: b"", ["3"]),
        (None, ["3"]),  # a folder
    ],
)
def test_results_changed_by_other_programs(tmp_path, caplog, content, kept):
    trainer = run(tmp_path, epochs=2)
    file = trainer.files.results
    text = file.read_text()
    file.unlink()
    file.write_bytes(content(text)) if content else file.mkdir()
    resume(tmp_path, trainer.last, epochs=3)
    assert [row["epoch"] for row in results(trainer.save_dir)] == kept
    assert ("results.csv: cannot be read" in caplog.text) == (trainer.save_dir / "results_damaged.csv").exists()
    assert len(kept) == 3 or (trainer.save_dir / "results_damaged.csv").exists()


def test_a_callback_stops_the_run_by_the_published_name(tmp_path, caplog):
    def stop(trainer):
        assert not trainer.stop
        trainer.stop = trainer.epoch == 1

    trainer = run(tmp_path, {"on_train_epoch_end": stop})
    assert (trainer.finished_epochs, trainer.stop, len(results(trainer.save_dir))) == (2, True, 2)
    assert "Stopped early: a callback has set trainer.stop." in caplog.text
    for event in ("on_train_start", "on_train_batch_end", "on_model_save"):  # the epoch is finished
        assert run(tmp_path, {event: lambda trainer: setattr(trainer, "stop", True)}).finished_epochs == 1


def test_a_callback_after_an_epoch_finds_its_checkpoint(tmp_path):
    seen = []
    saved = {"on_model_save": lambda trainer: seen.append("saved"), "on_fit_epoch_end": lambda t: seen.append(t.last)}
    trainer = run(tmp_path, {**saved, "on_train_end": lambda trainer: seen.append("end")}, epochs=2)
    assert seen == ["saved", trainer.last, "saved", trainer.last, trainer.last, "end"] and trainer.last.exists()


def test_resume_without_a_checkpoint_continues_the_newest_run(tmp_path):
    with pytest.raises(OptionError, match="has no run; write resume=FOLDER"):
        TinyTrainer(tiny_options(tmp_path, resume=True))
    trainer = run(tmp_path, epochs=1)
    assert TinyTrainer(tiny_options(tmp_path, resume=True, epochs=1)).save_dir == trainer.save_dir


def spoiled_loss(trainer, times):
    """Make the loss NaN for so many batches from now on."""
    left, forward = [times], trainer.model.forward

    def spoil(batch):
        left[0] -= 1
        return (torch.tensor(float("nan")), torch.full((2,), float("nan"))) if left[0] >= 0 else forward(batch)

    trainer.model.forward = spoil


@pytest.mark.parametrize("part", ["loss", "gradient"])
def test_second_non_finite_value_stops_the_run_and_saves_the_batch(tmp_path, part):
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


def test_first_non_finite_loss_rolls_back_and_halves_the_rate(tmp_path, caplog):
    rates = []

    def spoil(trainer):
        if trainer.epoch == 1 and trainer.rate_scale == 1:
            spoiled_loss(trainer, times=1)

    def note(trainer):
        rates.append((trainer.epoch, trainer.optimizer.param_groups[0]["lr"]))

    trainer = run(tmp_path, {"on_train_epoch_start": spoil, "on_train_epoch_end": note}, warmup_iters=0)
    assert "Epoch 2, batch 1: the loss is nan (a_loss nan, b_loss nan)" in caplog.text
    assert "Rolling back to the last checkpoint, epoch 2, batch 1, with half the learning rate" in caplog.text
    assert rates == [(epoch, pytest.approx(rate)) for epoch, rate in enumerate((0.01, 0.005, 0.005, 0.005))]
    assert [row["epoch"] for row in results(trainer.save_dir)] == ["1", "2", "3", "4"]
    assert all(value.isfinite().all() for value in trainer.ema.ema.state_dict().values())


def test_non_finite_statistics_are_never_saved(tmp_path):
    def spoil(trainer):
        if trainer.epoch == 1:
            trainer.model.model[0][1].running_var.fill_(float("inf"))

    with pytest.raises(NonFiniteLossError, match="a weight or statistic of the network is not finite"):
        run(tmp_path, {"on_train_batch_start": spoil}, nbs=4)
    weights = tmp_path / "train" / "weights"
    for file in weights.iterdir():
        saved = load_checkpoint(file)
        assert all(value.isfinite().all() for part in ("model", "ema") for value in saved[part].values())


def test_float16_overflow_skips_the_step(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(train_setup, "half_dtype", lambda device: torch.float16)  # as on a GPU without bfloat16

    def overflow(trainer):
        if trainer.epoch == 1 and trainer.batches_done == 0:
            handle = trainer.model.model[1].weight.register_hook(
                lambda gradient: (handle.remove(), gradient * float("inf"))[1]
            )

    trainer = run(tmp_path, {"on_train_batch_start": overflow}, amp=True)
    assert "mixed precision torch.float16" in caplog.text
    assert "skipping step 4 (2 in all)" in caplog.text  # the scale that the scaler starts from is too large as well
    assert (trainer.skipped, trainer.rate_scale, trainer.finished_epochs) == (2, 1.0, 4)
    assert load_checkpoint(trainer.last)["scaler"]["scale"] < 2**16


def test_checkpoints_within_an_epoch(tmp_path):
    seen = []

    def note(trainer):
        saved = load_checkpoint(trainer.last)
        seen.append((saved["epoch"] + 1, saved["batches_done"]))

    run(tmp_path, {"on_train_batch_start": note}, epochs=2, save_minutes=0)
    assert seen == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_resume_falls_back_to_the_newest_readable_checkpoint(tmp_path, damage, caplog):
    trainer = run(tmp_path, epochs=3, save_period=2)
    content = trainer.last.read_bytes()
    trainer.best.unlink()
    trainer.last.unlink()
    if damage == "cut":
        trainer.last.write_bytes(content[:2000])
    resumed = resume(tmp_path, trainer.last, epochs=4)
    assert "epoch2.pt, epoch 2" in caplog.text
    assert [row["epoch"] for row in results(resumed.save_dir)] == ["1", "2", "3", "4"]


def test_gradient_accumulation_groups(tmp_path):
    class Five(TinyTrainer):
        batches = 5

    def use_constant_gradient(trainer):
        bias = trainer.model.model[1].bias
        trainer.model.forward = lambda batch: (bias.sum(), torch.zeros(2))

    updates, gradients = [], []
    callbacks = {
        "on_train_start": use_constant_gradient,
        "on_train_batch_end": lambda trainer: updates.append(trainer.updates),
        "optimizer_step": lambda trainer: gradients.append(trainer.model.model[1].bias.grad.tolist()),
    }
    trainer = run(tmp_path, callbacks, Five, epochs=1, nbs=4, close_mosaic=1, clip_grad=0)
    assert updates == [0, 1, 1, 2, 3] and gradients == [[1, 1]] * 3  # the last group is a single batch
    assert (trainer.schedule.total, len(trainer.train_loader.closed)) == (3, 1)


def test_without_validation_the_last_weights_are_best(tmp_path):
    trainer = run(tmp_path, val=False)
    assert load_checkpoint(trainer.best)["epoch"] == 3
    assert "val/a_loss" not in results(trainer.save_dir)[0]
    assert trainer.metrics["metrics/mAP50-95(B)"] == 0.1  # the final validation takes place


def test_save_false_writes_no_weights_and_cannot_roll_back(tmp_path):
    trainer = run(tmp_path, save=False)
    assert not list(trainer.save_dir.rglob("*.pt"))
    with pytest.raises(NonFiniteLossError, match=r"loss is nan.*and there is no checkpoint \(save=False\).*finite\.pt"):
        run(tmp_path, {"on_train_start": lambda trainer: spoiled_loss(trainer, times=1)}, save=False)


def out_of_memory(trainer):
    if trainer.epoch == 1 and trainer.batches_done == 1:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def test_out_of_memory_is_explained_and_the_run_resumes_with_a_smaller_batch(tmp_path):
    with pytest.raises(UserError) as caught:
        run(tmp_path, {"on_train_batch_start": out_of_memory}, save_minutes=0)
    message, last = str(caught.value), tmp_path / "train" / "weights" / "last.pt"
    assert message.startswith(
        "Epoch 2, batch 2: cpu is out of memory with batch=2. Try a smaller batch, a smaller imgsz"
    )
    assert message.endswith(f"To continue this run with a smaller batch: yolo train resume={last} batch=1")
    done = []
    note = {"on_train_batch_start": lambda trainer: done.append((trainer.epoch, trainer.batches_done))}
    resumed = resume(tmp_path, last, note, batch=1)
    assert done[:5] == [(1, 2), (1, 3), (1, 4), (1, 5), (2, 0)]
    assert (resumed.finished_epochs, resumed.updates) == (4, 12)
    with pytest.raises(UserError, match=r"batch=1\. Try a smaller batch.*smaller model\.$"):
        run(tmp_path, {"on_train_batch_start": out_of_memory}, batch=1)


def test_out_of_memory_on_the_cpu(tmp_path):
    with pytest.raises(UserError, match=r"Epoch 1, batch 1: cpu is out of memory with batch=2\."):
        run(tmp_path, {"on_train_batch_start": lambda _: torch.empty(1 << 60)})
    for sizes in ({"imgsz": 200_000}, {"denoising": 1_000_000}):
        with pytest.raises(UserError, match=r"training needs more than \d+ GB of memory, \d+ GB are free"):
            run(tmp_path, **sizes)


def test_killed_worker_is_explained_with_the_command_to_resume(tmp_path):
    class Workers(TinyTrainer):
        def build_loaders(self):
            loader = EpochLoader(Numbers(range(9)), batch_size=1, num_workers=1, worker_init_fn=kill_worker)
            return loader, None

    with pytest.raises(
        UserError, match=r"a data worker was killed.*memory.*last\.pt is whole\. To resume: yolo train res"
    ):
        run(tmp_path, trainer=Workers, close_mosaic=0)


class Numbers(list):
    def set_epoch(self, epoch: int) -> None:
        """The same numbers in every epoch."""


def kill_worker(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_large_seeds(tmp_path):
    assert run(tmp_path, seed=10**18, epochs=1).finished_epochs == 1
    orders = [epoch_order(5, seed, 1).tolist() for seed in (0, 10**18, 10**30)]
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": "x"}, "damaged: epoch is 'x', expected int"),
        ({"scheduler": {"updates": 1}}, "damaged: rate_scale is None, expected int | float"),
        ({"optimizer": {"state": {0: []}}}, "damaged: the state of the optimizer"),
        ({"optimizer": {"state": {}}}, "its state does not fit this run"),
        ({"model": {"a": torch.zeros(1)}}, "its state does not fit this run"),
        ({"environment": {"fingerprints": 3}}, "damaged: fingerprints is 3, expected dict"),
        ({"options": {"epochs": "x"}}, "epochs: expected an integer"),
    ],
)
def test_checkpoints_with_odd_progress_are_not_resumed(tmp_path, change, message):
    torch.save(load_checkpoint(run(tmp_path, time=1e-9).last) | change, file := tmp_path / "odd.pt")
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        resume(tmp_path, file, time=1.0, project=str(tmp_path))
    assert str(caught.value).startswith(str(file))


def test_epochs_and_learning_rates_fit_into_the_time(tmp_path, monkeypatch):
    minutes = property(lambda clock: 60 * clock.batches_seen / clock.batches + clock.seconds_before)
    monkeypatch.setattr(RunClock, "elapsed", minutes)  # an epoch takes a minute
    limited = run(tmp_path, epochs=2, time=4.5 / 60, lrf=0.1)
    planned = run(tmp_path, epochs=4, lrf=0.1)
    rates = [[row["lr/pg0"] for row in results(trainer.save_dir)][1:] for trainer in (limited, planned)]
    assert limited.finished_epochs == limited.epochs == 4 and rates[0] == rates[1]
    monkeypatch.setattr(RunClock, "elapsed", property(lambda clock: 2 * minutes.fget(clock)))  # another machine
    resumed = resume(tmp_path, limited.last, time=10.5 / 60)
    assert resumed.start_epoch == 4 and resumed.finished_epochs == 5


def test_a_moved_checkpoint_writes_where_the_user_chooses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    moved = shutil.copy(run(tmp_path, epochs=2).last, tmp_path / "moved.pt")
    resumed = resume(tmp_path, moved, epochs=3, project=str(tmp_path))
    assert resumed.save_dir == tmp_path / "train2"
    assert load_checkpoint(resumed.best)["epoch"] == 2
    given = {"resume": str(moved), "epochs": 3}
    built = TinyTrainer(get_cfg(overrides={**given, "mode": "train"}), overrides=given)
    built.train()
    assert built.save_dir.resolve().is_relative_to(tmp_path / "runs")


def test_finished_checkpoints_contain_only_averaged_weights(tmp_path):
    trainer = run(tmp_path, save_optimizer=False, save_period=2)
    best, last = load_checkpoint(trainer.best), load_checkpoint(trainer.last)
    assert best["ema"] is last["ema"] is best["optimizer"] is last["optimizer"] is None
    assert all(torch.equal(last["model"][name], value) for name, value in trainer.ema.ema.state_dict().items())
    whole = run(tmp_path, save_optimizer=True)
    kept = load_checkpoint(whole.last)
    assert kept["optimizer"] and all(torch.equal(kept["ema"][name], value) for name, value in last["model"].items())
    assert 2 * trainer.last.stat().st_size < whole.last.stat().st_size
    assert load_checkpoint(trainer.last.with_name("epoch2.pt"))["optimizer"] is not None
    limited = run(tmp_path, save_optimizer=False, epochs=1000, time=1e-9)  # it may continue
    assert load_checkpoint(limited.last)["optimizer"] is not None


def test_a_busy_machine_is_a_warning_unless_threads_sleep(monkeypatch, caplog):
    monkeypatch.setattr("os.getloadavg", lambda: (99.0, 1.0, 1.0), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    train_setup.warn_if_busy()
    assert not caplog.records  # tests are run with OMP_WAIT_POLICY=PASSIVE
    monkeypatch.delenv("OMP_WAIT_POLICY")
    train_setup.warn_if_busy()
    assert "load average 99.0" in caplog.text and "OMP_WAIT_POLICY=PASSIVE" in caplog.text


def test_origin_is_recorded_and_args_can_be_used_again(tmp_path):
    trainer = run(tmp_path, epochs=1, save_optimizer=False)
    written = yaml.safe_load((trainer.save_dir / "args.yaml").read_text())
    for record in (
        written["environment"],
        *(load_checkpoint(file)["environment"] for file in (trainer.best, trainer.last)),
    ):
        assert (record["torch"], record["python"]) == (torch.__version__, platform.python_version())
        assert record["machine"] == platform.node() and record["command"]
        assert {"ultralytics", "commit", "uncommitted_changes", "system", "device", "fingerprints"} <= record.keys()
    assert get_cfg(trainer.save_dir / "args.yaml").epochs == 1
