"""ImageNet weights of a backbone, through the loaders and the caches of timm and torchvision.

Backbones with a method `imagenet_weights` provide them; ResNets made of rows are found by their blocks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from ultralytics.nn.weights.read import Weights, read_weights
from ultralytics.utils.errors import WeightsError
from ultralytics.utils.files import first_line
from ultralytics.utils.settings import SETTINGS

IMAGENET = "imagenet"  # in place of a file
RESNETS = {  # timm's name by the class and the number of blocks
    ("BasicBlock", 8): "resnet18d", ("BasicBlock", 16): "resnet34d", ("BottleNeck", 16): "resnet50d",
    ("BottleNeck", 33): "resnet101d", ("ResNetBlock", 16): "resnet50", ("ResNetBlock", 33): "resnet101",
}  # fmt: skip


def imagenet_weights(model: nn.Module) -> Weights:
    """Return ImageNet weights for the backbone of a detection model. Raise WeightsError if none are known."""
    layers = [model.model[index] for index in model.backbone_layers]
    for layer in layers:
        if hasattr(layer, "imagenet_weights"):
            return layer.imagenet_weights()
    parts = [type(part).__name__ for layer in layers for part in layer.modules()]
    for (kind, count), name in RESNETS.items():
        if parts.count(kind) == count:
            return timm_weights(name)
    kinds = ", ".join(dict.fromkeys(layer.type.rpartition(".")[2] for layer in layers))
    raise WeightsError(
        f"backbone_weights={IMAGENET}: no published ImageNet weights are known for a backbone of {kinds}; use a file"
    )


def timm_weights(name: str, **options: object) -> Weights:
    """Return timm's pretrained weights of a network, which is built with `options`; see `timm_file`."""
    import timm

    if file := timm_file(name):
        return read_weights(file)
    with explained_download(name):
        return Weights(timm.create_model(name, pretrained=True, **options).state_dict(), f"{name} of timm")


def timm_file(name: str) -> Path | None:
    """Return the file of timm's weights that was saved by hand, as the error of a failed download proposes."""
    file = _timm_source(name)[1]
    return file if file.is_file() else None


def _timm_source(name: str) -> tuple[str, Path]:
    """Return the address of timm's default weights of a network, and where to save them."""
    import timm

    source = timm.get_pretrained_cfg(name)
    if source is None or not source.has_weights:
        raise WeightsError(f"{name}: timm has no pretrained weights of this network; use a file, or another network")
    address = f"https://huggingface.co/{source.hf_hub_id}/resolve/main/model.safetensors"
    return address, Path(SETTINGS["weights_dir"], f"{source.architecture}.{source.tag}.safetensors")


@contextmanager
def explained_download(name: str, url: str | None = None) -> Iterator[None]:
    """Raise WeightsError, with the file to fetch and its place, if a download in the block fails.

    With `url` it is a file of torchvision, otherwise one of timm.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        cache = Path(torch.hub.get_dir(), "checkpoints")
        address, file = (url, cache / url.rpartition("/")[2]) if url else _timm_source(name)
        raise WeightsError(
            f"{name}: its weights cannot be downloaded ({first_line(error)[:150]}); fetch {address} and save it "
            f"as {file}"
        ) from error
