"""Training in two processes on the CPU equals one process with the joint batch; failures of a process."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.engine.fakes import QuietModel, TinyLoader, TinyTrainer, results, tiny_options
from tests.shapes import write_shapes
from ultralytics import RTDETR
from ultralytics.engine.checkpoint import load_checkpoint
from ultralytics.engine.ddp import ddp_cleanup, generate_ddp_command, launch
from ultralytics.engine.train_state import TrainingInterrupted
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.utils import dist
from ultralytics.utils.errors import OptionError, UserError

TWO = "cpu,cpu"


class SharedLoader(TinyLoader):
    """Return this rank's half of the two images."""

    def __iter__(self):
        for batch in super().__iter__():
            yield {**batch, "img": batch["img"][dist.rank() :: dist.world_size()]}


class SharedTrainer(TinyTrainer):
    def load_data(self):
        return SharedLoader(self.batches), None

    def setup_model(self):
        self.model = QuietModel()


class WithUnusedLayer(SharedTrainer):
    def setup_model(self):
        super().setup_model()
        self.model.spare = nn.Linear(2, 2)


def kill_second_process(trainer):
    if trainer.rank == 1 and trainer.epoch == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def interrupt_second_process(trainer):
    if trainer.rank == 1 and trainer.epoch == 1 and trainer.batches_done == 2:
        os.kill(os.getpid(), signal.SIGTERM)


def unfreeze(trainer):
    for parameter in trainer.model.parameters() if trainer.epoch else ():
        parameter.requires_grad_(True)


def run_two(folder, callbacks=None, trainer=SharedTrainer, **changes):
    return launch(tiny_options(folder, device=TWO, **changes), trainer, callbacks, None, {})


def losses(folder: Path) -> list[list[float]]:
    return [[float(value) for value in row.values()] for row in results(folder)]


@pytest.mark.parametrize("changes", [{}, {"nbs": 4}])
def test_two_processes_train_as_one_with_the_joint_batch(tmp_path, changes):
    _, folder = run_two(tmp_path, name="two", **changes)
    alone = SharedTrainer(tiny_options(tmp_path, name="one", **changes))
    alone.train()
    two, one = (load_checkpoint(f / "weights" / "last.pt")["ema"] for f in (folder, alone.save_dir))
    assert all(torch.allclose(two[name], one[name], rtol=1e-5, atol=1e-6) for name in one)
    assert losses(folder) == [pytest.approx(row, rel=1e-4) for row in losses(alone.save_dir)]


def test_a_trainer_of_several_devices_launches_its_processes(tmp_path):
    trainer = SharedTrainer(tiny_options(tmp_path, device=TWO, epochs=1))
    assert trainer.train() is not None and trainer.last.is_file() and len(losses(trainer.save_dir)) == 1


@pytest.mark.slow
def test_the_command_of_a_trainer_trains_in_a_process_for_each_device(tmp_path, monkeypatch, shapes, tiny):
    monkeypatch.chdir(tmp_path)
    trainer = RTDETRTrainer(overrides={"model": str(tiny), "data": str(shapes), "imgsz": 64, "epochs": 1, "batch": 2,
                                       "device": TWO, "workers": 0, "plots": False})  # fmt: skip
    command, file = generate_ddp_command(trainer)
    assert command[1:5] == ["-m", "torch.distributed.run", "--nproc_per_node", "2"] and command[-1] == file
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0 and "2 x CPU" in done.stdout, done.stderr
    assert [*tmp_path.rglob("last.pt")]
    ddp_cleanup(trainer, str(tmp_path / "mine.py"))
    ddp_cleanup(trainer, file)
    assert not Path(file).exists()


def test_killed_process_ends_the_run_with_a_readable_error(tmp_path):
    with pytest.raises(UserError, match=r"Process 1 of the run failed .*SIGKILL.*resume=.*last\.pt"):
        run_two(tmp_path, {"on_train_batch_start": kill_second_process})
    last = tmp_path / "train" / "weights" / "last.pt"
    assert load_checkpoint(last)["epoch"] == 0
    launch(tiny_options(tmp_path, device=TWO, resume=str(last)), SharedTrainer, None, None, {"device": TWO})
    assert [row[0] for row in losses(tmp_path / "train")] == [1, 2, 3, 4]


def fail_at_start(trainer):
    raise UserError("no data")


