"""RT-DETR as a network: the layers of a model file and one forward loop over them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ultralytics.cfg.model_yaml import load_model_yaml
from ultralytics.cfg.options import Options
from ultralytics.nn.accelerate.conv_bn import fuse
from ultralytics.nn.accelerate.graph import LayerGraph
from ultralytics.nn.head_protocol import by_level, can_augment, complete, multi_scale, resembles
from ultralytics.nn.modules.head import Detect, RTDETRDecoder
from ultralytics.nn.parser import TRACE_SIZE, build_layers, layer_numbers, layer_sources, unread_layers
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.files import increment_path, real_path
from ultralytics.utils.flops import ModelInfo, model_info
from ultralytics.utils.overrides import LOSS_PARTS, replaced
from ultralytics.utils.public import public, public_names
from ultralytics.utils.torch_utils import clock, initialize_weights

TABLE_WIDTH = 120  # columns
CELL, GAP = 128, 4  # pixels of a feature map on its page


class DetectionModel(nn.Module):
    """A network built from a model file.

    Attributes:
        model: the layers, nn.Sequential.
        save: numbers of the layers whose output later layers read.
        yaml: content of the model file as plain data, from which the same network can be built.
        names: class names by index.
        stride: strides of the maps that a dense head reads; for other heads (1,), the largest of the network.
        layer_shapes: output shapes of each layer for a TRACE_SIZE image, from a run on the meta device.
        fused: whether `fuse` was called; the parameters then differ from those of the model file.
        args: options of the training run, set by the trainer; None elsewhere.
    """

    fused, inplace, task, fp16, pt = False, True, "detect", False, True
    args: Options | None = None

    def __init__(
        self, cfg: str | Path | Mapping[str, Any] = "yolo26n.yaml", ch: int | None = None, nc: int | None = None,
        verbose: bool = False, overrides: Mapping[str, Any] | None = None,
    ):  # fmt: skip
        """Build the layers; raise ModelConfigError if the file or a row of it is wrong.

        Args:
            cfg: model file, its name, or its content.
            ch: channels of the images, instead of the file's (3 by default).
            nc: number of classes, instead of the file's.
            verbose: log the layer table.
            overrides: settings that replace the file's, such as `num_queries`, where not None; and folders of
                `modules`, which are added to the file's.
        """
        super().__init__()
        self.criterion: nn.Module | None = None  # built at the first loss
        spec = load_model_yaml(cfg)
        settings = {key: value for key, value in (overrides or {}).items() if value is not None}
        added = [str(real_path(folder)) for folder in settings.pop("modules", ())]
        gone = [folder for folder in spec.modules if spec.from_checkpoint and not os.path.isdir(folder)]
        if gone:
            LOGGER.warning(f"module folder {gone[0]}, recorded with the model, is gone; its place now: modules=FOLDER")
        folders = tuple(dict.fromkeys([*added, *(folder for folder in spec.modules if folder not in gone)]))
        spec = replace(spec, settings={**spec.settings, **settings}, modules=folders)
        self.nc, ch = nc or spec.nc or len(spec.names or ()) or 80, ch or spec.ch
        self.yaml = {**spec.source, **spec.settings, "nc": self.nc, "ch": ch}
        if folders:
            self.yaml["modules"] = list(folders)
        self.names = dict(spec.names or {i: str(i) for i in range(self.nc)})
        if len(self.names) != self.nc:  # names of the file, for other classes
            del self.yaml["names"]
            self.names = {i: str(i) for i in range(self.nc)}
        if spec.note:
            LOGGER.warning(spec.note)
        self.model, self.save, self.layer_shapes = build_layers(spec, self.nc, ch)
        for layer in self.model:
            if not getattr(layer, "keeps_norm", False):
                initialize_weights(layer, keep_outputs=bool(getattr(layer, "pretrained", None)))
        maps = [shape[2:] for shapes in self.layer_shapes[:-1] for shape in shapes if len(shape) == 4]
        sides = [min(side) if isinstance(side, tuple) else side for size in maps for side in size]
        self.stride = torch.tensor([TRACE_SIZE / min(sides)]) if sides else torch.tensor([1.0])
        head = self.model[-1]
        for ours in (RTDETRDecoder, Detect):
            if resembles(type(head), ours) and not isinstance(head, ours):
                complete(head, ours)
        if getattr(head, "takes_targets", True) is False:
            self._set_head_stride(head)
        if verbose:
            LOGGER.info(self.table())

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "criterion":  # a published loss, which is no module, may follow one
            self._modules.pop(name, None)
        super().__setattr__(name, value)

    def _set_head_stride(self, head: nn.Module) -> None:
        """Give a dense head the strides of its maps, and initialize its biases, which depend on them.

        These are the maps that it returns beside its predictions, if it does, else those that it reads.
        """
        graph = LayerGraph(self)
        heights = [shape[2] for shape in self.layer_shapes[-1] if len(shape) == 4]
        heights = heights or [graph.map_shape(number)[1] for number in layer_sources(head)]
        strides = [TRACE_SIZE / height for height in heights[: getattr(head, "nl", None)]]
        head.stride = self.stride = torch.tensor(strides, device="cpu")
        if hasattr(head, "bias_init"):
            head.bias_init()

    @property
    def layout(self) -> str:
        """Return the layout of the output in eval mode, see `head_protocol.py`."""
        return self.model[-1].layout

    @property
    def augmentable(self) -> bool:
        """Return whether the head has a branch for test-time augmentation, see `head_protocol.py`."""
        return getattr(self.model[-1], "augmentable", False)

    @property
    def end2end(self) -> bool:
        """Return whether predictions come from the head's one-to-one branch, without NMS. Can be set."""
        return getattr(self.model[-1], "end2end", False)

    @end2end.setter
    def end2end(self, on: bool) -> None:
        if not hasattr(self.model[-1], "end2end"):
            raise ModelConfigError(f"end2end={on}: the head {type(self.model[-1]).__name__} has no such branch")
        self.model[-1].end2end = on

    @property
    def max_det(self) -> int | None:
        """Return the largest number of detections that the one-to-one branch selects, if there is one. Can be set."""
        return self.model[-1].max_det if self.end2end else None

    @max_det.setter
    def max_det(self, count: int) -> None:
        self.model[-1].max_det = count

    def forward(self, x: Tensor | dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Return predictions for images (B, 3, H, W) in 0..1, or the loss of a batch of images and labels."""
        return self.loss(x, *args, **kwargs) if isinstance(x, dict) else self.predict(x, *args, **kwargs)

    def _run_layers(
        self, x: Tensor, batch: dict[str, Any] | None = None, hook: Callable[[nn.Module, Any], None] | None = None
    ) -> Any:
        """Run the layers in order; each reads the output of the one before, or those that its row names."""
        outputs: dict[int, Tensor] = {}  # by layer number, of layers that a later one reads
        for layer in self.model:
            # inputs
            if layer.f != -1:
                first = layer.i - layer.num_slots + 1  # negative sources count back from the layer's first number
                sources = layer.f if isinstance(layer.f, list) else [layer.f]
                inputs = [x if s == -1 else outputs[s if s >= 0 else first + s] for s in sources]
                x = inputs if isinstance(layer.f, list) else inputs[0]
            # forward; in training the head also gets the labels
            if batch is not None and layer is self.model[-1]:
                x = layer(x, batch)
            else:
                x = layer(*x) if layer.unpack_inputs else layer(x)
            if hook is not None:
                hook(layer, x)
            # several maps are right-aligned in the backbone's five numbers; the next layer's -1 is the last map
            if layer.num_slots > 1:
                outputs.update((layer.i - len(x) + 1 + n, level) for n, level in enumerate(x))
                x = x[-1]
            elif layer.i in self.save:
                outputs[layer.i] = x
        return x

    def predict(
        self, x: Tensor, profile: bool = False, visualize: str | Path | None = None, augment: bool = False,
        embed: list[int] | None = None, batch: dict[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        """Run the layers.

        Args:
            x: (B, 3, H, W) in 0..1.
            profile: log the milliseconds of every layer.
            visualize: folder for pictures of every layer's maps.
            augment: predict at three scales, see `multi_scale`; returns (y, None).
            embed: layer numbers; returns one vector per image, their maps averaged over positions and concatenated.
            batch: labels for the head, in training.
        """
        if embed is not None:
            return self._embed(x, set(embed))
        if augment and can_augment(self):
            return multi_scale(self._predict_once, x, self.stride), None
        return self._run_layers(x, batch) if batch else self._predict_once(x, profile, visualize)

    def _predict_once(self, x: Tensor, profile: bool = False, visualize: str | Path | None = None) -> Any:
        """Run the layers on images; a subclass of a script may override it."""

        def draw(layer: nn.Module, output: Any) -> None:
            for n, feature in enumerate(output if isinstance(output, list) else [output]):
                if isinstance(feature, Tensor) and feature.ndim == 4:
                    feature_visualization(feature, f"{layer.type}_{n}", layer.i, Path(visualize))

        def log(layer: nn.Module, output: Any) -> None:
            times.append(clock(x.device))
            LOGGER.info(f"{layer.i:>3}  {layer.type:<24}{1000 * (times[-1] - times[-2]):8.2f} ms")

        times = [clock(x.device)] if profile else []
        return self._run_layers(x, None, draw if visualize else log if profile else None)

    def is_fused(self) -> bool:
        """Return whether `fuse` was called."""
        return self.fused

    def _embed(self, x: Tensor, numbers: set[int]) -> tuple[Tensor, ...]:
        if unknown := numbers - {layer.i for layer in self.model[:-1]}:
            raise ModelConfigError(f"embed: no layer {min(unknown)}; the last before the head is {self.model[-2].i}")
        vectors: list[Tensor] = []

        def hook(layer: nn.Module, output: Any) -> None:
            if layer.i in numbers:
                last = output if isinstance(output, Tensor) else output[-1]
                vectors.append(last.mean((2, 3)))  # (B, C, H, W) -> (B, C)

        self._run_layers(x, None, hook)
        return torch.cat(vectors, 1).unbind(0)

    def init_criterion(self) -> nn.Module:
        """Build the loss of the head: with the gains of the run's options in training, else with the paper's.

        For YOLO it is what a script has assigned to `v8DetectionLoss` or, for two branches, `E2ELoss`; or a published
        loss, if the script has replaced a part of it, or `loss`, which may call it.
        """
        name = "E2ELoss" if hasattr(self.model[-1], "one2one_cv2") else "v8DetectionLoss"
        changed = type(self).loss is not DetectionModel.loss or any(map(replaced, (name, *LOSS_PARTS)))
        if isinstance(self.model[-1], Detect) and changed:
            return (replaced(name) or public(name))(self)
        return self.model[-1].build_criterion(self.args)

    def loss(self, batch: dict[str, Any], preds: Any = None) -> tuple[Tensor, Tensor]:
        """Compute the loss of a batch.

        Args:
            batch: img (B, 3, H, W) in 0..1; cls (N, 1), bboxes (N, 4) cx, cy, w, h in 0..1 and batch_idx (N,).
            preds: the network's output for these images; computed if None.

        Returns:
            The sum of all terms, and the logged terms, detached; see `build_criterion` in `head_protocol.py`.
        """
        self.criterion = self.criterion or self.init_criterion()
        head, img = self.model[-1], batch["img"]
        targets = {key: batch[key].to(img.device) for key in ("cls", "bboxes", "batch_idx")} | {"img": img}
        if head.takes_targets:
            counts = torch.bincount(batch["batch_idx"].long(), minlength=len(img))
            targets["gt_groups"] = counts.tolist()  # boxes per image
        if preds is None:
            preds = self.predict(img, batch=targets if head.takes_targets else None)
        raw = preds if self.training else preds[1]
        terms = self.criterion(raw if hasattr(self.criterion, "loss_items") else by_level(raw), targets)
        if isinstance(terms, tuple):  # of a published loss: (terms times images, items)
            total, items = terms
            return total.sum(), torch.stack([*items.values()]) if isinstance(items, Mapping) else items
        total = torch.stack(list(terms.values())).sum()
        if getattr(self.criterion, "sums_images", False):
            total = total * len(img)
        return total, self.criterion.loss_items(terms)

    def load(self, weights: Any) -> None:
        """Load the weights that match, and log a report; raise WeightsError if none does.

        Args:
            weights: a weights file, its content, a result of `read_weights`, or another network.
        """
        from ultralytics.nn.weights import load_weights

        load_weights(self, weights)

    def fuse(self, verbose: bool = False) -> DetectionModel:
        """Fold batch norms into convolutions and merge RepConv branches, in place; it cannot be trained afterwards."""
        if not self.fused:
            fuse(self)
            self.fused = True
        return self

    @property
    def backbone_layers(self) -> set[int]:
        """Indices in `model` of the layers that the file lists under `backbone`."""
        return {i for i, layer in enumerate(self.model) if layer.in_backbone}

    def info(self, detailed: bool = False, verbose: bool = True, imgsz: int = TRACE_SIZE) -> ModelInfo:
        """Count layers, parameters, gradients and GFLOPs at `imgsz`; warn about layers that nothing reads."""
        unread = unread_layers(list(map(layer_numbers, self.model)), list(map(layer_sources, self.model)))
        for position, text in unread:
            layer = self.model[position]
            LOGGER.warning(f"{layer.where}: layer {layer.i} {layer.row_module}: {text}")
        return model_info(self, detailed, verbose, imgsz)

    def table(self) -> str:
        """Return the layer table, and below it the arguments that were inferred, of modules without a plan."""
        lines = [f"{'':>3} {'from':>14} {'params':>11}  {'module':<20} {f'output at {TRACE_SIZE}':<16} arguments"]
        notes = []
        for layer, shapes in zip(self.model, self.layer_shapes, strict=True):
            maps = shapes if layer.num_slots > 1 else shapes[:1]  # of the head the predictions only
            shown = ", ".join("x".join(map(str, s[1:])) for s in maps)
            call = f"{f'{layer.row_repeats} x ' if layer.row_repeats > 1 else ''}({layer.arguments})"
            name = layer.type.rpartition(".")[2]
            start = f"{layer.i:>3} {layer.f!s:>14} {layer.np:>11,}  {name:<20} {shown:<16} "
            lines.append(start + shorten(call, max(TABLE_WIDTH - len(start), 20), placeholder=" ...)"))
            if layer.assumed:
                notes.append(f"  {layer.i} {name}: {layer.assumed}")
        if notes:
            lines.append("Arguments inferred from constructor signatures (use @register(plan) to make them explicit):")
        return "\n".join(lines + notes)


class RTDETRDetectionModel(DetectionModel):
    """RT-DETR (https://arxiv.org/abs/2304.08069).

    In eval mode a call returns (y, extras), y (B, queries, 4 + nc): boxes cx, cy, w, h in 0..1 and class probabilities.

    Examples:
        >>> model = RTDETRDetectionModel("rtdetr-r18.yaml", nc=3).eval()
        >>> y, extras = model(torch.zeros(1, 3, 128, 128))
        >>> y.shape
        torch.Size([1, 300, 7])
    """

    def __init__(self, cfg: str | Path | Mapping[str, Any] = "rtdetr-l.yaml", *args: Any, **kwargs: Any):
        super().__init__(cfg, *args, **kwargs)
        head = self.model[-1]
        if not resembles(type(head), RTDETRDecoder):
            raise ModelConfigError(f"{head.where}: the last layer of an RT-DETR is RTDETRDecoder, got {head.type}")


def parse_model(cfg: str | Path | Mapping[str, Any], ch: int = 3, nc: int | None = None) -> tuple[nn.Sequential, list]:
    """Return the layers of a model file, and the numbers of those that later ones read; see `nn/parser.py`.

    Examples:
        >>> layers, save = parse_model("rtdetr-r18.yaml")
        >>> len(layers), layers[0].arguments
        (27, 'c1=3, c2=32, k=3, s=2, p=None, bias=False, act=relu')
    """
    spec = load_model_yaml(cfg)
    return build_layers(spec, nc or spec.nc or 80, ch)[:2]


def feature_visualization(x: Tensor, module_type: str, stage: int, save_dir: str | Path, n: int = 32) -> Path | None:
    """Draw the first `n` channels of the first image of x (B, C, H, W), each scaled to its own range.

    Returns the path, `stage{stage}_{module_type}_features.png`, or None for maps of a single position.
    """
    from matplotlib import colormaps

    maps = x[0, :n].detach().float().cpu().numpy()  # (B, C, H, W) -> (n, H, W)
    if maps[0].size == 1:
        return None
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    pictures = colormaps["viridis"]((maps - low) / np.maximum(high - low, 1e-12), bytes=True)[..., :3]  # (n, H, W, 3)
    columns, (height, width) = min(8, len(maps)), maps.shape[1:]
    scale = CELL / max(height, width)
    cell_w, cell_h = max(1, round(width * scale)), max(1, round(height * scale))
    page = Image.new("RGB", (columns * (cell_w + GAP), math.ceil(len(maps) / columns) * (cell_h + GAP)), "white")
    for i, picture in enumerate(pictures):
        row, column = divmod(i, columns)
        cell = Image.fromarray(picture).resize((cell_w, cell_h), Image.Resampling.NEAREST)
        page.paste(cell, (column * (cell_w + GAP), row * (cell_h + GAP)))
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    path = increment_path(Path(save_dir, f"stage{stage}_{module_type.rsplit('.', 1)[-1]}_features.png"))
    page.save(path)
    return path


__getattr__ = public_names(__name__)
