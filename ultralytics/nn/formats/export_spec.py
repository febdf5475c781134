"""What every format shares: its description, the input of an export, and the network as it is traced."""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ultralytics.cfg.options import Options
from ultralytics.nn.formats.graph_nms import Suppression
from ultralytics.nn.formats.metadata import Metadata
from ultralytics.utils import quiet


@dataclass(frozen=True)
class ExportSpec:
    """Input of an export."""

    network: nn.Module  # in eval mode, float32, on the device of the format, fused if the format runs it
    options: Options
    metadata: Metadata
    file: Path
    calibration: Tensor | None = None  # (N, 3, H, W) images for int8, N a multiple of the batch
    nms: Suppression | None = None  # of overlapping boxes within the graph

    @property
    def example(self) -> Tensor:
        """Return images (B, 3, H, W) to trace the network with."""
        device = next(self.network.parameters()).device
        return torch.zeros(self.metadata.batch, 3, *self.metadata.imgsz, device=device)


@dataclass(frozen=True)
class RuntimeModel:
    """An exported model in its runtime.

    `run` takes images (B, 3, H, W), float32 RGB in 0..1, and returns the output with the layout of the metadata. B is
    `metadata.batch` unless the model is dynamic.
    """

    metadata: Metadata
    run: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ExportFormat:
    """A file format and its two directions.

    `load` opens a path on a device ("cpu" or "cuda:N") with a number of threads. It is None for a file of weights only,
    whose network is not fused and which `read_weights` must be able to read, as the comparison does.
    """

    name: str  # value of the option `format`
    suffixes: tuple[str, ...]  # ends of file or folder names that `load` reads; `export` writes the first one
    export: Callable[[ExportSpec], Path]
    load: Callable[[Path, str, int], RuntimeModel] | None = None
    int8: bool = False  # whether the format supports the option, as the next three
    half: bool = True
    dynamic: bool = True
    nms: bool = False
    needs_gpu: bool = False  # whether the export runs on the GPU of the option `device`
    requires: str = ""  # pip requirements, checked before the export and listed in the table of the docs
    reads: tuple[str, ...] = ()  # of `opset`, `simplify` and `workspace`; others are reported as without effect


class ExportWrapper(nn.Module):
    """The network with a single output, float32: images (B, 3, H, W), float32 RGB in 0..1 -> y of the head's layout.

    With `half` all layers but the head compute in float16. The head stays in float32: its boxes and feed-forward
    networks overflow in float16. `nms` changes the output, float32.
    """

    def __init__(self, network: nn.Module, *, half: bool = False, nms: Suppression | None = None) -> None:
        super().__init__()
        self.network, self.half_type, self.nms = copy.deepcopy(network).eval(), half, nms
        head = self.network.model[-1]
        head.export = True
        if half:
            self.network.half()
            head.float()
            head.register_forward_pre_hook(lambda _, inputs: ([level.float() for level in inputs[0]], *inputs[1:]))

    def forward(self, images: Tensor) -> Tensor:
        y = self.network(images.half() if self.half_type else images)
        y = (y if isinstance(y, Tensor) else y[0]).float()  # a head of another code base may ignore `export`
        return y if self.nms is None else self.nms(y)


@contextmanager
def silence() -> Iterator[None]:
    """Disable gradients, warnings, and log lines below errors, of which tracing and quantization write many."""
    with quiet(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield
