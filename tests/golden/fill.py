"""Deterministic weights: each tensor of a state_dict is a function of its name, its shape and the model's gain."""

import re
import zlib

import numpy as np
import torch

KEEP = re.compile(r"anchors|attention_bias_idxs|(^|\.)dfl\.conv\.weight$|(^|\.)strides?$")  # keep their own values
BACKBONE = re.compile(r"(^|\.)(patch_embed|blocks[123])\.")  # EfficientViT backbone: smaller convolution gain
BRANCH = re.compile(  # normalisation weight that ends a residual branch
    r"\.dw[01]\.m\.bn\.weight$|\.pw2\.bn\.weight$|\.proj\.1\.bn\.weight$|\.\d\.0\.m\.bn\.weight$"
    r"|\.layer\.\d+\.cv3\.bn\.weight$|\.attn\.(proj|pe)\.bn\.weight$|\.(mlp|ffn)\.1\.bn\.weight$"
)
TWIN = re.compile(r"\.conv[12]\.bn\.weight$")  # normalisation weight of a re-parameterised (summed) branch


def value(name, shape, gain):
    """float32 array for the floating tensor `name`, or None where it keeps the value it has after construction."""
    v, f = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32), np.float32
    if KEEP.search(name):
        return None
    if name.endswith("running_var"):
        return np.abs(v) * f(0.1) + f(1)
    if name.endswith("running_mean") or "attention_biases" in name or (len(shape) == 1 and name.endswith("bias")):
        return v * f(0.1)
    if len(shape) == 1 and name.endswith("weight"):
        return (f(1) + v * f(0.1)) * f((0.3 if BRANCH.search(name) else 1) * (0.7 if TWIN.search(name) else 1))
    if len(shape) >= 2:
        g = 1.0 if len(shape) != 4 else gain * 0.9 if BACKBONE.search(name) else gain
        return v * f(g / np.sqrt(np.prod(shape[1:])))
    return None


@torch.no_grad()
def fill(model, gain):
    """Fill every floating tensor of model.state_dict() in place; train() then eval() refreshes cached biases."""
    for name, t in model.state_dict().items():
        v = value(name, tuple(t.shape), gain) if t.is_floating_point() else None
        if v is not None:
            t.copy_(torch.from_numpy(v))
    return model.train().eval()
