"""Data sets, loaders and images as scripts of the published package use them."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import ConcatDataset

from ultralytics.cfg.migrate import published_hyp
from ultralytics.cfg.options import ConfigLike, get_cfg
from ultralytics.data.augment import train_transforms
from ultralytics.data.build import dataset_parts
from ultralytics.data.dataset import DetectionDataset
from ultralytics.data.dataset_yaml import DatasetConfig, label_file, load_dataset_config
from ultralytics.data.images import probe_image, read_image, stretch
from ultralytics.data.labels import ImageLabels, Rows, read_yolo_file
from ultralytics.data.loaders import Source, load_source
from ultralytics.data.transforms.sample import Compose, Sample, collate, sample_of
from ultralytics.engine.results import Results
from ultralytics.published.instances import Format, Instances
from ultralytics.tools.split import find_pairs, split_pairs
from ultralytics.utils.errors import DataError, OptionError
from ultralytics.utils.files import write_text
from ultralytics.utils.ops import xywhn2xyxy
from ultralytics.utils.overrides import Overridable, replaced
from ultralytics.utils.public import public


def image_labels(labels: Mapping[str, Any]) -> ImageLabels:
    """Return published labels, with boxes cx, cy, w, h in 0..1, as those of `DetectionDataset`."""
    cls, file = np.reshape(labels["cls"], -1).astype(np.int64), Path(labels["im_file"])
    crowd, image_id = np.zeros(len(cls), bool), labels.get("image_id", file.stem)
    return ImageLabels(file, tuple(labels["shape"]), cls, np.float32(labels["bboxes"]), crowd, image_id)


class YOLODataset(Overridable, DetectionDataset):
    """Data set of the images at a path (folder, list, or several) with their labels, letterboxed to `imgsz`.

    `data` has the class `names`, as the result of `check_det_dataset` does; `hyp` are the options, of the augmentation
    with `augment`. `rect` letterboxes each batch of `batch_size` to one rectangle. Training uses a subclass that is
    assigned to `ultralytics.data.build.YOLODataset`.

    Methods to override: `get_img_files`, `get_labels`, `update_labels`, `load_image`, `get_image_and_label`,
    `update_labels_info`, `build_transforms`, `close_mosaic`, which read and return published labels, a mapping for each
    image, and `__getitem__`. Random numbers are Python's. `ims`, `im_hw0`, `im_hw` and `buffer` are for a `load_image`
    that keeps images; here `cache` does.
    """

    resize = "letterbox"
    use_segments = use_keypoints = use_obb = False

    def __init__(
        self, img_path: str | Path | Sequence[str], *, data: Mapping[str, Any], task: str = "detect", imgsz: int = 640,
        cache: bool | str = False, augment: bool = True, hyp: ConfigLike = None, prefix: str = "", rect: bool = False,
        batch_size: int = 16, stride: int = 32, pad: float = 0.5, single_cls: bool = False,
        classes: list[int] | None = None, fraction: float = 1.0, channels: int = 3,
    ) -> None:  # fmt: skip
        if task != "detect" or channels != 3:
            raise OptionError(f"task={task!r}, channels={channels}: this package detects objects in color images")
        given = {"cache": cache or False, "single_cls": single_cls, "classes": classes, "fraction": fraction}
        split = "train" if augment else "val"
        options = get_cfg(hyp, {**given, "imgsz": imgsz})
        paths = [str(Path(path).absolute()) for path in ([img_path] if isinstance(img_path, (str, Path)) else img_path)]
        if isinstance(data, DatasetConfig):
            config = data
            split = next(s for s, found in data.splits.items() if [*map(str, found)] == paths)
        else:
            config = load_dataset_config({split: paths, "names": data["names"]}, (split,))
        self.data, self.imgsz, self.augment, self.prefix, self.rect = data, imgsz, augment, prefix, rect
        self.img_path, self.classes, self.single_cls, self.channels = img_path, classes, single_cls, channels
        self.cache, self.fraction, self.pad, self.batch_size, self.stride = cache, fraction, pad, batch_size, stride
        settings = {"resize": self.resize, "rect": self.rect, "stride": stride, "imgsz": imgsz}
        *parts, self._fit, names = dataset_parts(
            options, config, split, training=augment, adapt=self._adapt, **settings
        )
        labels = self.labels
        super().__init__(*parts, self._fit, names)
        self.labels, self.ni = labels, len(labels)
        self.im_files = [item["im_file"] for item in self.labels]
        self.label_files = img2label_paths(self.im_files)
        self.npy_files = [Path(file).with_suffix(".npy") for file in self.im_files]
        self.ims, self.im_hw0, self.im_hw = ([None] * self.ni for _ in range(3))
        self.buffer, self.max_buffer_length = [], min(self.ni, 8 * batch_size, 1000) if augment else 0
        if self.source.rectangles:
            self.source.rectangles.set_batch(batch_size)
            self.batch_shapes, self.batch = np.array(self.source.rectangles.shapes), np.arange(self.ni) // batch_size
        self.transforms = self.build_transforms(published_hyp(options.to_dict()))

    def _adapt(self, labels: list[ImageLabels]) -> list[ImageLabels]:
        """Pass the labels of the files through the methods that a subclass may override."""
        found = {str(item.file): item.published() for item in labels}
        self.im_files = [*found]
        self.im_files = [str(Path(file).absolute()) for file in self.get_img_files(self.img_path)]
        if unknown := self.im_files - found.keys():
            raise DataError(f"get_img_files: got {unknown.pop()}, expected usable images of {self.img_path}")
        self.labels = [found[file] for file in self.im_files]
        self.labels = self.get_labels()
        self.update_labels(include_class=None if self.single_cls else self.classes)
        return [image_labels(item) for item in self.labels]

    def get_img_files(self, img_path: Any) -> list[str]:
        """Return the usable images of the path; an override may leave out, sort or repeat some."""
        return self.im_files

    def update_labels(self, include_class: list[int] | None) -> None:
        """Keep the boxes of some classes in `labels`; with `single_cls` all boxes get class 0."""
        for label in self.labels:
            keep = np.isin(label["cls"][:, 0], label["cls"] if include_class is None else include_class)
            label["cls"], label["bboxes"] = label["cls"][keep] * (not self.single_cls), label["bboxes"][keep]

    def get_labels(self) -> list[dict[str, Any]]:
        """Return the labels of all images: `im_file`, `shape`, `cls` (n, 1), `bboxes` (n, 4) and their format."""
        return self.labels

    def build_transforms(self, hyp: ConfigLike = None) -> Compose:
        """Return what converts the labels with the image to tensors."""
        if self.augment:
            return (replaced("v8_transforms") or v8_transforms)(self, self.imgsz, hyp)
        return Compose([self._fit, Format()])

    def load_image(self, i: int, rect_mode: bool = True) -> tuple[np.ndarray, tuple[int, int], tuple[int, int]]:
        """Return image i at network scale, or stretched; its shape (height, width) in the file and now."""
        sample = self.source.load(i)
        image = sample.image if rect_mode else stretch(sample.image, (self.imgsz, self.imgsz))
        return image, sample.ori_shape, image.shape[:2]

    def get_image_and_label(self, index: int) -> dict[str, Any]:
        """Return the labels of an image with the image as `img`, BGR, and the boxes as `instances`."""
        labels = {**deepcopy(self.labels[index]), "index": index}
        labels["img"], labels["ori_shape"], labels["resized_shape"] = self.load_image(index)
        sides = zip(labels["resized_shape"], labels.pop("shape"), strict=True)
        labels["ratio_pad"] = tuple(now / before for now, before in sides)
        return self.update_labels_info(labels)

    def update_labels_info(self, label: dict[str, Any]) -> dict[str, Any]:
        """Return the labels with `instances` in place of `bboxes` and its format."""
        given = {key: label.pop(key) for key in ("bboxes", "segments", "keypoints", "bbox_format", "normalized")}
        return {**label, "instances": Instances(**given)}

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.transforms(self.get_image_and_label(index))

    @property
    def augment_enabled(self) -> bool:
        """Return whether images are mixed: until `close_mosaic` is called."""
        return self.source.augment_enabled

    def sample_random(self, index: int, count: int, rng: np.random.Generator) -> list[Sample]:
        """Return `count` random samples to mix with sample `index`."""
        return [sample_of(self.get_image_and_label(i)) for i in self.source.draw(index, count, rng)]


class RTDETRDataset(YOLODataset):
    """Data set as `YOLODataset`, with images stretched to (imgsz, imgsz)."""

    resize = "stretch"


class YOLOConcatDataset(ConcatDataset):
    """Data sets one after another; their class names and the source of further samples are those of the first."""

    collate_fn = staticmethod(collate)

    def __init__(self, datasets: Sequence[DetectionDataset]) -> None:
        super().__init__(datasets)
        self.labels = [label for dataset in self.datasets for label in dataset.labels]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "datasets":
            raise AttributeError(name)
        return getattr(self.datasets[0], name)

    def close_mosaic(self, hyp: Any = None) -> None:
        for dataset in self.datasets:
            dataset.close_mosaic(hyp)

    def set_epoch(self, epoch: int) -> None:
        for dataset in self.datasets:
            dataset.set_epoch(epoch)


BaseDataset = YOLODataset  # the published base class has the same arguments


def build_yolo_dataset(
    cfg: ConfigLike, img_path: str | Path | Sequence[str], batch: int, data: Mapping[str, Any], mode: str = "train",
    rect: bool = False, stride: int = 32, multi_modal: bool = False, *, name: str = "YOLODataset",
) -> YOLODataset:  # fmt: skip
    """Build the data set of the images at a path from options; augmented for the mode "train".

    Its class is what a script has assigned to the public `name`; raises OptionError if that is no subclass.
    """
    if multi_modal:
        raise OptionError("multi_modal=True: images with texts are not part of this package, which detects boxes")
    o, training, build = get_cfg(cfg), mode == "train", replaced(name) or public(name)
    dataset = build(
        img_path=img_path, data=data, imgsz=o.imgsz, cache=o.cache, augment=training, hyp=o, task="detect",
        rect=bool(o.rect or rect), batch_size=max(batch, 1), stride=int(stride), pad=0.0 if training else 0.5,
        single_cls=o.single_cls, classes=o.classes, fraction=o.fraction if training else 1.0, prefix=f"{mode}: ",
    )  # fmt: skip
    if not isinstance(dataset, YOLODataset):
        raise OptionError(f"{name} was replaced by {build!r}, expected a subclass of ultralytics.data.{name}")
    return dataset


class LoadImagesAndVideos:
    """Iterate over batches of a source of `predict`: paths, images (H, W, 3) uint8 BGR, and a log line on each."""

    def __init__(self, path: Any, batch: int = 1, vid_stride: int = 1, channels: int = 3, *, buffer: bool = False):
        self.source: Source = load_source(path, batch=batch, vid_stride=vid_stride, stream_buffer=buffer)
        self.bs, self.mode, self.source_type = batch, self.source.mode, self.source.source_type
        self.files = [str(entry.value) for entry in self.source.entries]
        self.nf, self.ni = len(self.files), sum(entry.kind == "image" for entry in self.source.entries)

    def __len__(self) -> int:
        return -(-len(self.source) // self.bs)

    def __iter__(self) -> Iterator[tuple[list[str], list[np.ndarray], list[str]]]:
        for frames in self.source:
            self.frame, self.fps = frames[-1].index, frames[-1].fps
            yield [f.path for f in frames], [f.image for f in frames], [f"{f.label}: " for f in frames]


class LoadStreams(LoadImagesAndVideos):
    """Iterate over live streams, a frame of each at a time: addresses, camera numbers, or a file that lists them."""

    def __init__(self, sources: Any = "file.streams", vid_stride: int = 1, buffer: bool = False, channels: int = 3):
        super().__init__(sources, vid_stride=vid_stride, buffer=buffer)


class LoadPilAndNumpy(LoadImagesAndVideos):
    """Iterate once, over all images given: PIL images, and arrays (H, W, 3) BGR."""

    def __init__(self, im0: Any, channels: int = 3):
        super().__init__(im0, batch=len(im0) if isinstance(im0, list) else 1)


class LoadTensor(LoadImagesAndVideos):
    """Iterate once, over a tensor of images (B, 3, H, W), RGB in 0..1."""

    def __init__(self, im0: Tensor):
        super().__init__(im0, batch=1 if im0.ndim == 3 else len(im0))

    def __iter__(self) -> Iterator[tuple[list[str], Tensor, list[str]]]:
        for frames in self.source:
            yield [f.path for f in frames], torch.stack([f.tensor for f in frames]), [""] * len(frames)


def autocast_list(source: Sequence[Any]) -> list[Image.Image | np.ndarray]:
    """Return the images of a list: those of paths as PIL images, others as they are."""
    return [Image.open(item) if isinstance(item, (str, Path)) else item for item in source]


LOADERS = LoadStreams, LoadPilAndNumpy, LoadImagesAndVideos
imshow, _image_open = cv2.imshow, Image.open
SourceTypes = make_dataclass("SourceTypes", [(k, bool, False) for k in ("stream", "screenshot", "from_img", "tensor")])


def load_inference_source(
    source: Any = None, batch: int = 1, vid_stride: int = 1, buffer: bool = False, channels: int = 3
) -> LoadImagesAndVideos:
    """Return the batches of any source of `predict`."""
    return LoadImagesAndVideos(source, batch, vid_stride, channels, buffer=buffer)


def v8_transforms(dataset: YOLODataset, imgsz: int, hyp: ConfigLike, stretch: bool = False) -> Compose:
    """Return the augmentation of a data set by options, for its `transforms`: published labels to tensors."""
    given = get_cfg(hyp), dataset, imgsz, "stretch" if stretch else dataset.resize
    return Compose([*train_transforms(*given, dataset.source.rectangles).transforms, Format()])


def autosplit(path: str | Path, weights: Sequence[float] = (0.9, 0.1, 0.0), annotated_only: bool = False) -> None:
    """Write autosplit_train.txt, _val and _test beside an image folder: random parts of its (annotated) images."""
    folder = Path(path).absolute()
    pairs = [pair for pair in find_pairs(folder, None) if pair[1] or not annotated_only]
    for split, part in zip(("train", "val", "test"), split_pairs(pairs, weights, 0), strict=True):
        if part:
            lines = [f"./{image.relative_to(folder.parent).as_posix()}\n" for image, _ in part]
            write_text(folder.parent / f"autosplit_{split}.txt", "".join(lines))


def img2label_paths(img_paths: Sequence[str]) -> list[str]:
    """Return the label file of each image: the last folder `images` becomes `labels`, the suffix `.txt`."""
    return [str(label_file(Path(path))) for path in img_paths]


def get_hash(paths: Sequence[str]) -> str:
    """Return a hash of the paths, and of the sizes of those that exist."""
    sizes = [os.path.getsize(path) for path in paths if os.path.exists(path)]
    return hashlib.sha256(repr((sum(sizes), *paths)).encode()).hexdigest()


def exif_size(img: Image.Image) -> tuple[int, int]:
    """Return width and height of an image, turned as its EXIF data ask."""
    return ImageOps.exif_transpose(img).size


def verify_image(args: Sequence[Any]) -> tuple[Any, int, int, str]:
    """Check an image, given as ((file, class), prefix): return both, 1 if it is valid, 1 if not, and the message."""
    named, prefix = args
    *_, invalid, message = verify_image_label((named[0], "", prefix, False, 0))
    return named, 1 - invalid, invalid, message


def save_dataset_cache_file(prefix: str, path: Path, x: dict[str, Any], version: str) -> None:
    """Write labels and what belongs to them, with the `version`, which `x` gets, too."""
    x["version"] = version
    torch.save(x, path)


def load_dataset_cache_file(path: Path) -> dict[str, Any]:
    """Return what `save_dataset_cache_file` has written; no code in it is run."""
    dtypes = {type(np.dtype(code)) for code in "?bBhHiIlLefdU"}
    torch.serialization.add_safe_globals([np.ndarray, np.dtype, np.ones(1).__reduce__()[0], *dtypes])
    return torch.load(path, weights_only=True)


def verify_image_label(args: Sequence[Any]) -> list[Any]:
    """Check an image and its label file, given as (image, label file, prefix, _, number of classes, ...).

    Returns as published: image, rows (n, 5) of class and box, shape, segments, keypoints, 1 if the labels are missing,
    found, empty, and invalid, and the message; for an invalid image None up to the counts.
    """
    file, text, prefix, _, nc = args[:5]
    found, rows = os.path.isfile(text), Rows()
    try:
        shape = probe_image(file)
        rows = read_yolo_file(Path(text), nc) if found else rows
    except DataError as error:
        rows.report("unreadable", str(file), str(error))
    message = "; ".join(f"{prefix}{p.where}: {p.detail}" for p in rows.problems)
    if any(p.kind != "duplicate" for p in rows.problems):
        return [*[None] * 5, 0, int(found), 0, 1, message]
    table = np.array([[c, *box] for c, box in zip(rows.cls, rows.boxes, strict=True)], np.float32).reshape(-1, 5)
    return [file, table, shape, [], None, int(not found), int(found), int(found and not len(table)), 0, message]


def visualize_image_annotations(image_path: str | Path, txt_path: str | Path, label_map: Mapping[int, str]) -> None:
    """Show an image with the boxes of its YOLO label file."""
    image = read_image(image_path)
    table = verify_image_label((image_path, txt_path, "", False, len(label_map)))[1]
    boxes = xywhn2xyxy(table[:, 1:], *image.shape[1::-1])
    rows = np.concatenate([boxes, np.ones((len(table), 1)), table[:, :1]], 1)
    Results(image, image_path, label_map, rows).show(conf=False)


def compress_one_image(f: str | Path, f_new: str | Path | None = None, max_dim: int = 1920, quality: int = 50) -> None:
    """Save an image as JPEG, with a longer side of at most `max_dim`, in place or as `f_new`."""
    image = Image.fromarray(read_image(f)[..., ::-1])
    image.thumbnail((max_dim, max_dim))
    image.save(f_new or f, "JPEG", quality=quality, optimize=True)


def imread(filename: str | Path, flags: int = cv2.IMREAD_COLOR) -> np.ndarray | None:
    """Read an image (H, W, 3) BGR, or as `flags` of OpenCV ask; None if that is not possible, as OpenCV does."""
    data = np.fromfile(filename, np.uint8) if Path(filename).is_file() else None
    return None if data is None else cv2.imdecode(data, flags)


def imwrite(filename: str | Path, img: np.ndarray, params: Sequence[int] | None = None) -> bool:
    """Write an image (H, W, 3) BGR; return whether it was written."""
    done, data = cv2.imencode(Path(filename).suffix, img, params or [])
    if done:
        data.tofile(filename)
    return done


def empty_like(x: np.ndarray | Tensor) -> np.ndarray | Tensor:
    """Return an array, or tensor, of the shape of another, in float32 and with any values."""
    return torch.empty_like(x, dtype=torch.float32) if isinstance(x, Tensor) else np.empty_like(x, dtype=np.float32)


def seed_worker(worker_id: int) -> None:
    """Seed Python and NumPy in a worker of a loader, from the seed that torch has given it."""
    np.random.seed(torch.initial_seed() % 2**32)
    random.seed(torch.initial_seed() % 2**32)
