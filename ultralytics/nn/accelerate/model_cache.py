"""Cache of the rewritten copies of a network, kept with the network, which can still be trained."""

from __future__ import annotations

import copy
from collections.abc import Callable
from threading import Lock
from typing import Any

import torch
from torch import nn

from ultralytics.utils.torch_utils import SINGLE_IMAGE_HOOKS, check_weights

PLAIN = frozenset((int, float, str, bool))


class ModelCache:
    """Hold one rewritten copy of a network per device and renew them after the network has changed.

    Threads may share it. Copies and pickles of the network start with an empty cache.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._state: list[Any] = []
        self._copies: dict[torch.device, nn.Module] = {}

    def __reduce__(self) -> tuple[type[ModelCache], tuple[()]]:
        return ModelCache, ()

    def get(self, network: nn.Module, device: torch.device, rewrite: Callable[[nn.Module], nn.Module]) -> nn.Module:
        """Return the copy that `rewrite` made of the network as it is now, on `device`."""
        with self._lock:
            state = state_of(network)
            if state != self._state:
                self._state, self._copies = state, {}
            if device not in self._copies:
                self._copies[device] = rewrite(copy.deepcopy(network)).to(device)
            return self._copies[device]


def check_finite(network: nn.Module) -> None:
    """Raise WeightsError for weights that are NaN or infinite. Unchanged weights are checked once."""
    if (state := state_of(network)) != vars(network).get("_finite_state"):
        check_weights(network.state_dict(), "model")
        vars(network)["_finite_state"] = state


def has_hooks(network: nn.Module) -> bool:
    """Check for forward hooks, which a rewritten network, lacking some modules, would not call."""
    hooks = (h for m in network.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values()))
    return any(hook not in SINGLE_IMAGE_HOOKS for hook in hooks)


def state_of(network: nn.Module) -> list[Any]:
    """Return a list that differs after any change of weights (torch counts their versions) or of plain settings.

    One walk over the modules: it is done before every prediction.
    """
    state: list[Any] = []
    for module in network.modules():
        held = vars(module)
        state.append(id(module))
        for tensor in (*held["_parameters"].values(), *held["_buffers"].values()):
            if tensor is not None:
                state.append((id(tensor), tensor.data_ptr(), tensor._version, tensor.dtype, tensor.device))
        state += [item for item in held.items() if type(item[1]) in PLAIN and item[0] != "training"]
    return state
