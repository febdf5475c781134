"""Out of memory: half the batch once, the same images and steps; then a message that says what to do."""

from __future__ import annotations

import csv

import pytest
import torch
import yaml

from tests.engine.fakes import QuietModel, TinyTrainer, tiny_options
from tests.engine.test_ddp import run_two
from ultralytics import RTDETR
from ultralytics.data.synthetic import NAMES, generate_shapes
from ultralytics.engine.checkpoint import load_checkpoint
from ultralytics.engine.train_state import OutOfMemoryError, TrainingInterrupted
from ultralytics.utils.errors import UserError


class Roomy(TinyTrainer):
    """Ten images; notes those of every step that was completed, and can be out of memory."""

    batches = 5
    short_at: tuple[tuple[int, int], ...] = ()  # (epoch, batch) at which memory runs out, one after the other

    def build_model(self):
        torch.manual_seed(0)
        self.steps, self.group, self.missing = [], [], list(self.short_at)
        return QuietModel()

    def training_step(self, batch):
        self.group += [round(float(image.sum()), 2) for image in batch["img"]]
        super().training_step(batch)
        if self.is_update_due(self.batches_done - 1):
            self.steps.append(self.group)
            self.group = []

    def optimizer_step(self):
        if self.missing and (self.epoch, self.batches_done) == self.missing[0]:
            self.missing.pop(0)
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        super().optimizer_step()

    def start_group(self):
        self.group = []
        super().start_group()


def short_at(*places):
    """A trainer that runs out of memory at these (epoch, batch), batches that end a group."""
    return type("Short", (Roomy,), {"short_at": places})


def run(folder, trainer=Roomy, callbacks=None, **changes):
    built = trainer(tiny_options(folder, **{"batch": 4, "nbs": 4, "momentum": 0.0, "optimizer": "SGD", **changes}))
    for event, function in (callbacks or {}).items():
        built.callbacks.add(event, function)
    built.train()
    return built


def rows(trainer):
    return list(csv.DictReader(trainer.files.results.open()))


@pytest.mark.parametrize(
    ("batch", "nbs", "place", "half"),
    [
        (4, 4, (1, 1), (2, 4, 2)),  # 10 images as 4, 4, 2
        (4, 4, (0, 0), (2, 4, 2)),
        (4, 4, (2, 2), (2, 4, 2)),  # the last batch of the epoch, which is smaller
        (4, 8, (1, 1), (2, 8, 4)),  # two batches a step: the second runs out, both come again
        (2, 4, (1, 3), (1, 4, 4)),
        (6, 4, (1, 0), (3, 6, 2)),  # nbs is below the batch
        (5, 5, (1, 1), (1, 5, 5)),  # an odd batch
    ],
)
def test_half_the_batch_does_the_same_steps(tmp_path, caplog, batch, nbs, place, half):
    whole = run(tmp_path, name="whole", batch=batch, nbs=nbs)
    with caplog.at_level("WARNING", logger="ultralytics"):
        trainer = run(tmp_path, short_at(place), name="short", batch=batch, nbs=nbs)
    assert (trainer.args.batch, trainer.args.nbs, trainer.accumulate) == half
    assert f"Epoch {place[0] + 1}, batch {place[1] + 1}: out of memory with batch={batch}" in caplog.text
    assert f"Going on with batch={half[0]} and gradients summed over {half[2]} batches" in caplog.text
    assert trainer.steps == whole.steps and trainer.updates == whole.updates
    for name, value in whole.model.state_dict().items():
        assert torch.allclose(value, trainer.model.state_dict()[name], rtol=1e-4, atol=1e-6), name
    options = yaml.safe_load((trainer.save_dir / "args.yaml").read_text())
    assert (options["batch"], options["nbs"]) == half[:2]
    assert [row["epoch"] for row in rows(trainer)] == ["1", "2", "3", "4"]


def test_the_losses_of_the_epoch_leave_out_what_was_thrown_away(tmp_path):
    # 12 images: three steps of one batch, then of two; so the mean over batches is the mean over images.
    class Twelve(Roomy):
        batches = 6

    whole = run(tmp_path, Twelve, name="whole")
    short = run(tmp_path, type("Short", (Twelve,), {"short_at": ((1, 1),)}), name="short")
    for before, after in zip(rows(whole), rows(short), strict=True):
        assert float(after["train/a_loss"]) == pytest.approx(float(before["train/a_loss"]), rel=1e-3)


