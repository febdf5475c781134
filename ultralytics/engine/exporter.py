"""Export: a trained detector as a file for another runtime, which is run at once beside PyTorch."""

from __future__ import annotations

import copy
import importlib
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.cfg.options import Given, given_options
from ultralytics.engine.checkpoint import load_model_weights, load_network
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.formats import FORMATS, Format, Job, Metadata
from ultralytics.nn.formats.common import BOUNDS, Difference, calibration_images, compare, drawn_images, network_images
from ultralytics.utils import LOGGER
from ultralytics.utils.callbacks import Callback, Callbacks, CallbacksMixin
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.errors import DataError, OptionError, UserError
from ultralytics.utils.files import size_of
from ultralytics.utils.torch_utils import select_device

COMPARED = 4  # images
MEGABYTE = 1e6


class ExportMismatchError(UserError):
    """An exported model does not compute what the network computes; the file is kept."""


class Exporter(CallbacksMixin):
    """Exports a network with the given options.

    Callbacks: on_export_start, on_export_end; they are given the exporter, which has `file` and `difference`.

    Args:
        cfg: the options, a YAML file or mapping of some, or None for the defaults.
        overrides: options in place of those of a file, a mapping or the defaults.
        _callbacks: functions by event.
    """

    def __init__(
        self,
        cfg: Given = None,
        overrides: Mapping[str, object] | None = None,
        _callbacks: Callbacks | Mapping[str, Callback] | None = None,
    ) -> None:
        self.args = given_options(cfg, overrides, "export")
        self.callbacks = _callbacks if isinstance(_callbacks, Callbacks) else Callbacks(_callbacks)
        self.file: Path | None = None
        self.difference: Difference | None = None

    def __call__(self, model: nn.Module, source: str | None = None) -> str:
        """Export `model`, which stays as it is, beside the weights `source` (the option `model`); return the path.

        Raises:
            OptionError: the format does not have what the options ask for.
            DataError: int8 without images to calibrate it.
            ExportMismatchError: the exported model gives other boxes or scores than PyTorch.
            MissingPackageError: a package of the format is not installed.
        """
        kind, source = self._checked_format(), source or self.args.model or "model.pt"
        self.callbacks.run("on_export_start", self)
        job = self._job(model, kind, source)
        started = time.perf_counter()
        said = job.metadata
        LOGGER.info(f"Exporting {source} to {self.args.format}, {said.precision}, {_size_of(said)}")
        self.file = importlib.import_module(f"ultralytics.nn.formats.{kind.module}").export(job)
        seconds = time.perf_counter() - started
        LOGGER.info(f"{self.file}: {size_of(self.file) / MEGABYTE:.1f} MB, written in {seconds:.1f} s")
        self._compare(job)
        self.callbacks.run("on_export_end", self)
        return str(self.file)

    def _checked_format(self) -> Format:
        options, kind = self.args, FORMATS[self.args.format]
        for wanted in ("int8", "half", "dynamic"):
            if getattr(options, wanted) and not getattr(kind, wanted):
                able = ", ".join(name for name, other in FORMATS.items() if getattr(other, wanted))
                raise OptionError(f"{wanted}=True: format={options.format} has no such thing; it is there for {able}.")
        if options.int8 and options.half:
            raise OptionError("int8 and half: give one of them; an int8 export keeps its head in float32")
        return kind

    def _job(self, model: nn.Module, kind: Format, source: str) -> Job:
        options = self.args
        device = select_device(options.device) if options.format == "engine" else torch.device("cpu")
        network = copy.deepcopy(model).to(device).float().eval().requires_grad_(False)
        if options.format != "safetensors":
            network.fuse()
        stride = int(max(model.stride))
        size = check_imgsz(options.imgsz, stride)
        size = (size, size) if isinstance(size, int) else tuple(size)
        precision = "int8" if options.int8 else "float16" if options.half else "float32"
        metadata = Metadata(
            dict(model.names), size, options.batch, options.dynamic, stride, precision, _name_of(options.data),
            model.yaml if options.format == "safetensors" else None,
            smallest=_smallest_side(network, size, stride) if options.dynamic else 0,
        )  # fmt: skip
        calibration = self._calibration(size) if options.int8 else None
        return Job(network, options, metadata, _file_for(source, kind, precision), calibration)

    def _calibration(self, size: tuple[int, int]) -> Tensor:
        if self.args.data is None:
            raise OptionError(
                "int8: which images? It needs some of the data set to learn the ranges of the activations; write "
                "data=my.yaml (images of split=, val unless given)."
            )
        return calibration_images(self.args.data, self.args.split, size, self.args.batch)

    def _compare(self, job: Job) -> None:
        """Run both on the same images; ExportMismatchError over the bounds of the precision."""
        images, origin = self._compared_images(job)
        device = next(job.network.parameters()).device
        with torch.no_grad():
            expected = job.network(images.to(device))[0]
            found = self._opened(job, device)(images.to(device))[0]
        precision = job.metadata.precision
        bounds = BOUNDS[precision]
        self.difference = compare(expected, found, precision)
        LOGGER.info(f"PyTorch and {self.file.name} on {len(images)} {origin}: {self.difference}")
        if not self.difference.within(bounds):
            raise ExportMismatchError(
                f"{self.file}: differs from PyTorch: {self.difference}; expected at most {bounds.boxes:g} and "
                f"{bounds.scores:g} for {precision}. The file is kept; validate it (`yolo val model="
                f"{self.file} data=...`) before you use it, or export in float32."
            )

    def _compared_images(self, job: Job) -> tuple[Tensor, str]:
        """Images of the data set where there is one at hand, else drawn ones."""
        size = job.metadata.imgsz
        if job.calibration is not None:
            return job.calibration[:COMPARED], "images of the calibration"
        if self.args.data is not None:
            try:
                images = network_images(self.args.data, self.args.split, size, COMPARED, fetch=False)
                return images, f"images of {self.args.data}"
            except DataError as error:
                LOGGER.info(f"compared on drawn images, for those of the data set are not at hand ({error})")
        return drawn_images(COMPARED, size), "drawn images"

    def _opened(self, job: Job, device: torch.device) -> nn.Module:
        if job.options.format != "safetensors":
            return AutoBackend(self.file, device)
        return load_network(load_model_weights(self.file), type(job.network)).to(device)


