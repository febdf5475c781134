import copy
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.nn.accelerate import for_inference
from ultralytics.nn.tasks import RTDETRDetectionModel


@torch.no_grad()
def stirred(network: nn.Module) -> nn.Module:
    """Return the network in eval and float64, with statistics, biases and boxes unlike those of a new one."""
    torch.manual_seed(0)
    for name, value in network.double().eval().state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.8, 1.2)
        elif value.ndim == 1 or "offset" in name or "bbox" in name:
            value.add_(0.03 * torch.randn_like(value))
    return network


def detector(neck: list[list[Any]], head: list[Any], **settings: Any) -> RTDETRDetectionModel:
    """Build a small detector: four convolutions, strides 2 to 16, as layers 0 to 3; then the rows of `neck`, `head`."""
    backbone = [[-1, 1, "Conv", [8 * 2**n, 3, 2]] for n in range(4)]
    return stirred(
        RTDETRDetectionModel({"nc": 3, "backbone": backbone, "head": [*neck, head], "num_queries": 12, **settings})
    )


@torch.no_grad()
def assert_rewriting_is_exact(
    network: RTDETRDetectionModel, size: tuple[int, int] = (64, 96), batch: int = 2
) -> nn.Module:
    """Compare every output of the fused and of the rewritten network with the network's; return the rewritten one."""
    x = torch.rand(batch, 3, *size, dtype=torch.float64)
    y, before = network(x)
    for fast in (copy.deepcopy(network).eval().fuse(), for_inference(network)):
        fast_y, after = fast(x)
        torch.testing.assert_close(fast_y, y, rtol=0, atol=1e-10)
        for ours, expected in zip(after[:4], before[:4], strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
    return fast


def batch(images: int = 2, size: int = 64, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Return images with two boxes each."""
    generator = torch.Generator().manual_seed(0)
    return {
        "img": torch.rand(images, 3, size, size, generator=generator, dtype=dtype),
        "cls": torch.tensor([[0.0], [2.0]] * images),
        "bboxes": torch.rand(2 * images, 4, generator=generator) * 0.4 + 0.2,
        "batch_idx": torch.arange(images).repeat_interleave(2),
    }
