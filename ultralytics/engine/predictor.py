"""Prediction: batches of frames through the network, and one `Results` for each frame."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ultralytics.cfg.family import Family
from ultralytics.cfg.options import ConfigLike, Options, get_cfg, resolve_options
from ultralytics.data.images import stretch
from ultralytics.data.loaders import Source, load_source
from ultralytics.data.streams import Frame, opencv_text, writable_rate
from ultralytics.engine.checkpoint import resolve_network, with_branch
from ultralytics.engine.results import Results, image_name, show_image, write_image
from ultralytics.nn.accelerate import for_inference
from ultralytics.nn.head_protocol import can_augment, multi_scale
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER
from ultralytics.utils.callbacks import Callback, Callbacks, CallbacksMixin
from ultralytics.utils.checks import check_imgsz, check_imshow, image_stride, in_notebook
from ultralytics.utils.errors import DataError, OptionError, explained_memory
from ultralytics.utils.files import run_dir, short_name
from ultralytics.utils.public import public_names
from ultralytics.utils.torch_utils import Stopwatch, autocast, compiled, half_dtype, select_device

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # other images are saved as .jpg
VIDEO_SUFFIX, VIDEO_CODEC = (".mp4", "mp4v") if sys.platform == "darwin" else (".avi", "MJPG")  # of saved videos
SHOW_MILLISECONDS = 500  # per image; frames of videos do not wait


class ResultSaver:
    """Save and show results by the options; `close` finishes the videos.

    Files of equal names from different folders are numbered.
    """

    def __init__(self, options: Options, folder: Path | None) -> None:
        self.options, self.folder = options, folder
        self._sources: dict[str, str] = {}  # name in the run folder -> path of its source
        self._videos: dict[str, tuple[cv2.VideoWriter, tuple[int, int]]] = {}  # with (width, height)

    def save(self, result: Results, frame: Frame) -> np.ndarray | None:
        """Save and show one result; return its picture, None if there is none."""
        options, stem = self.options, self.name(frame)
        numbered = stem if frame.kind == "image" else f"{stem}_{frame.index}"
        if options.save_txt:
            file = self.folder / "labels" / short_name(numbered, ".txt")
            file.unlink(missing_ok=True)  # of an earlier run with exist_ok
            result.save_txt(file, save_conf=options.save_conf)
        if options.save_crop:
            result.save_crop(self.folder / "crops", numbered)
        if not (options.save or options.show):
            return None
        picture = result.plot(
            options.show_conf, options.line_width, labels=options.show_labels, boxes=options.show_boxes
        )
        if options.show:
            show_image(frame.path, picture, milliseconds=SHOW_MILLISECONDS if frame.kind == "image" else 1)
        if options.save and frame.kind == "image":
            suffix = Path(image_name(frame.path)).suffix.lower()
            write_image(self.folder / short_name(stem, suffix if suffix in IMAGE_SUFFIXES else ".jpg"), picture)
        elif options.save:
            self._save_frame(stem, frame, picture)
        return picture

    def name(self, frame: Frame) -> str:
        """Return the name of the frame's source in the run folder, without suffix."""
        full = image_name(frame.path)
        stem = full if frame.kind == "stream" else Path(full).stem
        name, number = stem, 2
        while self._sources.setdefault(name, frame.path) != frame.path:
            name, number = f"{stem}_{number}", number + 1
        return name

    def close(self) -> None:
        """Finish the videos."""
        for video, _ in self._videos.values():
            video.release()
        self._videos.clear()

    def _save_frame(self, stem: str, frame: Frame, picture: np.ndarray) -> None:
        if self.options.save_frames:
            write_image(self.folder / f"{stem}_frames" / short_name(f"{stem}_{frame.index}", ".jpg"), picture)
        size = picture.shape[1::-1]  # width, height
        if stem not in self._videos:
            if frame.kind == "video":  # video files are read one by one: the previous one is complete
                self.close()
            file = self.folder / short_name(stem, VIDEO_SUFFIX)
            name, rate = opencv_text(str(file)), writable_rate(frame.fps)
            video = cv2.VideoWriter(name, cv2.VideoWriter_fourcc(*VIDEO_CODEC), rate, size)
            if not video.isOpened():
                raise DataError(f"{file}: OpenCV cannot write this video; use save=False save_txt=True, or images")
            self._videos[stem] = video, size
        video, first_size = self._videos[stem]
        # a stream may change its resolution, but a video would drop the frame
        video.write(picture if size == first_size else cv2.resize(picture, first_size))


