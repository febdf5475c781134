"""A network as a graph of layers that can be replaced and removed."""

from typing import Any

import torch
from torch import nn

from ultralytics.nn.parser import TRACE_SIZE, layer_numbers, layer_sources
from ultralytics.utils.flops import example


class LayerGraph:
    """Layers in the order of the forward pass, and the numbers of the maps that each reads; -1 is the image."""

    def __init__(self, network: nn.Module) -> None:
        self.layers: list[nn.Module] = list(network.model)
        self.channels = network.yaml["ch"]
        self.shapes = dict(zip(self.layers, network.layer_shapes, strict=True))
        self.sources: dict[nn.Module, list[int]] = {layer: list(layer_sources(layer)) for layer in self.layers}

    def producer(self, number: int) -> nn.Module | None:
        """Return the layer that produces map `number`; None for the image."""
        return next((layer for layer in self.layers if number in layer_numbers(layer)), None)

    def map_shape(self, number: int) -> tuple[int, ...]:
        """Return (C, H, W) of map `number` at the traced size, of the image for -1."""
        layer = self.producer(number)
        if layer is None:
            return (self.channels, TRACE_SIZE, TRACE_SIZE)
        return self.shapes[layer][number - layer.i - 1 if layer.num_slots > 1 else 0][1:]

    def example_maps(self, layer: nn.Module, images: int, part: int = 1) -> list[Any]:
        """Return what `layer` reads: zeros for a number of images, of 1/`part` of the traced size."""
        like, maps = next(layer.parameters(), torch.empty(0)), map(self.map_shape, self.sources[layer])

        def side(full: Any) -> Any:
            return tuple(map(side, full)) if isinstance(full, tuple) else max(full // part, 1)

        return [example((images, channels, side(h), side(w)), like.new_zeros) for channels, h, w in maps]

    def example_input(self, layer: nn.Module, images: int, part: int = 1) -> tuple[Any, ...]:
        """Return arguments for a call of `layer`: zeros for a number of images, of 1/`part` of the traced size."""
        maps = self.example_maps(layer, images, part)
        if not isinstance(layer.f, list):
            return (maps[0],)
        return tuple(maps) if layer.unpack_inputs else (maps,)

    def reads_once(self, number: int) -> bool:
        return sum(read.count(number) for read in self.sources.values()) == 1

    def replace(self, old: nn.Module, new: nn.Module, sources: list[int]) -> None:
        """Replace `old` by `new`, which takes a list of maps and keeps the number."""
        vars(new).update({**vars(old), **vars(new)})  # what the parser added
        vars(new).pop("forward", None)  # of a block that chooses one in its constructor
        new.f, new.unpack_inputs = sources, False
        self.layers[self.layers.index(old)] = new
        self.sources[new], self.shapes[new] = sources, self.shapes[old]
        del self.sources[old]

    def remove(self, layer: nn.Module) -> None:
        """Remove a layer that no other layer reads."""
        self.layers.remove(layer)
        del self.sources[layer]

    def write_to(self, network: nn.Module) -> None:
        before = -1  # output of the previous layer: the loop passes it on without storing it
        kept = set()
        for layer in self.layers:
            read = [-1 if number == before else number for number in self.sources[layer]]
            kept.update(number for number in read if number >= 0)
            layer.f = read if isinstance(layer.f, list) else read[0]
            before = layer.i
        network.model = nn.Sequential(*self.layers)
        network.save = sorted(kept)
        network.layer_shapes = [self.shapes[layer] for layer in self.layers]
