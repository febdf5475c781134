"""Convolutions of oneDNN for inference on x86 processors, with weights that are reordered once.

`nn.Conv2d` reorders its weights in every call, and with one thread computes 1x1 convolutions with MKL. The operator is
the one that torch.compile uses, torch.ops.mkldnn._convolution_pointwise.
"""

import platform
from typing import Any

import torch
from torch import Tensor, nn


class PackedConv2d(nn.Conv2d):
    """`nn.Conv2d`; the weights of `state_dict` stay as they are."""

    plain, label = nn.Conv2d, "convolutions with packed weights"

    @staticmethod
    def applies(module: nn.Conv2d) -> bool:
        """Check for float32 weights on a processor that has the operator."""
        plain = module.padding_mode == "zeros" and not isinstance(module.padding, str)
        return plain and module.weight.is_cpu and module.weight.dtype is torch.float32 and has_operator()

    def forward(self, x: Tensor) -> Tensor:
        recorded = torch.jit.is_tracing() or torch.compiler.is_compiling() or torch.is_grad_enabled()
        if recorded or not x.is_cpu or x.dtype is not torch.float32 or x.ndim != 4 or x.numel() == 0:
            return super().forward(x)
        settings = (self.padding, self.stride, self.dilation, self.groups)
        key = self.weight.data_ptr(), self.weight._version
        if (packed := vars(self).get("_packed", (None, None)))[0] != key:
            reordered = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *settings, x.shape)
            packed = vars(self)["_packed"] = key, reordered
        return torch.ops.mkldnn._convolution_pointwise(x, packed[1], self.bias, *settings, "none", [], "")

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the packed weights, which copies and pickles make again."""
        return {name: value for name, value in vars(self).items() if name != "_packed"}


def has_operator() -> bool:
    """Check for a torch with oneDNN on x86."""
    x86 = platform.machine() in ("x86_64", "AMD64")
    return x86 and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
