"""ExportedModel: an exported model with the interface and the output of a network."""

from dataclasses import replace
from pathlib import Path
from threading import RLock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.formats import open_exported
from ultralytics.nn.head_protocol import ANCHORS, END2END, PAIRS, SCORES
from ultralytics.utils.errors import DataError, OptionError, UserError, WeightsError


class ExportedModel(nn.Module):
    """Run an exported model, in a format of `nn/formats`, like a network in eval mode.

    Args:
        device: where to run. After `.to(...)` another device the next images open the runtime again.
        threads: threads of a runtime on the CPU; None uses as many as torch.
    """

    def __init__(self, weights: str | Path, device: str | torch.device = "cpu", threads: int | None = None) -> None:
        super().__init__()
        self.weights, self.threads = Path(weights), threads
        self._lock = RLock()  # runtimes hold the tensors of a run: one thread at a time
        self.register_buffer("place", torch.empty(0, device=device), persistent=False)  # follows `.to(...)`
        self.fused = True  # the file holds the fused network
        self._open()

    @property
    def device(self) -> torch.device:
        """Device of the runtime."""
        return self.place.device

    @property
    def names(self) -> dict[int, str]:
        """Class names by index."""
        return dict(self.metadata.names)

    @property
    def stride(self) -> Tensor:
        """Largest stride in pixels, of shape (1,)."""
        return torch.tensor([float(self.metadata.stride)])

    @property
    def layout(self) -> str:
        """Return the layout of the output, see `head_protocol.py`; PAIRS are converted to SCORES."""
        return self.metadata.layout if self.metadata.layout in (ANCHORS, END2END) else SCORES

    @property
    def fixed_size(self) -> bool:
        """Check whether only images of one size can be run."""
        return not self.metadata.dynamic

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Compute (B, 3, H, W), RGB in 0..1 -> (y, None), like a network in eval mode; y has the layout `layout`.

        A fixed batch runs in groups of that size; the last group is padded. Raises DataError for another image size.
        """
        with self._lock:
            if self.device != self._opened_on:
                self._open()
            self._check_size(*x.shape[2:])
            size = len(x) if self.metadata.dynamic else self.metadata.batch
            outputs = []
            for group in x.split(size):
                padded = F.pad(group, (0, 0) * 3 + (0, size - len(group)))  # (len(group), 3, H, W) -> (size, 3, H, W)
                outputs.append(self._run_group(padded)[: len(group)])
        return torch.cat(outputs).to(x.device), None

    def predict(self, x: Tensor, visualize: object = None, embed: object = None) -> tuple[Tensor, None]:
        """Call `forward`. Raise OptionError for the other arguments of a network's `predict`."""
        if visualize or embed:
            option = "visualize" if visualize else "embed"
            raise OptionError(f"{option}: an exported model has no access to its feature maps; use the weights (.pt).")
        return self(x)

    def _open(self) -> None:
        threads = self.threads or torch.get_num_threads()
        opened = open_exported(self.weights, device=str(self.device), threads=threads)
        self.metadata, self._run, self._opened_on = opened.metadata, opened.run, self.device
        if not self.metadata.layout:  # of older published exporters: by the shape of the output
            zeros = torch.zeros(self.metadata.batch, 3, *self.metadata.imgsz, device=self.device)
            y, columns = self._run_checked(zeros), 4 + len(self.metadata.names)
            if y.ndim == 3 and y.shape[1] == columns != y.shape[2] != 6:
                self.metadata = replace(self.metadata, layout=ANCHORS)

    def _check_size(self, height: int, width: int) -> None:
        known, stride = self.metadata.imgsz, self.metadata.stride
        if not self.metadata.dynamic and (height, width) != known:
            expected = f"{known[0]}x{known[1]}; use imgsz=[{known[0]},{known[1]}], or export with dynamic=True"
        elif height % stride or width % stride:
            expected = f"sides that are multiples of {stride}"
        else:
            return
        raise DataError(f"{self.weights}: got images of {height}x{width}, expected {expected}.")

    def _run_checked(self, images: Tensor) -> Tensor:
        """Run the model; raise WeightsError if it fails."""
        try:
            y = self._run(images)
            if not isinstance(y, Tensor):
                raise TypeError(f"it returns a {type(y).__name__}")
            return y
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # a model is a program, and may fail in any way
            shape = "x".join(map(str, images.shape))
            reason = [type(error).__name__, *str(error).strip().splitlines()][-1]  # of TorchScript the cause is last
            raise WeightsError(f"{self.weights}: it fails on images of {shape} ({reason}).") from error

    def _run_group(self, images: Tensor) -> Tensor:
        """Run the model; raise WeightsError if it fails, or returns another shape than that of its layout."""
        y, nc, layout = self._run_checked(images), len(self.metadata.names), self.metadata.layout
        columns = 6 if layout in (PAIRS, END2END) else 4 + nc
        if y.ndim != 3 or len(y) != len(images) or y.shape[1 if layout == ANCHORS else 2] != columns:
            expected = f"(images, {columns}, anchors)" if layout == ANCHORS else f"(images, queries, {columns})"
            raise WeightsError(f"{self.weights}: got output {tuple(y.shape)}, expected {expected}.")
        if not layout and nc == 2:
            raise WeightsError(
                f"{self.weights}: 6 columns may be a box and two scores, or box, score and class of a YOLO, and the "
                f"metadata does not state which; export the weights again, or add the entry layout={SCORES!r}."
            )
        if layout != PAIRS:
            return y
        boxes, score, label = y.split((4, 1, 1), 2)
        scores = y.new_zeros(*y.shape[:2], nc).scatter(2, label.long().clamp(0, nc - 1), score)
        return torch.cat((boxes, scores), 2)
