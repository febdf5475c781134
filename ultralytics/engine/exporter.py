"""Export of a trained detector to another runtime, followed by a comparison with PyTorch."""

import copy
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ultralytics.cfg.options import ConfigLike, resolve_options
from ultralytics.data.dataset_yaml import list_images, load_dataset_config
from ultralytics.data.images import read_image, stretch
from ultralytics.data.synthetic import draw_image
from ultralytics.engine.checkpoint import load_model_weights, load_network, with_branch
from ultralytics.nn.accelerate import for_inference
from ultralytics.nn.exported_model import ExportedModel
from ultralytics.nn.formats import ExportFormat, ExportSpec, Metadata, export_formats, get_format
from ultralytics.nn.formats.graph_nms import Suppression
from ultralytics.nn.head_protocol import ANCHORS, END2END, SCORES
from ultralytics.utils import LOGGER
from ultralytics.utils.callbacks import Callback, Callbacks, CallbacksMixin
from ultralytics.utils.checks import check_imgsz, image_stride, is_installed
from ultralytics.utils.errors import DataError, MissingPackageError, OptionError, UserError, WeightsError, counted
from ultralytics.utils.files import size_of
from ultralytics.utils.public import public_names
from ultralytics.utils.torch_utils import select_device

EXPORTED_CONF = 0.001  # of NMS in the graph: predictions with any higher threshold are the same
TIE = 1e-6  # of scores, between what a head selects and what it leaves out; an untrained one has equal scores
CONFIDENT = 0.25  # int8 is compared on objects that would be shown; boxes of other queries are arbitrary


@dataclass(frozen=True)
class Bounds:
    """Accepted difference of a precision from PyTorch, as in `Difference`.

    `swapped` is the share of queries that may have no match. One of each image may, except for int8.
    """

    boxes: float
    scores: float
    swapped: float


BOUNDS = {"float32": Bounds(1e-3, 1e-3, 0.02), "float16": Bounds(2e-2, 2e-2, 0.05), "int8": Bounds(0.1, 0.25, 0.2)}


@dataclass(frozen=True)
class Difference:
    """Difference between two outputs.

    Attributes:
        boxes: largest difference of a coordinate, in 0..1 of the image.
        scores: largest difference of a class probability.
        queries: number of compared boxes in all images.
        swapped: number of boxes without a match, as nearly equal scores at the end of the top-k selection swap.
    """

    boxes: float
    scores: float
    queries: int
    swapped: int

    def within(self, bounds: Bounds) -> bool:
        """Return whether boxes and scores are within the bounds."""
        return self.boxes <= bounds.boxes and self.scores <= bounds.scores

    def __str__(self) -> str:
        swapped = f"; {self.swapped} more were selected by one side only" if self.swapped else ""
        queries = f"({self.queries} boxes{swapped})"
        return f"boxes differ by up to {self.boxes:.1e} of the image, scores by {self.scores:.1e} {queries}"


def compare(
    expected: Tensor, found: Tensor, precision: str, layout: str = SCORES, size: tuple[int, int] | None = None
) -> Difference:
    """Match the boxes of each image one to one, and measure the remaining difference. Anchors are not matched.

    Pairs outside the bounds of the precision count as swapped if they are few, or tied with the last one that the head
    selects. For int8 only boxes with a PyTorch
    score of CONFIDENT or more count, or the best one of an image without any. Raises WeightsError for other shapes.

    Args:
        layout: of both outputs; see `head_protocol.py`.
        size: height and width of the images, for boxes in pixels.
    """
    bounds, anchors = BOUNDS[precision], layout == ANCHORS
    if expected.shape != found.shape:
        raise WeightsError(f"the exported model gives {tuple(found.shape)}, expected {tuple(expected.shape)}")
    pairs = []
    for image in zip(expected.double().cpu(), found.double().cpu(), strict=True):
        ours, theirs = (y.T.clone() if anchors else y.clone() for y in image)  # (boxes, columns)
        for y in (ours, theirs) if size else ():
            y[:, :4] /= y.new_tensor([size[1], size[0]] * 2)
        rows, columns = (range(len(ours)),) * 2 if anchors else _match(ours, theirs)
        ours, theirs = ours[rows], theirs[columns]
        gap = torch.nan_to_num((ours - theirs).abs(), nan=torch.inf)
        score = ours[:, 4] if layout == END2END else ours[:, 4:].amax(1)
        known = score > 0  # not what fills a table
        if layout == END2END:
            known |= theirs[:, 4] != 0
        if precision == "int8":
            known &= score >= min(CONFIDENT, float(score.max()))
        tied = (score - score.min() <= (TIE if layout == END2END else -1)).to(gap)
        pairs.append(torch.stack((gap[:, :4].amax(1), gap[:, 4:].amax(1), tied), 1)[known])
    gaps, tied = torch.cat(pairs).split((2, 1), 1)  # (pairs, 2): boxes and scores
    outside, tied = (gaps > gaps.new_tensor([bounds.boxes, bounds.scores])).any(1), tied[:, 0] > 0
    allowed = 0 if anchors else max(bounds.swapped * len(gaps), 0 if precision == "int8" else len(expected))
    if (outside & ~tied).sum() > allowed or not torch.isfinite(found).all():  # too many for swaps: measure them as well
        outside = torch.zeros_like(outside)
    boxes, scores = gaps[~outside].amax(0).tolist() if not outside.all() else (0.0, 0.0)
    return Difference(boxes, scores, int((~outside).sum()), int(outside.sum()))


