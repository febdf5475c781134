"""Prediction: frames of a source in batches through the network, and one `Results` for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ultralytics.cfg.options import ConfigLike, resolve_options
from ultralytics.data.images import letterbox
from ultralytics.data.loaders import Source, load_source
from ultralytics.data.streams import Frame
from ultralytics.engine.checkpoint import resolve_network
from ultralytics.engine.results import Results
from ultralytics.engine.save_results import ResultWriter
from ultralytics.nn.accelerate import for_inference
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER
from ultralytics.utils.callbacks import Callback, Callbacks, CallbacksMixin
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.errors import DataError, OptionError
from ultralytics.utils.files import run_dir
from ultralytics.utils.torch_utils import autocast, clock, compiled, half_dtype, select_device

DEFAULT_CONF = 0.25
STAGES = ("preprocess", "inference", "postprocess")
T = TypeVar("T")


class BasePredictor(CallbacksMixin):
    """Predicts with a network; a task says how its images are resized and how its output is read.

    Callbacks are given the predictor, which has `frames` and `results` of the current batch.

    Args:
        cfg: the options, a YAML file or mapping of some, or None for the defaults.
        overrides: options in place of those of a file, a mapping or the defaults.
        _callbacks: functions for the on_predict_... events.
    """

    network_class: type[DetectionModel] = DetectionModel  # for a file in the option `model`

    def __init__(
        self,
        cfg: ConfigLike = None,
        overrides: Mapping[str, object] | None = None,
        _callbacks: Callbacks | Mapping[str, Callback] | None = None,
    ) -> None:
        args = resolve_options(cfg, overrides, "predict")
        if args.embed and args.visualize:
            raise OptionError("embed and visualize: give one of them; vectors and feature maps are runs of their own")
        self.args = args
        self.callbacks = _callbacks if isinstance(_callbacks, Callbacks) else Callbacks(_callbacks)
        self.conf = DEFAULT_CONF if args.conf is None else args.conf
        self.model: nn.Module | None = None
        self.frames: list[Frame] = []
        self.results: list[Results] | list[Tensor] = []

    def __call__(
        self, source: Any = None, model: nn.Module | str | Path | None = None, stream: bool = False
    ) -> list[Results] | Iterator[Results]:
        """Results of every frame of `source` (default: the option `source`): a list, or one by one with `stream`.

        With the option `embed` they are feature vectors, 1-d tensors. The model is moved to the device of the options
        and put in eval mode; it is needed at the first call only, where the
        option `model` names a file that serves as well.
        """
        if model is not None or self.model is None:
            self.setup_model(resolve_network(model or self.args.model, self.network_class, self.args.modules))
        frames = load_source(
            self.args.source if source is None else source,
            batch=1 if self.args.visualize else self.args.batch,  # feature maps are drawn one image at a time
            vid_stride=self.args.vid_stride,
            stream_buffer=self.args.stream_buffer,
        )
        if frames.endless and not stream:
            LOGGER.warning("a live source without stream=True: results pile up in memory until the stream ends")
        results = self._run(frames)
        return results if stream else list(results)

    def predict_cli(self, source: Any = None, model: nn.Module | str | Path | None = None) -> None:
        """Predict as the command line does: everything is saved and told as the options say, nothing is returned."""
        for _ in self(source, model, stream=True):
            pass

    @property
    def batch(self) -> tuple[list[str], list[np.ndarray], None, list[str]]:
        """Paths, images, None and log lines of the current batch, for callbacks of scripts that unpack four."""
        frames = self.frames
        return [f.path for f in frames], [f.image for f in frames], None, [f.label for f in frames]

    def setup_model(self, model: nn.Module) -> None:
        """Take over a model: device, eval mode, input size, and a first run where that is slow (CUDA)."""
        self.device = select_device(self.args.device)
        if self.args.half and self.device.type != "cuda":
            LOGGER.warning(f"half=True needs a CUDA GPU; {self.device} runs in float32")
        if self.args.accelerate and not (self.args.embed or self.args.visualize):  # these show the layers as built
            model = for_inference(model, self.device)
        self.model = model.to(self.device).eval()
        self.network_call = compiled(self.model) if self.args.compile else self.model
        self.stride = int(max(model.stride)) if hasattr(model, "stride") else 32
        size = check_imgsz(self.args.imgsz, self.stride)
        self.imgsz = (size, size) if isinstance(size, int) else tuple(size)
        if unknown := sorted(set(self.args.classes or ()) - set(model.names)):
            raise OptionError(f"classes={unknown}: the model has classes {min(model.names)} to {max(model.names)}")
        if self.device.type == "cuda":
            with torch.no_grad():
                self.inference(torch.zeros(1, 3, *self.imgsz, device=self.device))

    @cached_property
    def save_dir(self) -> Path:
        """The run folder, made when it is first needed."""
        return run_dir(self.args, "predict")

    def resize(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """An image (H, W, 3) made to fit the network input `size` (height, width)."""
        return letterbox(image, size)[0]

    def preprocess(self, frames: list[Frame]) -> Tensor:
        """Network input (B, 3, H, W), float RGB in 0..1; tensors from the caller are taken as they are."""
        if frames[0].tensor is not None:
            height, width = frames[0].tensor.shape[1:]
            if height % self.stride or width % self.stride:
                raise DataError(
                    f"source: got a tensor of {height}x{width}; the sides must be multiples of {self.stride}. "
                    "Resize it, or give a uint8 array, which is resized"
                )
            return torch.stack([frame.tensor for frame in frames]).to(self.device, torch.float32)
        images = np.stack([self.resize(frame.image, self.imgsz) for frame in frames])  # (B, H, W, 3) BGR
        rgb = torch.from_numpy(np.ascontiguousarray(images[..., ::-1])).to(self.device)
        return rgb.permute(0, 3, 1, 2).float().div_(255)  # (B, H, W, 3) -> (B, 3, H, W), in memory as it was

    def inference(self, x: Tensor, visualize: Path | None = None) -> Any:
        """Output of the network, or feature vectors; `visualize` is a folder for pictures of its feature maps."""
        with autocast(
            self.device, half_dtype(self.device) if self.args.half else None
        ):  # half precision without changing the caller's weights
            if visualize or self.args.embed:
                return self.model.predict(x, visualize=visualize, embed=self.args.embed)
            return self.network_call(x)

    def postprocess(self, outputs: Any, frames: list[Frame]) -> list[Results]:
        """Results of a batch from the network's output."""
        raise NotImplementedError(f"{type(self).__name__} must say how the output of its network is read")

    def _run(self, source: Source) -> Iterator[Results] | Iterator[Tensor]:
        folder = self.save_dir if ResultWriter.needs_folder(self.args) else None
        writer = ResultWriter(self.args, folder)
        spent, count = Counter(), 0  # milliseconds by stage, images
        self.callbacks.run("on_predict_start", self)
        with closing(iter(source)) as batches, closing(writer):
            for self.frames in batches:
                self.callbacks.run("on_predict_batch_start", self)
                # Not inference mode: its tensors could not be used in the caller's own training afterwards.
                with torch.no_grad():
                    self.results, speed = self._predict_batch(writer)
                self.callbacks.run("on_predict_postprocess_end", self)
                for frame, result in zip(self.frames, self.results, strict=True):
                    self._finish(frame, result, speed, writer)
                count += len(self.frames)
                spent.update({stage: speed[stage] * len(self.frames) for stage in STAGES})
                self.callbacks.run("on_predict_batch_end", self)
                yield from self.results
        if not count:
            raise DataError(f"source: none of its {len(source)} images and videos could be read; see above")
        if self.args.verbose:
            each = ", ".join(f"{spent[stage] / count:.1f}ms {stage}" for stage in STAGES)
            LOGGER.info(f"Speed: {each} per image, network input {self.input_shape}")
        if folder:
            LOGGER.info(f"Results saved to {folder}")
        self.callbacks.run("on_predict_end", self)

    def _predict_batch(self, writer: ResultWriter) -> tuple[list[Results] | list[Tensor], dict[str, float]]:
        """Results, or vectors, of `frames`, and the milliseconds per image and stage."""
        visualize = self.save_dir / "features" / writer.name(self.frames[0]) if self.args.visualize else None
        x, before = self._timed(lambda: self.preprocess(self.frames))
        self.input_shape = tuple(x.shape)
        outputs, within = self._timed(lambda: self.inference(x, visualize))
        if self.args.embed:
            results, after = list(outputs), 0.0
        else:
            results, after = self._timed(lambda: self.postprocess(outputs, self.frames))
        return results, {k: v / len(x) for k, v in zip(STAGES, (before, within, after), strict=True)}

    def _finish(self, frame: Frame, result: Results | Tensor, speed: dict[str, float], writer: ResultWriter) -> None:
        """Complete, save, show and log one result; a feature vector is only logged."""
        found = f"vector of {len(result)}"
        if isinstance(result, Results):
            result.speed = dict(speed)
            result.save_dir = writer.folder and str(writer.folder)
            writer.write(result, frame)
            found = result.verbose()
        if self.args.verbose:
            height, width = self.input_shape[2:]
            LOGGER.info(f"{frame.label}: {height}x{width} {found}, {speed['inference']:.1f}ms")

    def _timed(self, work: Callable[[], T]) -> tuple[T, float]:
        """The result of `work` and the milliseconds it took, the GPU's included."""
        start = clock(self.device)
        return work(), (clock(self.device) - start) * 1000