def _file_for(source: str, kind: Format, precision: str) -> Path:
    """Where the export of `source` goes: beside weights, in the working folder for a model file."""
    path = Path(source)
    folder = path.parent if path.suffix.lower() not in (".yaml", ".yml") else Path()
    mark = {"float32": "", "float16": "_half", "int8": "_int8"}[precision]
    return folder / f"{path.stem}{mark}{kind.ending}"


def _smallest_side(network: nn.Module, size: tuple[int, int], stride: int) -> int:
    """Side of the smallest square image whose maps have a position for every query, which a trace cannot do without.

    Raises:
        OptionError: images of `size` have too few.
    """
    head, positions = network.model[-1], 0

    def count(_: nn.Module, inputs: tuple) -> None:
        nonlocal positions
        positions = sum(level.shape[2] * level.shape[3] for level in inputs[0])

    hook = head.register_forward_pre_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 3, *size, device=next(network.parameters()).device))
    hook.remove()
    if positions < head.num_queries:
        raise OptionError(
            f"dynamic=True: images of {size[0]}x{size[1]} have {positions} positions for {head.num_queries} queries; "
            "export with a larger imgsz, or train with fewer queries="
        )
    side = math.sqrt(size[0] * size[1] * head.num_queries / positions)
    return math.ceil(side / stride) * stride


def _size_of(said: Metadata) -> str:
    height, width = said.imgsz
    return "any size and batch" if said.dynamic else f"{said.batch} x {height}x{width}"


def _name_of(data: Any) -> str | None:
    return data if isinstance(data, str) else None
