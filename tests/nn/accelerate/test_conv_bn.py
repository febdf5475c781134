import torch
from torch import Tensor, nn

from tests.nn.accelerate.helpers import detector
from ultralytics.nn.accelerate.conv_bn import find_pairs, fold_pair, fuse
from ultralytics.nn.modules.attention import Attention


class Odd(nn.Module):
    """Convolutions whose batch norm can be folded, and some whose cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.plain_norm = nn.Conv2d(3, 4, 3, padding=1, bias=True), nn.BatchNorm2d(4)
        self.twice, self.twice_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)  # a residual reads the convolution, too
        self.again, self.again_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)  # runs two times
        self.grouped, self.grouped_norm = nn.Conv2d(4, 8, 3, groups=4, bias=False), nn.BatchNorm2d(8, affine=False)
        self.act, self.act_norm = nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4)  # an activation between

    def forward(self, x: Tensor) -> Tensor:
        x = self.plain_norm(self.plain(x))
        y = self.twice(x)
        x = self.twice_norm(y) + y
        for _ in range(2):
            x = self.again_norm(self.again(x))
        x = self.grouped_norm(self.grouped(x))
        return self.act_norm(self.act(x).relu())


@torch.no_grad()
def test_only_exact_pairs_are_folded():
    torch.manual_seed(0)
    net = Odd().double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    expected = net(x)
    pairs = find_pairs(net, (x[:0],))
    assert pairs == [("plain", "plain_norm"), ("grouped", "grouped_norm")]
    for names in pairs:
        fold_pair(net, *names)
    torch.testing.assert_close(net(x), expected)
    assert isinstance(net.plain_norm, nn.Identity)


def test_layers_that_need_an_image_are_run_on_small_maps(monkeypatch):
    """Attention at stride 2 was run on 320 x 320 positions, 42 GB, to find its batch norms."""
    sides, attend = [], Attention.forward

    def watch(module: nn.Module, x: Tensor) -> Tensor:
        sides.append(x.shape[2])
        return attend(module, x)

    network = detector([[1, 1, "C2PSA", [16]]], [[4, 2, 3], 1, "RTDETRDecoder", ["nc", 32, 12, 2, 4, 2]])
    monkeypatch.setattr(Attention, "forward", watch)
    fuse(network)
    assert {*sides} == {160, 40} and sides[0] == 160  # without an image, then with one
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
