"""Speed-ups from outside: every one computes what the plain classes compute, and `accelerate=False` leaves all out.

`for_training` replaces classes of a network in place, `for_inference` gives a rewritten copy, and `restore` undoes
`for_training`. The names in `state_dict` never change in a network that is trained.
"""

from __future__ import annotations

import inspect

import torch
from torch import nn

from ultralytics.nn.accelerate.host_memory import prepare_host_memory


def for_training(network: nn.Module) -> list[str]:
    """Replace classes of `network` by faster ones, in place; return what was applied, for the log."""
    return keep_host_memory(next(network.parameters()).device)


def keep_host_memory(device: torch.device) -> list[str]:
    """Set up malloc for computing on the CPU; return what was applied, for the log."""
    return ["freed memory kept"] if device.type == "cpu" and prepare_host_memory()[0] else []


def restore(network: nn.Module) -> nn.Module:
    """Undo `for_training`, in place; return `network`."""
    return network


def for_inference(network: nn.Module, device: torch.device | None = None) -> nn.Module:
    """Return a copy of `network` in eval mode that is rewritten for inference, on `device` (default: where it is).

    The copy is cached with the network, and made again after its weights or settings have changed. Networks that
    cannot be rewritten (exported models, networks with hooks on their layers) are returned as they are.
    """
    from ultralytics.nn.accelerate.model_cache import InferenceCopy

    if getattr(network, "layer_shapes", None) is None or network.fused:
        return network
    keep_host_memory(next(network.parameters()).device if device is None else device)
    cache = vars(network).setdefault("_inference", InferenceCopy())
    copy = cache.of(network)
    return copy if device is None or copy is network else copy.to(device)


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
