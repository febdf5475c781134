from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from ultralytics.utils.torch_utils import Compiled, compiled


class Doubling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.numel() == 0:
            raise ValueError("no numbers")
        return x * self.factor


@pytest.fixture
def broken_compiler(monkeypatch):
    """torch.compile gives something that fails when it is called, as without a C++ compiler."""
    calls = []

    def fail(*args):
        calls.append(args)
        raise RuntimeError("no working C++ compiler\nand a long trace")

    monkeypatch.setattr(torch, "compile", lambda network, options: fail)
    return calls


def test_a_failing_compiler_is_told_once_and_left(broken_compiler, caplog):
    run = compiled(Doubling())
    with caplog.at_level(logging.WARNING, logger="ultralytics"):
        assert run(torch.ones(2)).tolist() == [2, 2]
        assert run(torch.ones(1)).tolist() == [2]
    assert len(broken_compiler) == 1
    assert [r.getMessage() for r in caplog.records] == [
        "compile=True: torch.compile failed (RuntimeError: no working C++ compiler); the run goes on without it. "
        "On a CPU it needs a C++ compiler, on a GPU Triton"
    ]


def test_an_error_of_the_network_is_its_own(broken_compiler):
    with pytest.raises(ValueError, match="no numbers"):
        compiled(Doubling())(torch.ones(0))


def test_what_compiles_is_called_so(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network, options: lambda x: network(x) + options["fallback_random"])
    assert Compiled(Doubling())(torch.ones(1)).tolist() == [3]


def test_an_exported_model_has_nothing_to_compile(caplog):
    model = nn.Module()
    with caplog.at_level(logging.WARNING, logger="ultralytics"):
        assert compiled(model) is model
    assert "nothing to compile" in caplog.text