DEFAULT_CONF = 0.25


class BasePredictor(CallbacksMixin):
    """Predict with a network. Subclasses implement `resize` and `construct_results`, or `postprocess`.

    A predictor holds the state of one call at a time: threads share a `Model`, which makes one for each call. Callbacks
    receive the predictor, which has `frames` and `results` of the current batch.

    Args:
        cfg: the options, a YAML file or mapping of some, or None for the defaults.
        overrides: options that override `cfg`.
        _callbacks: functions for the on_predict_... events.
    """

    family: Family | None = None
    network_class: type[DetectionModel] = DetectionModel  # built from the file in the option `model`
    conf = property(attrgetter("args.conf"))
    stream, seen, done_warmup = True, 0, False  # of the current call
    plotted_img = txt_path = None  # of its last image
    tracking: Callable[[Any], None] | None = None  # of `Model.track`, called with this after each batch
    trackers: list[Any]  # of `Model.track`

    def __init__(
        self, cfg: ConfigLike = None, overrides: Mapping[str, object] | None = None,
        _callbacks: Callbacks | Mapping[str, Callback] | None = None,
    ) -> None:  # fmt: skip
        args = resolve_options(cfg, overrides, "predict", self.family)
        # a copy, whose options a script may set between calls
        self.args = args = get_cfg(args, {"conf": DEFAULT_CONF if args.conf is None else args.conf})
        if args.embed and args.visualize:
            raise OptionError("embed and visualize: use one of them per run")
        self.callbacks = _callbacks if isinstance(_callbacks, Callbacks) else Callbacks(_callbacks)
        self.model: nn.Module | None = None
        self.frames: list[Frame] = []
        self.results: list[Results] | list[Tensor] = []

    def __call__(
        self, source: Any = None, model: nn.Module | str | Path | None = None, stream: bool = False
    ) -> list[Results] | Iterator[Results] | list[Tensor]:
        """Return the `Results` of every frame, or with the option `embed` feature vectors, 1-d tensors.

        Args:
            source: see `Model.predict`; by default the option `source`.
            model: network, or its file; by default that of the previous call, or of the option `model`.
            stream: return an iterator instead of a list.
        """
        self.stream = stream
        results = self.stream_inference(source, model)
        return results if stream else list(results)

    def stream_inference(
        self, source: Any = None, model: nn.Module | str | Path | None = None
    ) -> Iterator[Results] | Iterator[Tensor]:
        """Return an iterator over the results, see `__call__`."""
        if model is not None or self.model is None:
            self.setup_model(model)
        self.setup_source(self.args.source if source is None else source)
        if self.dataset.endless and not self.stream:
            LOGGER.warning("a live source without stream=True: results fill the memory until the stream ends")
        return self._run(self.dataset)

    def setup_source(self, source: Any) -> None:
        """Set `dataset` to the frames of a source, see `Model.predict`."""
        args = self.args
        batch = 1 if args.visualize else args.batch  # feature maps are drawn per image
        self.dataset = load_source(source, batch=batch, vid_stride=args.vid_stride, stream_buffer=args.stream_buffer)
        self.source_type = self.dataset.source_type

    def predict_cli(self, source: Any = None, model: nn.Module | str | Path | None = None) -> None:
        """Predict as the command line does: save and log by the options, return nothing."""
        for _ in self.stream_inference(source, model):
            pass

    @property
    def batch(self) -> tuple[list[str], list[np.ndarray], list[str]]:
        """Paths, images and log lines of the current batch, for callbacks that unpack these."""
        frames = self.frames
        return [f.path for f in frames], [f.image for f in frames], [f.label for f in frames]

    @batch.setter
    def batch(self, batch: Sequence[Any]) -> None:
        if not isinstance(batch[0], Frame):  # of `dataset`; else paths and, perhaps, images
            images = batch[1] if len(batch) > 1 else [None] * len(batch[0])
            batch = [Frame(image, path, path) for path, image in zip(batch[0], images, strict=True)]
        self.frames = list(batch)

    def setup_model(self, model: nn.Module | str | Path | None, verbose: bool = True) -> None:
        """Move a network, or that of a file, to the device of the options, in eval mode, and warm it up on CUDA."""
        args = self.args
        model = resolve_network(model or args.model, self.network_class, args.modules, trust=args.trust)
        self.device = select_device(args.device)
        if args.half and self.device.type != "cuda":
            LOGGER.warning(f"half=True needs a CUDA GPU; {self.device} runs in float32")
        model = with_branch(model, args.end2end, args.max_det, args.augment)
        self.augment = args.augment and can_augment(model)
        plain = args.embed or args.visualize  # these need the layers of the model file
        model = for_inference(model, self.device, rewrite=args.accelerate and not plain)
        self.model = model.to(self.device).eval()
        self.compiled_model = compiled(self.model) if args.compile else self.model
        self.stride = image_stride(model)
        size = check_imgsz(args.imgsz, self.stride)
        self.imgsz = [size, size] if isinstance(size, int) else list(size)
        if getattr(model, "fixed_size", False) and self.imgsz != (fixed := list(model.metadata.imgsz)):
            LOGGER.warning(f"imgsz={size}: {model.weights} runs at {fixed}, for which it was exported")
            self.imgsz = fixed
        if unknown := sorted(set(args.classes or ()) - set(model.names)):
            raise OptionError(f"classes={unknown}: the model has classes {min(model.names)} to {max(model.names)}")
        if self.device.type == "cuda":
            with torch.no_grad():
                self.inference(torch.zeros(1, 3, *self.imgsz, device=self.device))
        self.done_warmup = True

    @cached_property
    def save_dir(self) -> Path:
        """Folder of the run, created on first use."""
        return run_dir(self.args.project, self.args.name or "predict", exist_ok=self.args.exist_ok)

    def resize(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Stretch an image (H, W, 3) to the network input `size` (height, width), as in training."""
        return stretch(image, size)

    def pre_transform(self, images: list[np.ndarray]) -> list[np.ndarray]:
        """Resize the images of a batch to one shape."""
        return [self.resize(image, self.imgsz) for image in images]

    def preprocess(self, im: list[np.ndarray] | Tensor) -> Tensor:
        """Return the network input (B, 3, H, W), float RGB in 0..1, for BGR images, or a tensor as it is given."""
        if torch.is_tensor(im):
            height, width = im.shape[2:]
            if height % self.stride or width % self.stride:
                raise DataError(
                    f"source: got a tensor of {height}x{width}; the sides must be multiples of {self.stride}. "
                    "Resize it, or pass a uint8 array, which is resized"
                )
            return im.to(self.device, torch.float32)
        images = np.stack(self.pre_transform(im))  # (B, H, W, 3) BGR
        rgb = torch.from_numpy(np.ascontiguousarray(images[..., ::-1])).to(self.device)
        return rgb.permute(0, 3, 1, 2).float().div_(255)  # (B, H, W, 3) -> (B, 3, H, W), channels last in memory

    def inference(self, x: Tensor, visualize: Path | None = None) -> Any:
        """Run the network; with `embed` return feature vectors, with `visualize` (a folder) draw its feature maps."""
        with autocast(self.device, half_dtype(self.device) if self.args.half else None):
            if visualize or self.args.embed:
                return self.model.predict(x, visualize=visualize, embed=self.args.embed)
            run = self.compiled_model
            return (multi_scale(run, x, self.model.stride), None) if self.augment else run(x)

    def postprocess(self, preds: Any, img: Tensor, orig_imgs: list[np.ndarray]) -> list[Results]:
        """Convert the network's output for its input `img` (B, 3, H, W) to the results of the images of a batch."""
        raise NotImplementedError(f"{type(self).__name__} must implement postprocess(preds, img, orig_imgs)")

    def construct_results(self, preds: list[Tensor], img: Tensor, orig_imgs: list[np.ndarray]) -> list[Results]:
        """Return the results of the images of a batch from their detections, see `construct_result`."""
        images = zip(preds, orig_imgs, self.batch[0], strict=True)
        return [self.construct_result(rows, img, image, path) for rows, image, path in images]

    def construct_result(self, pred: Tensor, img: Tensor, orig_img: np.ndarray, img_path: str) -> Results:
        """Return the result of an image from its detections (n, 6), corners in its pixels, score and class."""
        return Results(orig_img, img_path, self.model.names, pred)

    def write_results(self, i: int, p: Path, im: Tensor, s: list[str]) -> str:
        """Save and show result `i` of the batch by the options; return its line for the log.

        Args:
            p: path of the image.
            im: network inputs (B, 3, H, W).
            s: names of the images in the log.
        """
        result, (height, width), folder = self.results[i], im.shape[2:], self.saver.folder
        found = f"vector of {len(result)}" if self.args.embed else result.verbose()
        if not self.args.embed:
            result.speed, result.save_dir = dict(self.speed), folder and str(folder)
            self.txt_path = folder and folder / "labels" / self.saver.name(self.frames[i])
            self.plotted_img = self.saver.save(result, self.frames[i])
        return f"{s[i]}: {height}x{width} {found}, {self.speed['inference']:.1f}ms"

    def _run(self, source: Source) -> Iterator[Results] | Iterator[Tensor]:
        args, seconds, self.seen = self.args, Counter(), 0
        args.show = args.show and (in_notebook() or check_imshow(warn=True))
        writes = (args.save or args.save_txt or args.save_crop) and not args.embed  # feature vectors are not saved
        folder = self.save_dir if writes or args.visualize else None
        self.callbacks.run("on_predict_start", self)
        with explained_memory(args), closing(iter(source)) as batches, closing(ResultSaver(args, folder)) as self.saver:
            for self.frames in batches:
                self.callbacks.run("on_predict_batch_start", self)
                features = self.save_dir / "features" / self.saver.name(self.frames[0]) if args.visualize else None
                watch = Stopwatch(self.device)
                with torch.no_grad():  # not inference mode: its tensors cannot be used in training
                    with watch("preprocess"):
                        originals = [frame.image for frame in self.frames]
                        tensors = [frame.tensor for frame in self.frames]
                        x = self.preprocess(originals if tensors[0] is None else torch.stack(tensors))
                    with watch("inference"):
                        outputs = self.inference(x, features)
                    with watch("postprocess"):
                        self.results = list(outputs) if args.embed else self.postprocess(outputs, x, originals)
                        if self.tracking:
                            self.tracking(self)
                self.callbacks.run("on_predict_postprocess_end", self)

                self.speed = watch.per_image(len(x))
                labels = [frame.label for frame in self.frames]
                for i, frame in enumerate(self.frames):
                    LOGGER.info(self.write_results(i, Path(frame.path), x, labels))
                self.seen += len(x)
                seconds.update(watch.seconds)
                self.callbacks.run("on_predict_batch_end", self)
                yield from self.results
        if not self.seen:
            raise DataError("source: none of its images and videos could be read; see above")
        speed = ", ".join(f"{1000 * total / self.seen:.1f}ms {stage}" for stage, total in seconds.items())
        LOGGER.info(f"Speed: {speed} per image, network input {tuple(x.shape)}")
        if folder:
            LOGGER.info(f"Results saved to {folder}")
        self.callbacks.run("on_predict_end", self)


__getattr__ = public_names(__name__)
