"""Speed-ups from outside the layers. Each computes what the plain classes compute; `accelerate=False` leaves all out.

`for_training` replaces classes of a network in place and `restore` undoes it; names in `state_dict` do not change.
`for_inference` returns a rewritten copy. Both set up malloc for a network on the CPU (`host_memory`),
`for_inference` without rewrites, too.
"""

from collections import Counter

import torch
from torch import nn
from torch.utils._pytree import tree_map

from ultralytics.nn.accelerate.conv_bn import fuse
from ultralytics.nn.accelerate.decoder_training import SelectedGradientDecoder, SplitSelfAttention
from ultralytics.nn.accelerate.detect_rows import RowsDetect, RowsV10Detect
from ultralytics.nn.accelerate.folded_decoder import fold_decoder
from ultralytics.nn.accelerate.graph import LayerGraph
from ultralytics.nn.accelerate.host_memory import prepare_host_memory
from ultralytics.nn.accelerate.linear import ChannelsFirstLinear, ConvolutionLinear
from ultralytics.nn.accelerate.model_cache import ModelCache, check_finite, has_hooks
from ultralytics.nn.accelerate.packed_conv import PackedConv2d
from ultralytics.nn.accelerate.pointwise import merge_pointwise
from ultralytics.nn.accelerate.silu import ChannelsLastConv, RecomputedConv, RecomputedRepConv
from ultralytics.nn.modules.conv import Conv, RepConv
from ultralytics.nn.modules.deformable import MSDeformAttn
from ultralytics.nn.modules.detect import Detect, v10Detect
from ultralytics.nn.modules.head import RTDETRDecoder
from ultralytics.utils import LOGGER
from ultralytics.utils.flops import run_in_eval
from ultralytics.utils.torch_utils import check_weights

FOLDED = "batch norms folded"
OURS = ("torch.", "torchvision.", "timm.", "ultralytics.nn.modules.", "ultralytics.nn.accelerate.")
Substitutes = tuple[tuple[type[nn.Module], str, type[nn.Module]], ...]
# class of a module (subclasses are left alone), name of its part ("": itself), and the class that replaces the part's
SUBSTITUTES: Substitutes = (
    (RTDETRDecoder, "", SelectedGradientDecoder),
    (MSDeformAttn, "value_proj", ChannelsFirstLinear),
    (nn.MultiheadAttention, "", SplitSelfAttention),
    (Conv, "", ChannelsLastConv),
    (Conv, "", RecomputedConv),
    (RepConv, "", RecomputedRepConv),
    (nn.Linear, "", ConvolutionLinear),
)
# for copies that are not trained
IN_INFERENCE: Substitutes = ((nn.Conv2d, "", PackedConv2d), (Detect, "", RowsDetect), (v10Detect, "", RowsV10Detect))


def for_training(network: nn.Module) -> list[str]:
    """Replace classes in `network` by faster ones, in place; log and return what was applied, with counts."""
    if on_cpu := next(network.parameters()).is_cpu:
        prepare_host_memory()
    return _log(_substitute(network, SUBSTITUTES, not on_cpu or takes_channels_last(network)))


def restore(network: nn.Module) -> nn.Module:
    """Undo `for_training`, in place; return `network`."""
    for module in network.modules():
        if type(module) in {fast for _, _, fast in SUBSTITUTES}:
            module.__class__ = type(module).plain
    return network


def for_inference(network: nn.Module, device: torch.device | None = None, *, rewrite: bool = True) -> nn.Module:
    """Return a copy of `network` in eval mode, rewritten for inference, on `device` (default: where it is).

    The copy is cached with the network and renewed after a change of its weights or settings. A network that cannot be
    rewritten (exported, fused, with forward hooks, or a forward of a script's class, which may read any layer) is
    returned itself, and so is each one without `rewrite`. Raises WeightsError if the weights are not finite.
    """
    device = device or next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    if device.type == "cpu":
        prepare_host_memory()
    fixed = getattr(network, "layer_shapes", None) is None or network.fused or has_hooks(network)
    if not rewrite or fixed or runs_own_code(network):
        check_finite(network)
        return network
    fast = vars(network).setdefault("_inference_copy", ModelCache()).get(network, device, _rewritten)
    fast.names = network.names
    return fast


def runs_own_code(network: nn.Module) -> bool:
    """Check for a class of a script that runs the layers itself."""
    methods = (getattr(type(network), name) for name in ("forward", "predict", "_predict_once"))
    return any(str(method.__module__).partition(".")[0] != __name__.partition(".")[0] for method in methods)


@torch.random.fork_rng(devices=[])  # new layers are initialized; the random state is left as it is
def _rewritten(network: nn.Module) -> nn.Module:
    """Rewrite `network`, a copy made for it; log and return it. Raises WeightsError if its weights are not finite."""
    check_weights(network.state_dict(), "model")
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    network = restore(network).eval().requires_grad_(False).fuse()
    graph = LayerGraph(network)
    applied = Counter({FOLDED: len(norms) - len(set(network.modules()).intersection(norms))})
    applied["blocks with merged 1x1 convolutions"] = merge_pointwise(graph)
    applied["decoder folded"] = fold_decoder(graph)
    graph.write_to(network)
    _set_memory_format(network, torch.channels_last)  # 1x1 convolutions and the decoder read positions as rows
    if not (channels_last := takes_channels_last(network)):
        _set_memory_format(network, torch.contiguous_format)
    network.rewrites = applied + _substitute(network, SUBSTITUTES + IN_INFERENCE, channels_last)
    _log(network.rewrites)
    return network


@torch.no_grad()
def takes_channels_last(network: nn.Module) -> bool:
    """Check that layers of other code bases run on maps in channels-last memory format.

    Some read maps by `view`, which needs the default format. The check runs these layers on two images of zeros.
    """
    if not hasattr(network, "layer_shapes"):  # not of a model file
        return True
    graph = LayerGraph(network)
    for layer in graph.layers:
        if all(type(module).__module__.startswith(OURS) for module in layer.modules()):
            continue
        for part in (4, 1):  # small maps, unless the layer is made for one size
            try:
                maps = graph.example_maps(layer, 2, part)
                maps = tree_map(lambda x: x.contiguous(memory_format=torch.channels_last), maps)
                run_in_eval(layer, maps, isinstance(layer.f, list))
                break
            except Exception as error:  # others are reported where the network runs
                if "view size is not compatible" in str(error):
                    return False
    return True


def _set_memory_format(network: nn.Module, memory_format: torch.memory_format) -> None:
    for weight in network.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.to(memory_format=memory_format)


def _substitute(network: nn.Module, table: Substitutes, channels_last: bool) -> Counter[str]:
    """Replace classes by `table`, except those of channels-last maps if there are none; return the counts by label."""
    applied: Counter[str] = Counter()
    for kind, part, fast in table:
        for module in network.modules() if channels_last or fast not in (ChannelsLastConv, PackedConv2d) else ():
            target = module.get_submodule(part) if type(module) is kind else None
            if type(target) is fast.plain and (not hasattr(fast, "applies") or fast.applies(target)):
                target.__class__ = fast
                applied[fast.label] += 1
    return applied


def _log(applied: Counter[str]) -> list[str]:
    """Log what was applied in one line; return it."""
    names = [f"{count} {label}" for label, count in applied.items()]
    if names:
        LOGGER.info(f"accelerate: {', '.join(names)} (accelerate=False switches this off)")
    return names
