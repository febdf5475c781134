"""A trainer whose parts take milliseconds: a linear model on numbers made from the epoch and the index."""

import csv
import math
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from ultralytics.cfg import get_cfg
from ultralytics.engine.trainer import BaseTrainer


class TinyModel(nn.Module):
    """Tiny detector: two layers, a BatchNorm, and noise in its loss, as from denoising queries."""

    backbone_layers = frozenset({0})

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.Conv2d(4, 2, 1))
        self.yaml, self.names, self.nc = {"nc": 2}, {0: "cat", 1: "dog"}, 2

    def forward(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        score = self.model(batch["img"]).mean()
        loss = (score - 1 + 0.01 * torch.randn(())) ** 2
        return loss, torch.stack((loss.detach(), loss.detach() * 2))


class QuietModel(TinyModel):
    """TinyModel without noise and BatchNorm: the loss of a batch is the mean loss of its halves."""

    def __init__(self) -> None:
        super().__init__()
        self.model[0][1] = nn.GroupNorm(1, 4)

    def forward(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        loss = ((self.model(batch["img"]).mean((1, 2, 3)) - 1) ** 2).mean()
        return loss, torch.stack((loss.detach(), loss.detach() * 2))


class TinyLoader:
    """Batches of 2 * `pairs` images, which depend only on epoch and index."""

    def __init__(self, pairs: int = 3, batch: int = 2) -> None:
        self.images, self.batch, self.epoch, self.done, self.closed = 2 * pairs, batch, 0, 0, []
        self.dataset = self

    def __len__(self) -> int:
        return math.ceil(self.images / self.batch)

    def set_epoch(self, epoch: int, done: int = 0) -> None:
        self.epoch, self.done = epoch, done

    transforms = None

    def close_mosaic(self, hyp: object) -> None:
        self.closed.append(self.epoch)

    def __iter__(self):
        torch.rand(1)  # a DataLoader draws from the global generator, too
        for start in range(self.done * self.batch, self.images, self.batch):
            numbers = range(start, min(start + self.batch, self.images))
            images = torch.stack([self.image(number) for number in numbers])
            yield {"img": images, "cls": torch.zeros(3, 1), "bboxes": torch.rand(3, 4), "batch_idx": torch.zeros(3)}

    def image(self, number: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1000 * self.epoch + number)
        return torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8, generator=generator)


class TinyValidator:
    """Return planned fitness values, one for each epoch."""

    def __init__(self, fitness: list[float]) -> None:
        self.fitness, self.calls = fitness, 0
        self.args, self.final = get_cfg(), False

    def __call__(self, trainer: BaseTrainer | None = None, model: nn.Module | None = None) -> dict[str, float]:
        torch.rand(1)  # validation must not change what is trained
        self.final = trainer is None
        value = self.fitness[min(0 if self.final else trainer.epoch, len(self.fitness) - 1)]
        self.calls += 1
        found = {"metrics/mAP50-95(B)": value, "fitness": value}
        self.metrics = SimpleNamespace(results_dict=found)
        return found if self.final else {**found, "val/a_loss": 0.5, "val/b_loss": 0.25}


class TinyTrainer(BaseTrainer):
    loss_names = ("a_loss", "b_loss")
    batches = 3  # of two images
    planned = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)

    def load_data(self):
        return self.build_loaders()

    def build_loaders(self):
        return TinyLoader(self.batches, self.args.batch), None

    def setup_model(self):
        self.model = self.model or TinyModel()

    def complete_model(self):
        pass

    setup_loss = complete_model

    def get_validator(self):
        return TinyValidator(list(self.planned))

    def model_size(self):
        return {"parameters": sum(parameter.numel() for parameter in self.model.parameters())}


def tiny_options(folder, **changes):
    """Options of a short run below `folder`."""
    base = {"epochs": 4, "batch": 2, "nbs": 2, "device": "cpu", "plots": False, "project": str(folder), "lr0": 0.01}
    base |= {"multi_scale": False, "save_optimizer": True}
    return get_cfg(overrides={**base, **changes})


def results(folder: Path) -> list[dict[str, str]]:
    """Rows of results.csv in a run folder, without the time."""
    with open(folder / "results.csv", newline="") as file:
        return [{key: value for key, value in row.items() if key != "time"} for row in csv.DictReader(file)]
