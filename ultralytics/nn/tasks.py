"""Detection models built from a model file, with one forward loop for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.cfg.model_yaml import SETTINGS, load_model_yaml
from ultralytics.nn.modules.head import RTDETRDecoder
from ultralytics.nn.parser import TRACE_SIZE, build_layers, layer_numbers, layer_sources, unread_layers
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import ModelConfigError, did_you_mean
from ultralytics.utils.torch_utils import initialize_weights

LayerHook = Callable[[nn.Module, Any], None]


def parse_model(cfg: str | Path | Mapping[str, Any], ch: int = 3, nc: int | None = None) -> tuple[nn.Sequential, list]:
    """Layers of a model file, and the numbers of those that later ones read. The work is done in `nn/build.py`."""
    spec = load_model_yaml(cfg)
    built = build_layers(spec, nc or spec.nc or 80, ch)
    return built.layers, built.save


class DetectionModel(nn.Module):
    """A model from a YAML file.

    Attributes:
        model: the layers, nn.Sequential.
        save: numbers of the layers whose output is kept for later ones.
        yaml: content of the model file as plain data, which builds the same model again.
        names: class names by index.
        stride: (1,) largest stride of the model's maps.
        layer_shapes: output shapes of each layer for a TRACE_SIZE image, from a run on the meta device.
        fused: whether `fuse` was called; the parameters are then not those that the model file builds.
    """

    fused = False

    def __init__(
        self,
        cfg: str | Path | Mapping[str, Any] = "rtdetr-l.yaml",
        ch: int | None = None,
        nc: int | None = None,
        verbose: bool = False,
        overrides: Mapping[str, Any] | None = None,
    ):
        """Build.

        Args:
            cfg: model file, its name, or its content.
            ch: channels of the images, in place of the file's (3 where it says nothing).
            nc: number of classes, in place of the file's.
            verbose: log the layer table.
            overrides: top-level settings in place of the file's, such as `num_queries`; None leaves the file's. The
                folders of `modules` are added to the file's.

        Raises:
            ModelConfigError: the file or a row of it is wrong.
        """
        super().__init__()
        spec = load_model_yaml(cfg)
        overrides = _checked(overrides or {})
        added = [str(Path(folder).expanduser().resolve()) for folder in overrides.pop("modules", ())]
        folders = tuple(dict.fromkeys([*added, *_present(spec.modules, from_checkpoint=isinstance(cfg, Mapping))]))
        spec = replace(spec, settings={**spec.settings, **overrides}, modules=folders)
        self.nc, ch = nc or spec.nc or 80, ch or spec.ch
        self.yaml = {**spec.source, **spec.settings, "nc": self.nc, "ch": ch}
        if folders:
            self.yaml["modules"] = list(folders)
        self.names = dict(spec.names or {i: str(i) for i in range(self.nc)})
        built = build_layers(spec, self.nc, ch)
        self.model, self.save, self.layer_shapes = built.layers, built.save, built.shapes
        for layer in self.model:
            if not getattr(layer, "keeps_norm", False):
                initialize_weights(layer, keep_outputs=bool(getattr(layer, "pretrained", None)))
        sides = [min(shape[2:]) for shapes in self.layer_shapes[:-1] for shape in shapes if len(shape) == 4]
        self.stride = torch.tensor([TRACE_SIZE / min(sides)]) if sides else torch.tensor([1.0])
        if verbose:
            LOGGER.info(self.table())

    @property
    def backbone_layers(self) -> set[int]:
        """Positions in `model` of the layers that the file lists under `backbone`."""
        return {i for i, layer in enumerate(self.model) if layer.in_backbone}

    def forward(self, x: Tensor | dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Images (B, 3, H, W) in 0..1 -> predictions; a batch of images and labels -> its loss."""
        if isinstance(x, dict):
            return self.loss(x, *args, **kwargs)
        return self.predict(x, *args, **kwargs)

    def predict(
        self,
        x: Tensor,
        visualize: str | Path | None = None,
        embed: list[int] | None = None,
        batch: dict[str, Any] | None = None,
    ) -> Any:
        """Run the layers.

        Args:
            x: (B, 3, H, W) in 0..1.
            visualize: folder for pictures of every layer's maps.
            embed: layer numbers; returns one vector per image, their maps averaged over positions and joined.
            batch: labels for the head while training.
        """
        if embed is not None:
            return self._embed(x, embed)
        hook = None
        if visualize:
            from ultralytics.utils.plotting import feature_visualization

            def hook(layer: nn.Module, output: Any) -> None:
                for n, feature in enumerate(output if isinstance(output, list) else [output]):
                    if isinstance(feature, Tensor) and feature.ndim == 4:
                        feature_visualization(feature, f"{layer.type}_{n}", layer.i, Path(visualize))

        return self._run(x, batch, hook)

    def _run(self, x: Tensor, batch: dict[str, Any] | None = None, hook: LayerHook | None = None) -> Any:
        """The forward loop: each layer reads the last output, or those it names; `hook` sees every output."""
        outputs: dict[int, Tensor] = {}
        head = self.model[-1]
        for layer in self.model:
            if layer.f != -1:
                x = _gather(layer, x, outputs)
            if layer is head and batch is not None:
                x = layer(x, batch)
            else:
                x = layer(*x) if layer.unpack_inputs else layer(x)
            if hook is not None:
                hook(layer, x)
            if layer.num_slots == 1:
                if layer.i in self.save:
                    outputs[layer.i] = x
                continue
            # Several maps stand right-aligned in the layer's slots; the next row's -1 is the last of them.
            outputs.update((layer.i - len(x) + 1 + n, level) for n, level in enumerate(x))
            x = x[-1]
        return x

    def _embed(self, x: Tensor, layers: list[int]) -> tuple[Tensor, ...]:
        vectors: list[Tensor] = []
        wanted = set(layers)
        unknown = wanted - {layer.i for layer in self.model[:-1]}
        if unknown:
            raise ModelConfigError(
                f"embed: no layer {min(unknown)}; layers before the head go up to {self.model[-2].i}"
            )

        def hook(layer: nn.Module, output: Any) -> None:
            if layer.i in wanted:
                last = output[-1] if layer.num_slots > 1 else output
                vectors.append(last.mean((2, 3)))  # (B, C, H, W) -> (B, C)

        self._run(x, None, hook)
        return torch.cat(vectors, 1).unbind(0)

    def loss(self, batch: dict[str, Any], preds: Any = None) -> tuple[Tensor, Tensor]:
        """Loss of a batch, by the kind of model."""
        raise NotImplementedError

    def load(self, weights: Any) -> None:
        """Load whatever fits, and log a report.

        Args:
            weights: a weights file, what `read_weights` read of one, or another network.

        Raises:
            WeightsError: the file cannot be read, or nothing in it fits.
        """
        from ultralytics.nn.weights import Weights, known_names, load_weights

        if isinstance(weights, nn.Module):
            weights = Weights(weights.state_dict(), type(weights).__name__, known_names(weights.names))
        load_weights(self, weights)

    def fuse(self, verbose: bool = False) -> DetectionModel:
        """Rewrite the network for inference, see `nn/optimise`. Exact up to rounding; not to be trained afterwards."""
        from ultralytics.nn.accelerate import optimise

        if not self.fused:
            optimise(self)
        self.fused = True
        return self

    def info(self, imgsz: int = TRACE_SIZE, detailed: bool = False, verbose: bool = True) -> tuple:
        """Layers, parameters, those with a gradient, and GFLOPs at `imgsz`; see `utils.flops.model_info`."""
        from ultralytics.utils.flops import model_info

        read = unread_layers(list(map(layer_numbers, self.model)), list(map(layer_sources, self.model)))
        for position, text in read:
            layer = self.model[position]
            LOGGER.warning(f"{layer.where}: layer {layer.i} {layer.row_module}: {text}")
        return model_info(self, imgsz=imgsz, detailed=detailed, verbose=verbose)

    def table(self) -> str:
        """The layer table: number, what it reads, parameters, module, output shapes and constructor arguments.

        Below it stands how the arguments of modules without a plan were worked out.
        """
        lines = [f"{'':>3} {'from':>14} {'params':>11}  {'module':<52} {'output':<16} arguments"]
        notes = []
        for layer, shapes in zip(self.model, self.layer_shapes, strict=True):
            maps = shapes if layer.num_slots > 1 else shapes[:1]  # of the head the predictions only
            shown = ", ".join("x".join(map(str, s[1:])) for s in maps)
            copies = f"{layer.repeats} x " if layer.repeats > 1 else ""
            call = f"{copies}({layer.arguments})"
            lines.append(f"{layer.i:>3} {layer.f!s:>14} {layer.np:>11,}  {layer.type:<52} {shown:<16} {call}")
            if layer.assumed:
                notes.append(f"  {layer.i} {layer.type.rpartition('.')[2]}: {layer.assumed}")
        if notes:
            lines += ["Arguments worked out from signatures (a plan, @register(...), says it for sure):", *notes]
        return "\n".join(lines)