def _match(ours: Tensor, theirs: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the rows of both tables that are most similar, one to one."""
    from scipy.optimize import linear_sum_assignment  # slow to import

    cost = torch.nan_to_num(torch.cdist(ours, theirs, p=1), nan=1e6, posinf=1e6)
    return linear_sum_assignment(cost.numpy())


COMPARED = 4  # images
CALIBRATED = 128  # images for int8; more hardly change the ranges
FEW = 16  # images for int8, below which a warning is logged
DRAWN_SIZE = 192  # pixels of a drawn image before it is stretched
MARKS = {"float32": "", "float16": "_half", "int8": "_int8"}  # in the file name


class ExportMismatchError(UserError):
    """An exported model computes something else than the network; the file is kept."""


class Exporter(CallbacksMixin):
    """Export a network, with the options of `cfg`, replaced by `overrides`.

    Callbacks: on_export_start and on_export_end, with the exporter as argument. It has `file` and `difference`.
    """

    def __init__(
        self, cfg: ConfigLike = None, overrides: Mapping[str, object] | None = None,
        _callbacks: Callbacks | Mapping[str, Callback] | None = None,
    ) -> None:  # fmt: skip
        self.args = resolve_options(cfg, overrides, "export")
        self.callbacks = _callbacks if isinstance(_callbacks, Callbacks) else Callbacks(_callbacks)
        self.file: Path | None = None
        self.difference: Difference | None = None

    def __call__(self, model: nn.Module, source: str | None = None) -> str:
        """Write `model`, which is not changed, next to the weights `source` (option `model`) and return the path.

        Raises:
            OptionError: the format does not support the options.
            MissingPackageError: a package of the format is not installed.
            ExportMismatchError: boxes or scores of the exported model differ from PyTorch.
        """
        kind, source = self._check_format(), source or self.args.model or "model.pt"
        self.callbacks.run("on_export_start", self)
        branch = False if self.args.nms and self.args.end2end is None else self.args.end2end  # that which needs NMS
        spec = self._make_spec(with_branch(model, branch), kind, source)
        LOGGER.info(f"Exporting {source} to {kind.name}, {spec.metadata.precision}")
        self.file = kind.export(spec)
        LOGGER.info(f"{self.file}: {size_of(self.file) / 1e6:.1f} MB")
        self._compare(spec, kind)
        self.callbacks.run("on_export_end", self)
        return str(self.file)

    def _check_format(self) -> ExportFormat:
        """Return the format of the options. Raise UserError if it does not support them or lacks a package."""
        kind = get_format(self.args.format)
        for option in ("int8", "half", "dynamic", "nms"):
            if getattr(self.args, option) and not getattr(kind, option):
                supported = ", ".join(name for name, other in export_formats().items() if getattr(other, option))
                raise OptionError(f"{option} is not supported by format={kind.name}; supported: {supported}.")
        if self.args.int8 and self.args.half:
            raise OptionError("int8 and half: choose one of them; an int8 export keeps its head in float32")
        if self.args.int8 and self.args.data is None:
            raise OptionError("int8: needs images of the data set to calibrate; add data=my.yaml (its split= is used).")
        if self.args.end2end is not None and kind.load is None:
            raise OptionError(f"end2end: format={kind.name} keeps all weights; choose the branch where they are used")
        unread = [name for name in ("opset", "simplify", "workspace") if getattr(self.args, name)]
        if unread := [name for name in unread if name not in kind.reads]:
            LOGGER.warning(f"export: without effect with format={kind.name}: {', '.join(unread)}")
        if missing := [name for name in shlex.split(kind.requires) if not is_installed(name)]:
            names = " ".join(f'"{name}"' for name in missing)
            raise MissingPackageError(
                f"format={kind.name}: export and comparison need packages that are not installed: pip install {names}"
                '; for the packages of all formats but engine, in the repository: pip install -e ".[export]"'
            )
        return kind

    def _make_spec(self, model: nn.Module, kind: ExportFormat, source: str) -> ExportSpec:
        options = self.args
        device = select_device(options.device) if kind.needs_gpu else torch.device("cpu")
        network = copy.deepcopy(model).to(device).float().eval().requires_grad_(False)
        if kind.load is not None:
            network = for_inference(network, rewrite=options.accelerate)
            network = network if options.accelerate else network.fuse()
        head, stride, nms = model.model[-1], image_stride(model), None
        if options.nms:
            if head.layout != ANCHORS:
                hint = "; export its other branch, end2end=False" if head.layout == END2END else ""
                raise OptionError(f"nms: the output of {type(head).__name__} needs no NMS{hint}")
            limits = {"iou": options.iou, "max_det": options.max_det, "agnostic": options.agnostic_nms}
            nms = Suppression(conf=EXPORTED_CONF if options.conf is None else options.conf, **limits)
        size = check_imgsz(options.imgsz, stride)
        size = (size, size) if isinstance(size, int) else tuple(size)
        precision = "int8" if options.int8 else "float16" if options.half else "float32"
        metadata = Metadata(
            names=dict(model.names), imgsz=size, batch=options.batch, dynamic=options.dynamic, stride=stride,
            precision=precision, data=options.data if isinstance(options.data, str) else None,
            model_yaml=model.yaml if kind.load is None else None, layout=END2END if nms else head.layout,
            head=type(head).__name__, resize=head.resize, nms=nms is not None,
        )  # fmt: skip
        if options.dynamic:
            _check_positions(network, size)
        path = Path(source)
        folder = Path() if path.suffix.lower() in (".yaml", ".yml") else path.parent
        file = folder / f"{path.stem}{MARKS[precision]}{kind.suffixes[0]}"
        images = calibration_images(options.data, options.split, size, options.batch) if options.int8 else None
        return ExportSpec(network, options, metadata, file, images, nms)

    def _compare(self, spec: ExportSpec, kind: ExportFormat) -> None:
        """Run both on the same images. Raise ExportMismatchError outside the bounds of the precision."""
        device = next(spec.network.parameters()).device
        if kind.load is None:
            modules = spec.network.yaml.get("modules")
            exported = load_network(load_model_weights(self.file), type(spec.network), modules, self.file).to(device)
        else:
            exported = ExportedModel(self.file, device)
        images = drawn_images(COMPARED, spec.metadata.imgsz)
        if spec.calibration is not None:
            images = spec.calibration[:COMPARED]
        with torch.no_grad():
            expected, found = (network(images.to(device))[0] for network in (spec.network, exported))
            expected = spec.nms(expected) if spec.nms else expected
        precision, layout = spec.metadata.precision, spec.metadata.layout
        size = spec.metadata.imgsz if layout in (ANCHORS, END2END) else None
        self.difference = compare(expected, found, precision, layout, size)
        LOGGER.info(f"PyTorch and {self.file.name} on {counted(len(images), 'image')}: {self.difference}")
        if not self.difference.within(BOUNDS[precision]):
            raise ExportMismatchError(
                f"{self.file}: differs from PyTorch: {self.difference}; expected {BOUNDS[precision]} for {precision}. "
                "The file is kept; validate it (yolo val) before use, or export in float32."
            )


def calibration_images(data: str | Mapping, split: str, size: tuple[int, int], batch: int) -> Tensor:
    """Load evenly spaced images of a split as (N, 3, H, W), RGB in 0..1, N a multiple of the batch.

    Raises:
        DataError: fewer readable images than `batch`.
    """
    config = load_dataset_config(data, (split,))
    files = list_images(config.splits[split], config.root)
    images = []
    for file in files[:: math.ceil(len(files) / CALIBRATED)]:
        try:
            images.append(stretch(read_image(file), size))
        except DataError as error:
            LOGGER.warning(f"skipped: {error}")
    count = len(images) // batch * batch
    if not count:
        raise DataError(f"{data}, {split}: {len(images)} readable images for int8, expected at least batch={batch}.")
    if count < FEW:
        LOGGER.warning(f"{data}, {split}: int8 is calibrated on {counted(count, 'image')}; use a hundred or more")
    return _to_tensor(images[:count])


def drawn_images(count: int, size: tuple[int, int]) -> Tensor:
    """Draw (count, 3, H, W) images of shapes, RGB in 0..1, always the same."""
    drawn = (draw_image(np.random.default_rng((0, i)), DRAWN_SIZE)[0] for i in range(count))
    return _to_tensor([stretch(image, size) for image in drawn])


def _to_tensor(images: list[np.ndarray]) -> Tensor:
    rgb = np.stack(images)[..., ::-1].transpose(0, 3, 1, 2)  # (N, H, W, 3) BGR -> (N, 3, H, W) RGB
    return torch.from_numpy(np.ascontiguousarray(rgb)).float() / 255


def _check_positions(network: nn.Module, size: tuple[int, int]) -> None:
    """Raise OptionError if the maps of images of `size` have fewer positions than queries, as tracing fixes both."""
    head, positions = network.model[-1], []
    count = getattr(head, "num_queries", 0)
    hook = head.register_forward_pre_hook(lambda _, inputs: positions.extend(x[0, 0].numel() for x in inputs[0]))
    with torch.no_grad():
        network(torch.zeros(1, 3, *size, device=next(network.parameters()).device))
    hook.remove()
    if sum(positions) < count:
        raise OptionError(
            f"dynamic: images of {size[0]}x{size[1]} have {sum(positions)} positions for {count} queries; "
            "export with a larger imgsz, or train with fewer queries="
        )


__getattr__ = public_names(__name__)
