"""What each row of a model is for, under the names that other code bases have for the same part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn


def row_prefixes(model: nn.Module) -> Mapping[str, str]:
    """Start of the parameter names of each part, such as {'layer1': 'model.4', 'lateral 0': 'model.10', ...}.

    The parts are told apart by the kind of their row and counted in the order of the rows, so that rows of other kinds
    may stand between them:

        conv1_1 ..    convolutions before the first stage (of ResNet-vd); `stem` is ResNet's 7x7 convolution
        layer1 ..     stages of the backbone; `res_layers 0` .. are the same
        projection N  1x1 convolution without activation that projects map N, P3 is 0
        lateral N, downsample N, fpn N, pan N, attention N   of the hybrid encoder
        decoder       the last row
    """
    return dict(_parts(model))


def _parts(model: nn.Module) -> Iterator[tuple[str, str]]:
    backbone = [(f"model.{i}", layer) for i, layer in enumerate(model.model) if layer.in_backbone]
    head = [(f"model.{i}", layer) for i, layer in enumerate(model.model) if not layer.in_backbone]
    yield from _resnet(backbone)
    yield from _encoder(head)
    if head and _kind(head[-1][1]) == "RTDETRDecoder":
        yield "decoder", head[-1][0]


def _resnet(rows: list[tuple[str, nn.Module]]) -> Iterator[tuple[str, str]]:
    stages = [(prefix, layer) for prefix, layer in rows if _kind(layer) in ("Blocks", "ResNetLayer")]
    if not stages:
        return
    first = stages[0]
    if _kind(first[1]) == "ResNetLayer" and isinstance(first[1].layer[-1], nn.MaxPool2d):
        yield "stem", first[0]
        stages = stages[1:]
    before = rows[: rows.index(first)]
    convolutions = [prefix for prefix, layer in before if _kind(layer) == "ConvNormLayer"]
    yield from ((f"conv1_{n}", prefix) for n, prefix in enumerate(convolutions, 1))
    for n, (prefix, _) in enumerate(stages):
        yield f"layer{n + 1}", prefix
        yield f"res_layers {n}", prefix


def _encoder(rows: list[tuple[str, nn.Module]]) -> Iterator[tuple[str, str]]:
    found: dict[str, list[str]] = {"projection": [], "lateral": [], "downsample": [], "attention": [], "fusion": []}
    for prefix, layer in rows:
        part = _encoder_part(layer)
        if part:
            found[part].append(prefix)
    fusion, half = found.pop("fusion"), len(found["downsample"])
    if len(fusion) == 2 * half:  # from coarse to fine, then back
        found["fpn"], found["pan"] = fusion[:half], fusion[half:]
    found["projection"].reverse()  # the coarsest map, P5, is projected first
    for part, prefixes in found.items():
        yield from ((f"{part} {n}", prefix) for n, prefix in enumerate(prefixes))


def _encoder_part(layer: nn.Module) -> str | None:
    kind = _kind(layer)
    if kind == "Conv":
        if layer.conv.kernel_size == (1, 1):
            return "projection" if isinstance(layer.act, nn.Identity) else "lateral"
        return "downsample" if layer.conv.stride == (2, 2) else None
    return {"AIFI": "attention", "RepC3": "fusion"}.get(kind)


def _kind(layer: nn.Module) -> str:
    return layer.type.rpartition(".")[2]
