import copy

import pytest
import torch
from torch import nn

from ultralytics.nn.accelerate.detect_rows import RowsDetect, RowsV10Detect
from ultralytics.nn.modules.detect import Detect, v10Detect

HEADS = {
    "DFL": lambda ch: Detect(5, ch=ch),
    "distances, legacy": lambda ch: Detect(5, 1, ch=ch, legacy=True),
    "end to end": lambda ch: Detect(5, 1, True, ch),
    "YOLOv10": lambda ch: v10Detect(5, ch),
}


@torch.no_grad()
@pytest.mark.parametrize("name", HEADS)
def test_boxes_scores_and_raw_outputs_equal_those_of_the_plain_head(name):
    torch.manual_seed(0)
    head = HEADS[name]((16, 32)).double().eval().requires_grad_(False)
    head.stride = 8, 16
    for score in (m for m in head.modules() if isinstance(m, nn.Conv2d) and m.bias is not None):
        score.bias.normal_()
    if head.reg_max > 1:
        head.dfl.conv.weight.normal_()  # bins may be learned
    head.fold()
    fast = copy.deepcopy(head)
    fast.__class__ = RowsV10Detect if name == "YOLOv10" else RowsDetect
    maps = [torch.randn(2, c, h, 10, dtype=torch.float64) for c, h in ((16, 8), (32, 4))]
    for levels in (maps, [level.contiguous(memory_format=torch.channels_last) for level in maps]):
        torch.testing.assert_close(fast(levels), head(levels), rtol=1e-10, atol=1e-10)
    fast.export = True
    graph = torch.jit.trace(fast, (maps,), check_trace=False).graph
    assert str(graph).count("aten::permute") == 0  # exported as the plain head is