class RTDETRDetectionModel(DetectionModel):
    """RT-DETR. In eval a call returns (y, extras), y (B, queries, 4 + nc): boxes and class probabilities."""

    def __init__(
        self,
        cfg: Any = "rtdetr-l.yaml",
        ch: int | None = None,
        nc: int | None = None,
        verbose: bool = False,
        **kwargs: Any,
    ):
        super().__init__(cfg, ch, nc, verbose, **kwargs)
        self.criterion: nn.Module | None = None  # made at the first loss
        if not isinstance(self.model[-1], RTDETRDecoder):
            last = self.model[-1]
            raise ModelConfigError(f"{last.where}: the last layer of an RT-DETR is RTDETRDecoder, got {last.type}")
        if self.model[-1].nl < 3 and verbose:
            LOGGER.warning(
                f"{self.model[-1].where}: layer {self.model[-1].i} RTDETRDecoder gets {self.model[-1].nl} maps; "
                "RT-DETR has three, at strides 8, 16 and 32: [[a, b, c], 1, RTDETRDecoder, ...]"
            )

    def init_criterion(self) -> nn.Module:
        """The loss with the paper's gains; a trainer sets `criterion` to one with the gains of its options."""
        from ultralytics.losses.detr import RTDETRDetectionLoss

        return RTDETRDetectionLoss(nc=self.nc)

    def loss(self, batch: dict[str, Any], preds: Any = None) -> tuple[Tensor, Tensor]:
        """Loss of a batch.

        Args:
            batch: img (B, 3, H, W) in 0..1; cls (N, 1), bboxes (N, 4) cx, cy, w, h in 0..1 and batch_idx (N,).
            preds: what the model returned for these images; computed where it is None.

        Returns:
            The sum of all terms, and the last decoder layer's (giou, class, l1), detached.
        """
        if self.criterion is None:
            self.criterion = self.init_criterion()
        img = batch["img"]
        counts = torch.bincount(batch["batch_idx"].long(), minlength=len(img)).tolist()
        targets = {
            "cls": batch["cls"].to(img.device, torch.long).view(-1),
            "bboxes": batch["bboxes"].to(img.device),
            "gt_groups": counts,
        }
        preds = self.predict(img, batch=targets) if preds is None else preds
        dec_bboxes, dec_scores, enc_bboxes, enc_scores, dn_meta, *dense = preds if self.training else preds[1]
        dn_bboxes = dn_scores = None
        if dn_meta is not None:
            dn_bboxes, dec_bboxes = dec_bboxes.split(dn_meta["dn_num_split"], 2)
            dn_scores, dec_scores = dec_scores.split(dn_meta["dn_num_split"], 2)
        boxes = torch.cat((enc_bboxes[None], dec_bboxes))  # (1 + layers, B, Q, 4)
        scores = torch.cat((enc_scores[None], dec_scores))
        terms = self.criterion((boxes, scores), targets, dn_bboxes, dn_scores, dn_meta, *dense)
        return torch.stack(list(terms.values())).sum(), self.criterion.loss_items(terms)


def _checked(overrides: Mapping[str, Any]) -> dict[str, Any]:
    for key in overrides:
        if key not in (*SETTINGS, "modules"):
            raise ModelConfigError(f"unknown model setting {key!r}{did_you_mean(key, SETTINGS)}")
    return {key: value for key, value in overrides.items() if value is not None}


def _gather(layer: nn.Module, x: Tensor, outputs: Mapping[int, Tensor]) -> Tensor | list[Tensor]:
    """Inputs of a layer; negative sources count back from its own first number."""
    first = layer.i - layer.num_slots + 1
    sources = layer.f if isinstance(layer.f, list) else [layer.f]
    inputs = [x if s == -1 else outputs[s if s >= 0 else first + s] for s in sources]
    return inputs if isinstance(layer.f, list) else inputs[0]


def _present(folders: Sequence[str], from_checkpoint: bool) -> list[str]:
    """Module folders that a model file names; of those that weights have recorded, the ones that are still there."""
    if from_checkpoint and (gone := [folder for folder in folders if not Path(folder).is_dir()]):
        LOGGER.warning(f"module folder {gone[0]}, recorded with the model, is gone; where it is now: modules=FOLDER")
        return [folder for folder in folders if folder not in gone]
    return list(folders)
