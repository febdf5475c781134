"""batch=-1: the choice from measured memory, with a simulated GPU."""

from types import SimpleNamespace

import pytest
import torch

from tests.engine.fakes import TinyTrainer, tiny_options
from ultralytics.engine import autobatch
from ultralytics.engine.autobatch import GB, choose_batch, measured_batch, random_batch, trial_step
from ultralytics.losses.detr import RTDETRDetectionLoss
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils import dist
from ultralytics.utils.errors import UserError


class Memory:
    """Simulated GPU of `limit` bytes, on which a step needs `base` bytes and `image` bytes per image."""

    def __init__(self, base: int, image: int, limit: int) -> None:
        self.base, self.image, self.limit, self.asked = base, image, limit, []

    def __call__(self, images: int) -> int:
        self.asked.append(images)
        needed = self.base + self.image * images
        if needed > self.limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return needed


@pytest.mark.parametrize(
    ("base", "image", "budget", "images", "batch", "measured"),
    [
        (100, 10, 1000, 5000, 90, [1, 2, 4, 8, 16]),
        (100, 10, 1000, 40, 40, [1, 2, 4, 8, 16]),  # all training images
        (100, 0, 1000, 5000, 16, [1, 2, 4, 8, 16]),  # memory does not grow
        (100, 100, 500, 5000, 4, [1, 2, 4, 8]),
        (100, 600, 500, 5000, 1, [1]),
    ],
)
def test_largest_batch_within_the_budget(base, image, budget, images, batch, measured):
    memory = Memory(base, image, limit=1_000_000)
    assert choose_batch(memory, budget=budget, images=images) == batch
    assert memory.asked == measured


def test_out_of_memory_stops_measuring():
    assert choose_batch(Memory(100, 100, limit=1000), budget=950, images=5000) == 8
    with pytest.raises(UserError, match="does not hold a step on one image; try a smaller imgsz"):
        choose_batch(Memory(100, 100, limit=150), budget=100, images=10)


def test_trial_step_does_not_change_the_model():
    model = RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml", nc=3, overrides={"num_queries": 10})
    model.criterion = RTDETRDetectionLoss(nc=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cpu = torch.device("cpu")
    trial_step(model, cpu, None, random_batch(2, side=64, boxes=3, classes=3, device=cpu))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


class Crowded(list):
    """Data set of 1000 images, with six boxes in the most crowded one."""

    source = SimpleNamespace(labels=tuple(SimpleNamespace(cls=[0] * boxes) for boxes in range(7)))


@pytest.mark.parametrize(("world", "batch"), [(1, 60), (2, 100)])
def test_smallest_choice_of_all_ranks_is_used(monkeypatch, caplog, world, batch):
    asked, memory = [], Memory(GB, GB // 10, limit=10 * GB)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (9 * GB, 24 * GB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: GB)
    monkeypatch.setattr(autobatch, "random_batch", lambda *sizes: asked.append(sizes[:3]) or sizes[0])
    monkeypatch.setattr(autobatch, "step_memory", lambda model, device, dtype, batch: memory(batch))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(dist, "world_size", lambda: world)
    monkeypatch.setattr(dist, "gather", lambda batch: [batch, 50][:world])  # the other GPU is smaller
    chosen = measured_batch(SimpleNamespace(nc=2), Crowded(range(1000)), torch.device("cuda"), None, side=800)
    assert (chosen, asked[0]) == (batch, (1, 800, 6))
    assert f"batch=-1: using batch={batch}" in caplog.text
    assert "batch=-1: 60 images take 70% of 10.0 GB at 800 px" in caplog.text


def test_cpu_uses_the_default_batch_and_resume_keeps_it(tmp_path, caplog):
    trainer = TinyTrainer(tiny_options(tmp_path, batch=-1, epochs=1))
    trainer.train()
    assert trainer.args.batch == 16 and trainer.train_loader.batch == 16
    assert "memory is measured on CUDA devices only; using batch=16 on cpu" in caplog.text
    assert "batch: 16" in (trainer.save_dir / "args.yaml").read_text()
    given = {"resume": str(trainer.last), "batch": -1, "epochs": 2}
    assert TinyTrainer(tiny_options(tmp_path, **given), overrides=given).args.batch == 16


def test_networks_of_scripts_are_measured_with_a_published_share_of_the_memory(monkeypatch, caplog):
    model = RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml", nc=3)
    assert autobatch.check_train_batch_size(model, imgsz=64, batch=0.5) == 16
    asked, memory = [], Memory(GB, GB // 10, limit=10 * GB)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 * GB, 24 * GB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(autobatch, "random_batch", lambda *sizes: asked.append(sizes[:4]) or sizes[0])
    monkeypatch.setattr(autobatch, "step_memory", lambda model, device, dtype, batch: memory(batch))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    cuda = torch.device("cuda")
    assert autobatch.autobatch(model, 96, fraction=0.5, max_num_obj=5, device=cuda) == 40 and asked[0] == (1, 96, 5, 3)
    assert autobatch.autobatch(model, 96, dataset_size=20, device=cuda) == 20
    assert "batch=-1: 40 images take 50% of 10.0 GB at 96 px" in caplog.text
