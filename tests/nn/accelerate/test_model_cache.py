import copy
import pickle

import pytest
import torch
from torch import nn

from tests.nn.accelerate.helpers import detector
from ultralytics.nn.accelerate import for_inference
from ultralytics.utils.torch_utils import accept_batches_of_one

HEAD = [[1, 2, 3], 1, "RTDETRDecoder", ["nc", 32, 12, 2, 4, 1]]


@pytest.fixture
def network():
    return detector([], HEAD)


def test_the_network_and_the_random_state_are_unchanged(network):
    state = {k: v.clone() for k, v in network.state_dict().items()}
    random = torch.get_rng_state()
    fast = for_inference(network)
    assert copy.deepcopy(network).fuse().fused and torch.equal(torch.get_rng_state(), random)
    assert fast.fused and not network.fused and not fast.training
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())


def test_the_copy_is_cached_with_the_network_and_not_copied(network):
    first = for_inference(network)
    network.train()  # the mode is no change: the copy is in eval
    assert for_inference(network) is first
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert for_inference(twin) is not first


CHANGES = {
    "weight": lambda network: nn.init.ones_(network.model[0].conv.weight),
    "statistics": lambda network: network.model[0].bn.running_mean.add_(1),
    "state_dict": lambda network: network.load_state_dict({k: v + 1 for k, v in network.state_dict().items()}),
    "setting": lambda network: setattr(network.model[-1], "num_queries", 5),
    "type": lambda network: network.float(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_it_is_renewed_after_a_change(network, change):
    first = for_inference(network)
    change(network)
    x = torch.rand(1, 3, 64, 64, dtype=next(network.parameters()).dtype)
    second = for_inference(network)
    assert second is not first
    with torch.no_grad():
        torch.testing.assert_close(second(x)[0], network.eval()(x)[0], rtol=0, atol=1e-4)


def test_names_follow(network):
    for_inference(network)
    network.names = {0: "a", 1: "b", 2: "c"}
    assert for_inference(network).names == network.names


def test_hooks_are_called(network):
    accept_batches_of_one(network)
    assert for_inference(network) is not network  # its hooks matter in training only
    network.model[0].register_forward_hook(lambda *_: None)
    assert for_inference(network) is network
