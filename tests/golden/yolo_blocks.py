"""Cases for the YOLO blocks, and the recording of their outputs by the published package.

    PYTHONPATH=<folder of ultralytics 8.4.190> python tests/golden/yolo_blocks.py tests/golden/yolo_blocks.npz

Weights are `fill(module, 1.5)`, the input is
`default_rng(i).standard_normal` of case i; 64 evenly spaced elements of the flattened output are stored.
"""

import sys
import zlib
from importlib import import_module

import numpy as np
import torch

try:
    from tests.golden.fill import fill
except ImportError:  # run as a file, so that this repository's package is not on the path
    from fill import fill

MAP, WIDE, STRIPS, TOKENS = (1, 16, 20, 24), (1, 128, 10, 12), (1, 64, 8, 12), (30, 2, 32)
CASES = [
    ("Conv2", (16, 24, 3, 2), MAP), ("ConvTranspose", (16, 24), MAP), ("ConvTranspose", (16, 24, 4, 2, 1, False, False), MAP),
    ("DWConvTranspose2d", (16, 24, 4, 2, 1, 0), MAP), ("Focus", (16, 24, 3), MAP), ("GhostConv", (16, 24, 3, 2), MAP),
    ("ChannelAttention", (16,), MAP), ("SpatialAttention", (7,), MAP), ("SpatialAttention", (3,), MAP), ("CBAM", (16,), MAP),
    ("RepConv", (16, 16, 3, 1, 1, 1, 1, True, True), MAP), ("RepConv", (16, 24, 3, 2, 1, 4), MAP), ("DFL", (16,), (1, 64, 50)),
    ("RepConv", (16, 24, 3, 1, 1, 1, 1, True, False, True), MAP), ("Proto", (16, 24, 8), MAP), ("SPP", (16, 24), MAP),
    ("SPP", (16, 24, (3, 7)), MAP), ("SPPF", (16, 24), MAP), ("SPPF", (16, 16, 5, 2, True), MAP), ("C1", (16, 24, 2), MAP),
    ("C2", (16, 24, 2), MAP), ("C2f", (16, 24, 2, True), MAP), ("C3", (16, 24, 2), MAP), ("C3x", (16, 24, 2), MAP),
    ("C3TR", (16, 32, 2), MAP), ("C3Ghost", (16, 24, 2), MAP), ("C3f", (16, 24, 2, True), MAP), ("C3k", (16, 24, 2), MAP),
    ("GhostBottleneck", (16, 16), MAP), ("GhostBottleneck", (16, 24, 3, 2), MAP), ("Bottleneck", (16, 16), MAP),
    ("Bottleneck", (16, 24, True, 2, (1, 3), 1.0), MAP), ("BottleneckCSP", (16, 24, 2), MAP), ("C3k2", (16, 24, 2), MAP),
    ("C3k", (16, 24, 1, True, 1, 0.5, 5), MAP), ("C3k2", (16, 24, 2, True, 0.25), MAP),
    ("C3k2", (128, 128, 2, True, 0.5, True), WIDE), ("PSA", (128, 128), WIDE), ("PSABlock", (64,), STRIPS),
    ("PSABlock", (64, 0.25, 2, False), STRIPS), ("Attention", (64,), STRIPS), ("C2PSA", (128, 128, 2), WIDE),
    ("C2fPSA", (128, 128, 2), WIDE), ("SCDown", (16, 24, 3, 2), MAP), ("CIB", (16, 16), MAP),
    ("CIB", (16, 16, True, 1.0, True), MAP), ("C2fCIB", (16, 24, 2, True, True), MAP), ("RepVGGDW", (16,), MAP),
    ("ELAN1", (16, 24, 16, 8), MAP), ("AConv", (16, 24), MAP), ("ADown", (16, 24), MAP), ("ADown", (16, 24), (1, 16, 21, 25)),
    ("SPPELAN", (16, 24, 8), MAP), ("RepNCSPELAN4", (16, 24, 16, 8, 2), MAP), ("RepCSP", (16, 24, 2), MAP),
    ("RepBottleneck", (16, 16), MAP), ("CBLinear", (16, [8, 16]), MAP), ("A2C2f", (64, 64, 2, True, 4), STRIPS),
    ("A2C2f", (64, 64, 1, True, 1, True, 1.2), STRIPS), ("A2C2f", (64, 64, 2, False), STRIPS),
    ("ABlock", (64, 2, 1.2, 4), STRIPS), ("AAttn", (64, 2, 1), STRIPS), ("TransformerLayer", (32, 4), TOKENS),
    ("TransformerBlock", (16, 32, 4, 2), MAP), ("MLPBlock", (32, 24), TOKENS), ("LayerNorm2d", (16,), MAP),
]  # fmt: skip
# ruff: noqa: E501


def build(name: str, args: tuple) -> torch.nn.Module:
    """The module of that name in the package on the path, filled."""
    for part in ("block", "conv", "transformer"):
        module = import_module(f"ultralytics.nn.modules.{part}")
        if hasattr(module, name):
            built = getattr(module, name)(*args)
            if name == "SPPF" and not args[4:]:  # rows of models switch it on
                built.cv1.act = torch.nn.SiLU()
            return fill(built, 1.5)
    raise LookupError(name)


def case_input(i: int) -> torch.Tensor:
    """Input of case i."""
    return torch.from_numpy(np.random.default_rng(i).standard_normal(CASES[i][2], dtype=np.float32))


def joined(output) -> torch.Tensor:
    """The output, or several outputs joined along the channels."""
    return output if isinstance(output, torch.Tensor) else torch.cat(list(output), 1)


def samples(output: torch.Tensor) -> np.ndarray:
    """64 evenly spaced elements."""
    flat = output.detach().flatten().numpy()
    return flat[np.linspace(0, flat.size - 1, 64).astype(np.int64)]


def keys_crc(module: torch.nn.Module) -> int:
    """CRC over names and shapes of the state_dict in order."""
    return zlib.crc32(" ".join(f"{k}{tuple(v.shape)}" for k, v in module.state_dict().items()).encode())


if __name__ == "__main__":
    values, shapes, keys = [], [], []
    for i, (name, args, _) in enumerate(CASES):
        module = build(name, args)
        with torch.no_grad():
            output = joined(module(case_input(i)))
        values.append(samples(output))
        shapes.append([*output.shape, 0][:4])
        keys.append(keys_crc(module))
    np.savez_compressed(sys.argv[1], values=np.stack(values), shapes=np.array(shapes), keys=np.array(keys))
