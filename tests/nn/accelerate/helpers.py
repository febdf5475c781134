import copy
from typing import Any

import torch
from torch import Tensor, nn

from tests.golden.inputs import train_batch
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


def batch() -> dict[str, Tensor]:
    """Return two images with two boxes each."""
    tensors = {name: torch.from_numpy(array) for name, array in train_batch(0, 64, 64, (2, 2), nc=3).items()}
    return {**tensors, "img": tensors["img"].double()}