@pytest.mark.parametrize("device", [TWO, "0,1", [0, 1]])
def test_run_that_did_not_begin_is_not_to_be_resumed(tmp_path, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError) as caught:
        options = tiny_options(tmp_path, device=device)
        launch(options, SharedTrainer, {"on_pretrain_routine_start": fail_at_start}, None, {})
    message = "failed and ended the others: UserError: no data" if device == TWO else "no CUDA device is available"
    assert message in str(caught.value) and "resume" not in str(caught.value)


def test_signal_to_one_rank_stops_all(tmp_path):
    with pytest.raises(TrainingInterrupted, match=r"interrupted in epoch 2, saved in .*last\.pt"):
        run_two(tmp_path, {"on_train_batch_end": interrupt_second_process})
    saved = load_checkpoint(tmp_path / "train" / "weights" / "last.pt")
    assert (saved["epoch"], saved["batches_done"]) == (0, 2)


def test_unused_parameters_are_named(tmp_path, capfd):
    run_two(tmp_path, trainer=WithUnusedLayer, epochs=1)
    assert capfd.readouterr().err.count("2 parameters without effect on the loss: spare.bias, spare.weight.") == 1


def test_unfreezing_during_the_run_is_rejected(tmp_path):
    with pytest.raises(UserError, match="so DDP does not average their gradients"):
        run_two(tmp_path, {"on_train_epoch_start": unfreeze}, freeze=1, epochs=2)


def test_arguments_that_cannot_be_pickled_are_rejected(tmp_path):
    with pytest.raises(OptionError, match=r"cannot be sent.*top level of a module.*torchrun --nproc-per-node 2"):
        run_two(tmp_path, {"on_train_start": lambda trainer: None})


def test_batch_must_be_a_multiple_of_the_ranks(tmp_path):
    model = RTDETR("rtdetr-efficientvit-m0.yaml")
    with pytest.raises(UserError, match=r"Process [01] of the run failed .*batch=3: expected a multiple of 2"):
        model.train(data="shapes.yaml", batch=3, device=TWO, project=str(tmp_path), epochs=1)


def freeze_statistics(trainer):
    """Normalize by running statistics, as the batch statistics of a rank are those of its own images only."""
    for module in trainer.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    """Return data with seven validation images, so that the shares are uneven; one training image has no boxes."""
    file = write_shapes(tmp_path_factory.mktemp("data"), train=8, val=7)
    for label in sorted(file.with_name("shapes").glob("labels/*/00001.txt")):
        label.write_text("")
    return file


def test_detector_trains_and_validates_as_in_one_process(shapes, tmp_path):
    options = {
        "data": str(shapes), "imgsz": 64, "batch": 2, "nbs": 2, "epochs": 2, "workers": 0, "queries": 10,
        "denoising": 0, "plots": False, "project": str(tmp_path), "mosaic": 0.0, "clip_grad": 0.1, "lr0": 0.01,
        "optimizer": "SGD",  # Adam makes a whole step of a gradient that is rounding only
    }  # fmt: skip
    trained = {}
    for name, device in (("one", "cpu"), ("two", TWO)):
        model = RTDETR("rtdetr-efficientvit-m0.yaml")
        model.add_callback("on_train_batch_start", freeze_statistics)
        metrics = model.train(name=name, device=device, **options)
        trained[name] = (losses(tmp_path / name), metrics.results_dict, metrics.seen, model)
    (one, _, seen, _), (two, results_of_two, images_of_two, model) = trained["one"], trained["two"]
    assert seen == images_of_two == 7
    # Losses in training are those of the joint batch; in validation they depend on how many images a batch has.
    assert [row[1:4] for row in two] == [pytest.approx(row[1:4], rel=1e-3) for row in one]
    weights = [load_checkpoint(tmp_path / name / "weights" / "last.pt")["model"] for name in ("one", "two")]
    assert all(torch.allclose(weights[1][name], value, rtol=1e-3, atol=1e-5) for name, value in weights[0].items())
    longer = RTDETR(tmp_path / "two" / "weights" / "last.pt")
    longer.train(resume=True, epochs=3)  # on the devices it was started on
    assert len(losses(tmp_path / "two")) == 3
    alone = model.val(plots=False, workers=0, batch=1, project=str(tmp_path)).results_dict
    assert results_of_two == pytest.approx(alone, abs=1e-6)
