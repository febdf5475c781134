"""Which samples may be mixed: those whose turns in the epoch are near each other, as their images are still at hand."""

from __future__ import annotations

import numpy as np
import torch

WINDOW = 64  # samples: enough for mosaics of all kinds; their images take 79 MB at 640


def epoch_order(length: int, seed: int, epoch: int) -> np.ndarray:
    """(length,) the indices in the order of an epoch of training."""
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
    return torch.randperm(length, generator=generator).numpy()


class Window:
    """The last WINDOW samples of an epoch up to one of them; for the first ones of the epoch, its beginning.

    Mixing within it, an epoch decodes each image once (in each worker that needs it), however often it is used. The
    order of an epoch is random, so its windows are random shares of the data set.
    """

    def __init__(self, length: int, seed: int):
        self.length, self.seed, self.epoch = length, seed, -1
        self.order = self.turn = np.zeros(0, np.int64)  # index at each turn, turn of each index
        self.images: dict[int, np.ndarray] = {}
        self.kept = range(0)  # turns whose images are kept; none as long as nothing is mixed

    def draw(self, index: int, epoch: int, count: int, rng: np.random.Generator) -> list[int]:
        """`count` random indices of the window of sample `index`, itself among them."""
        if epoch != self.epoch:
            self.epoch, self.order = epoch, epoch_order(self.length, self.seed, epoch)
            self.turn = np.argsort(self.order)
        width = min(WINDOW, self.length)
        first = max(0, int(self.turn[index]) + 1 - width)
        self.kept = range(first, first + 2 * width)  # those which come next are loaded before they draw
        return self.order[first + rng.integers(width, size=count)].tolist()

    def keep(self, index: int, image: np.ndarray) -> None:
        """Have the image at hand as long as the window lasts."""
        if len(self.kept):
            self.images[index] = image
            for gone in [i for i in self.images if self.turn[i] not in self.kept]:
                del self.images[gone]
