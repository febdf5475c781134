"""torch.compile with a way back."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ultralytics.utils import LOGGER


def compiled(network: nn.Module) -> Compiled | nn.Module:
    """What calls `network` through torch.compile; an exported model, which has no weights here, comes back as it is."""
    if next(network.parameters(), None) is None:
        LOGGER.warning("compile=True: an exported model is run by its own runtime; there is nothing to compile")
        return network
    return Compiled(network)


class Compiled:
    """Calls a network through torch.compile. Where that fails it says why, and calls the network itself from then on.

    Compiling happens in the first call, and again for images of another size, and takes a minute or more.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        # The compiler's own random numbers are others than torch's, and a seed would not give the same run.
        self._call: Any = torch.compile(network, options={"fallback_random": True})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._call is self.network:
            return self.network(*args, **kwargs)
        try:
            return self._call(*args, **kwargs)
        except Exception as error:  # of any kind: an error that is not the compiler's comes again below
            result = self.network(*args, **kwargs)
            reason = next(iter(str(error).strip().splitlines()), "no message")
            LOGGER.warning(
                f"compile=True: torch.compile failed ({type(error).__name__}: {reason}); the run goes on without it. "
                "On a CPU it needs a C++ compiler, on a GPU Triton"
            )
            self._call = self.network
            return result
