"""A rewritten copy of a network for validation and prediction, beside the network, which can still be trained."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

PLAIN = frozenset((int, float, str, bool))


class InferenceCopy:
    """Holds the copy of the network that was asked for last, and makes it anew when that network has changed."""

    def __init__(self) -> None:
        self._state: list[Any] = []
        self._copy: nn.Module | None = None

    def __deepcopy__(self, memo: dict) -> InferenceCopy:
        return InferenceCopy()  # a copy of the network starts without one

    def __reduce__(self) -> tuple:
        return InferenceCopy, ()

    def of(self, network: nn.Module) -> nn.Module:
        """The copy, in eval; the network itself where it is rewritten already, or somebody has put hooks on its parts.

        A rewritten network lacks parts, whose hooks would not be called.
        """
        if network.fused or any(m._forward_hooks or m._forward_pre_hooks for m in network.modules()):
            return network
        state = state_of(network)
        if self._copy is None or state != self._state:
            self._copy = copy.deepcopy(network).eval().requires_grad_(False).fuse()
            self._state = state
        self._copy.names = network.names
        return self._copy


def state_of(network: nn.Module) -> list[Any]:
    """What differs after any change of weights (whose versions torch counts) or of plain settings of a module.

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
