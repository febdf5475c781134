"""batch=-1: the choice from measured memory, without a GPU; what is measured; where it is chosen."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tests.engine.fakes import TinyTrainer, tiny_options
from ultralytics.cfg import get_cfg
from ultralytics.engine import autobatch as batch_size
from ultralytics.engine.autobatch import GIGABYTE, StepMemory, choose_batch, fit_line, measured_batch, random_batch
from ultralytics.losses.detr import RTDETRDetectionLoss
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils import dist
from ultralytics.utils.errors import OptionError, UserError


class Memory:
    """Stands for a GPU: a step needs `base` and `image` bytes an image, and more than `limit` cannot be had."""

    def __init__(self, base: int, image: int, limit: int) -> None:
        self.base, self.image, self.limit, self.asked = base, image, limit, []

    def __call__(self, images: int) -> int:
        self.asked.append(images)
        needed = self.base + self.image * images
        if needed > self.limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return needed


@pytest.mark.parametrize(
    ("base", "image", "budget", "images", "batch", "asked", "reason"),
    [
        (100, 10, 1000, 5000, 90, [1, 2, 4, 8, 16], "measured"),
        (100, 10, 1000, 40, 40, [1, 2, 4, 8, 16], "all training images"),
        (100, 10, 1000, 5, 5, [1, 2, 4], "all training images"),
        (100, 10, 1000, 1, 1, [1], "did not grow"),
        (100, 0, 1000, 5000, 16, [1, 2, 4, 8, 16], "did not grow"),
        (100, 0, 1000, 6, 4, [1, 2, 4], "did not grow"),
        (100, 100, 500, 5000, 4, [1, 2, 4, 8], "measured"),
        (100, 100, 350, 5000, 2, [1, 2, 4], "measured"),
        (100, 600, 500, 5000, 1, [1], "measured"),
    ],
)
def test_the_largest_batch_within_the_budget(base, image, budget, images, batch, asked, reason):
    memory = Memory(base, image, limit=1_000_000)
    choice = choose_batch(memory, budget=budget, images=images)
    assert (choice.batch, memory.asked) == (batch, asked)
    assert reason in choice.reason


def test_out_of_memory_while_measuring_ends_the_measuring():
    memory = Memory(100, 100, limit=1000)
    assert choose_batch(memory, budget=950, images=5000).batch == 8
    assert memory.asked == [1, 2, 4, 8, 16]


def test_not_even_one_image_fits():
    with pytest.raises(UserError, match="does not even hold a step on one image; try a smaller imgsz"):
        choose_batch(Memory(100, 100, limit=150), budget=100, images=10)


def test_the_line_is_the_one_of_least_squares():
    points = [(1, 12), (2, 15), (4, 19), (8, 36)]
    slope, base = torch.linalg.lstsq(
        torch.tensor([[x, 1.0] for x, _ in points]), torch.tensor([[float(y)] for _, y in points])
    ).solution.flatten()
    assert fit_line(points) == pytest.approx((float(base), float(slope)), rel=1e-5)
    assert fit_line([(1, 7)]) == (7, 0)


def test_a_step_on_random_images_leaves_the_model_as_it_is():
    model = RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml", nc=3, overrides={"num_queries": 10})
    model.criterion = RTDETRDetectionLoss(nc=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    StepMemory(model, torch.device("cpu"), None, side=64, boxes=3).step(2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_random_boxes_lie_in_their_images():
    batch = random_batch(3, side=32, boxes=5, classes=2, device=torch.device("cpu"))
    assert batch["img"].shape == (3, 3, 32, 32) and batch["cls"].shape == (15, 1) and batch["cls"].max() <= 1
    assert batch["batch_idx"].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    centres, sizes = batch["bboxes"].split(2, 1)
    assert (centres - sizes / 2 >= 0).all() and (centres + sizes / 2 <= 1).all() and (sizes > 0).all()


def gpu_trainer(images: int) -> SimpleNamespace:
    """What `measured_batch` reads of a trainer, on a GPU that is not there."""
    labels = [SimpleNamespace(cls=[0] * (number % 7)) for number in range(images)]

    class Data(list):
        pass

    data = Data(range(images))
    data.labels = labels
    loader = SimpleNamespace(dataset=data)
    return SimpleNamespace(device=torch.device("cuda", 0), train_loader=loader, model=None, dtype=None)


@pytest.mark.parametrize(("world", "batch"), [(1, 60), (2, 100)])
def test_on_a_gpu_the_smallest_choice_of_all_processes_counts(monkeypatch, caplog, world, batch):
    asked = {}

    def step(model, device, dtype, side, boxes):
        asked.update(side=side, boxes=boxes)
        return Memory(GIGABYTE, GIGABYTE // 10, limit=10 * GIGABYTE)

    def gathered(choice):
        return [choice, batch_size.Choice(50, "the other GPU is smaller")][:world]

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (9 * GIGABYTE, 24 * GIGABYTE))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: GIGABYTE)
    monkeypatch.setattr(batch_size, "StepMemory", step)
    monkeypatch.setattr(dist, "world_size", lambda: world)
    monkeypatch.setattr(dist, "gather", gathered)
    with caplog.at_level("INFO", logger="ultralytics"):
        assert measured_batch(gpu_trainer(1000), side=800) == batch
    assert asked == {"side": 800, "boxes": 6}
    assert f"batch=-1: {batch} images a step" in caplog.text and "70% of 10.0 GB at 800 px" in caplog.text


def test_a_process_that_measures_waits_for_no_other(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    assert (dist.world_size(), dist.rank()) == (2, 1)
    with dist.alone():
        assert (dist.world_size(), dist.rank()) == (1, 0)
        assert dist.mean_over_ranks(torch.tensor([3.0])).tolist() == [3]  # which would wait for the other
    assert dist.world_size() == 2


@pytest.mark.parametrize(("world", "batch"), [(1, 16), (2, 16), (3, 15), (32, 32)])
def test_the_default_is_dealt_out_evenly(monkeypatch, world, batch):
    monkeypatch.setattr(dist, "world_size", lambda: world)
    assert batch_size.provisional_batch() == batch


def test_on_the_cpu_it_is_the_default(tmp_path, caplog):
    with caplog.at_level("INFO", logger="ultralytics"):
        trainer = TinyTrainer(tiny_options(tmp_path, batch=-1, epochs=1))
        trainer.train()
    assert trainer.args.batch == 16 and trainer.train_loader.batch == 16
    assert "memory is measured on CUDA devices only; on cpu the batch is 16" in caplog.text
    assert "batch: 16" in (trainer.save_dir / "args.yaml").read_text()


def test_a_resumed_run_keeps_the_batch_that_was_chosen(tmp_path):
    first = TinyTrainer(tiny_options(tmp_path, batch=-1, epochs=1))
    first.train()
    given = {"resume": str(first.last), "batch": -1, "epochs": 2}
    assert TinyTrainer(tiny_options(tmp_path, **given), overrides=given).args.batch == 16


@pytest.mark.parametrize("mode", ["val", "predict"])
def test_other_modes_have_no_automatic_batch(mode):
    with pytest.raises(OptionError, match=f"batch=-1: .*in training only; for {mode} give a number"):
        get_cfg(overrides={"batch": -1, "mode": mode})
