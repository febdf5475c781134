"""What `fuse()` does: rewrites of a network for inference that leave its output as it is, up to rounding.

A module merges what it alone knows in its method `fold()`; a rewrite that spans several layers is a class here.
"""

from __future__ import annotations

import inspect

import torch
from torch import nn


def optimise(network: nn.Module) -> None:
    """Rewrite a network in eval; it cannot be trained afterwards."""
    from ultralytics.nn.accelerate.conv_bn import FoldNormalisations
    from ultralytics.nn.accelerate.folded_decoder import FoldDecoder
    from ultralytics.nn.accelerate.graph import LayerGraph
    from ultralytics.nn.accelerate.pointwise import JoinEntries

    for module in list(network.modules()):
        # Some modules keep an nn.Fold under this name.
        if inspect.isroutine(getattr(type(module), "fold", None)):
            module.fold()
    graph = LayerGraph(network)
    for rewrite in (FoldNormalisations(), JoinEntries(), FoldDecoder()):
        rewrite(graph)
    graph.write_to(network)
    network.to(memory_format=torch.channels_last)  # 1x1 convolutions and the decoder read positions as rows
