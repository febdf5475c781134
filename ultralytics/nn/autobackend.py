"""AutoBackend: an exported model in the place of a network, with the same output for the same images."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.formats import Metadata, backend_name, open_exported
from ultralytics.utils.errors import DataError, OptionError, WeightsError


class AutoBackend(nn.Module):
    """Runs an exported model (ONNX, OpenVINO, TorchScript, TensorRT) as `RTDETRDetectionModel` runs in eval.

    Args:
        weights: the exported file, or OpenVINO's folder.
        device: where to run; the runtime is opened at the first images, and again after `.to(...)` another device.
        threads: of a runtime on the CPU; None for as many as torch uses.

    Raises:
        WeightsError: it is no exported model, or one of another kind.
        MissingPackageError: its runtime is not installed.
    """

    def __init__(self, weights: str | Path, device: str | torch.device = "cpu", threads: int | None = None) -> None:
        super().__init__()
        if backend_name(weights) is None:
            raise WeightsError(
                f"{weights}: expected an exported model (.onnx, .torchscript, .engine, or a folder ..._openvino_model)."
            )
        self.weights, self.threads = Path(weights), threads
        self.format = backend_name(weights)
        self.register_buffer("place", torch.empty(0, device=device), persistent=False)
        self.fused = True  # there is nothing left to fold
        self._open()

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.place.device

    @property
    def names(self) -> dict[int, str]:
        """Class names by index."""
        return dict(self.metadata.names)

    @property
    def stride(self) -> Tensor:
        """(1,) largest stride in pixels."""
        return torch.tensor([float(self.metadata.stride)])

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """(B, 3, H, W), RGB in 0..1 -> ((B, queries, 4 + classes), None), as the network's eval output.

        A model of a fixed batch gets the images in groups of it, the last one filled up.

        Raises:
            DataError: the model takes images of another size only.
        """
        if self.device != self._opened_on:
            self._open()
        said = self.metadata
        height, width = x.shape[2:]
        if not said.dynamic and (height, width) != said.imgsz:
            raise DataError(
                f"{self.weights}: takes images of {said.imgsz[0]}x{said.imgsz[1]} only, got {height}x{width}; use "
                f"imgsz={_as_option(said.imgsz)}, or export it with dynamic=True."
            )
        if height % said.stride or width % said.stride or height * width < said.smallest**2:
            raise DataError(
                f"{self.weights}: takes images with sides that are multiples of {said.stride}, from "
                f"{said.smallest}x{said.smallest} on, got {height}x{width}."
            )
        groups = [x] if said.dynamic else x.split(said.batch)
        found = [self._run(F.pad(g, (0, 0) * 3 + (0, self._missing(len(g)))))[: len(g)] for g in groups]
        return self._per_class(torch.cat(found)).to(x.device), None

    def predict(self, x: Tensor, visualize: object = None, embed: object = None) -> tuple[Tensor, None]:
        """`forward`, under the name and with the arguments of a network."""
        if visualize or embed:
            asked = "visualize" if visualize else "embed"
            raise OptionError(f"{asked}: an exported model does not show its inner maps; use the weights (.pt).")
        return self(x)

    def _open(self) -> None:
        threads = self.threads or torch.get_num_threads()
        opened = open_exported(self.weights, device=str(self.device), threads=threads)
        self.metadata: Metadata = opened.metadata
        self._run, self._opened_on = opened.run, self.device

    def _missing(self, count: int) -> int:
        return 0 if self.metadata.dynamic else self.metadata.batch - count

    def _per_class(self, y: Tensor) -> Tensor:
        """(B, queries, 4 + classes), also from the (B, queries, 6) that newer published exporters write."""
        nc = len(self.metadata.names)
        if y.ndim == 3 and y.shape[2] == 4 + nc and not (self.metadata.pairs and nc == 2):
            return y
        if y.ndim != 3 or y.shape[2] != 6:
            raise WeightsError(
                f"{self.weights}: gives {tuple(y.shape)}, expected (images, queries, {4 + nc}) of an RT-DETR."
            )
        boxes, score, label = y.split((4, 1, 1), 2)
        scores = y.new_zeros(*y.shape[:2], nc).scatter(2, label.long().clamp(0, nc - 1), score)
        return torch.cat((boxes, scores), 2)


def _as_option(size: tuple[int, int]) -> str:
    return str(size[0]) if size[0] == size[1] else f"[{size[0]},{size[1]}]"