def test_a_second_time_ends_the_run_with_what_to_do(tmp_path):
    with pytest.raises(OutOfMemoryError) as caught:
        run(tmp_path, short_at((1, 1), (2, 3)))
    message = str(caught.value)
    assert message.startswith("Epoch 3, batch 4: the memory of cpu ran out again, after the batch was halved once,")
    for advice in ("a smaller batch (now 2; nbs=4", "imgsz (now 640)", "queries=", "a smaller model", "nvidia-smi"):
        assert advice in message
    last = tmp_path / "train" / "weights" / "last.pt"
    assert message.endswith(f"yolo train resume={last}")
    assert load_checkpoint(last)["epoch"] == 1
    assert "\n" not in message


def test_a_batch_of_one_image_cannot_be_halved(tmp_path):
    with pytest.raises(OutOfMemoryError, match=r"Epoch 1, batch 1: the memory of cpu ran out with batch=1\. In a new"):
        run(tmp_path, short_at((0, 0)), batch=1, nbs=1)


def short_in_second_process(trainer):
    if trainer.rank == 1 and trainer.epoch == 1:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")


def test_several_processes_end_at_once(tmp_path, capfd):
    with pytest.raises(UserError, match=r"Process . of the run ended with exit code 1.*resume=.*last\.pt"):
        run_two(tmp_path, {"on_train_batch_start": short_in_second_process})
    message = capfd.readouterr().err
    assert "Epoch 2, batch 1: the memory of cpu ran out with batch=2 on 2 devices. In a new run, try" in message
    assert "Going on with batch=" not in message


def test_in_the_validation_it_is_explained(tmp_path):
    def short(trainer):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(OutOfMemoryError, match=r"^Epoch 1: the memory of cpu ran out with batch=4\. In a new run, try"):
        run(tmp_path, callbacks={"on_fit_epoch_end": short})


def test_interrupted_after_the_batch_was_halved_it_resumes_with_half(tmp_path):
    def interrupt(trainer):
        if trainer.epoch == 1 and trainer.batches_done == 4:  # two of the steps of half the batch
            trainer.interrupt.requested = True

    whole = run(tmp_path, short_at((1, 0)), name="whole")
    with pytest.raises(TrainingInterrupted):
        run(tmp_path, short_at((1, 0)), {"on_train_batch_end": interrupt}, name="cut")
    last = tmp_path / "cut" / "weights" / "last.pt"
    assert load_checkpoint(last)["batches_done"] == 4
    resumed = Roomy(tiny_options(tmp_path, resume=str(last)), overrides={})
    resumed.train()
    assert (resumed.args.batch, resumed.accumulate) == (2, 2)
    assert resumed.steps == whole.steps[-len(resumed.steps) :]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])


def test_numbers_that_are_not_finite_after_it_go_back_to_the_right_batch(tmp_path):
    places = []

    def spoil(trainer):
        places.append((trainer.epoch, trainer.batches_done))
        if places[-1] == (1, 3) and trainer.rate_scale == 1:
            forward = trainer.model.forward

            def spoiled(batch):
                trainer.model.forward = forward
                return forward(batch)[0] * float("nan"), torch.zeros(2)

            trainer.model.forward = spoiled

    trainer = run(tmp_path, short_at((1, 1)), {"on_train_batch_start": spoil}, epochs=2)
    # The second step of three runs out of memory; from its start on in halves, of which the second is spoiled.
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3), (1, 2), (1, 3), (1, 4)]
    assert [row["epoch"] for row in rows(trainer)] == ["1", "2"]


def test_rtdetr_sees_the_same_images_in_the_same_order(tmp_path):
    generate_shapes(tmp_path / "shapes", images_train=10, images_val=2, size=64, seed=0)
    data = {"path": str(tmp_path / "shapes"), "train": "images/train", "val": "images/val"}
    (tmp_path / "shapes.yaml").write_text(yaml.safe_dump({**data, "names": dict(enumerate(NAMES))}))
    seen = {"whole": [], "short": []}

    def train(name, fail):
        def look(trainer):
            if fail and trainer.epoch == 0 and trainer.batches_done == 1 and not trainer.batch_was_halved:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

        model = RTDETR("rtdetr-efficientvit-m0.yaml")
        model.add_callback("on_train_batch_start", look)
        model.add_callback("on_train_batch_end", lambda trainer: seen[name].extend(trainer.batch["im_file"]))
        model.train(
            data=str(tmp_path / "shapes.yaml"), project=str(tmp_path), name=name, imgsz=64, epochs=1, batch=4, nbs=4,
            queries=10, denoising=4, workers=0, plots=False, device="cpu", multi_scale=False,
        )  # fmt: skip
        return model.trainer

    whole, short = train("whole", fail=False), train("short", fail=True)
    assert (short.args.batch, short.accumulate, short.updates) == (2, 2, whole.updates)
    assert seen["short"] == seen["whole"] and len(seen["whole"]) == 10
