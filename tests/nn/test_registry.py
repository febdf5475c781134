"""Registration of modules."""

import types

import pytest
from torch import nn

from ultralytics.nn import plans
from ultralytics.nn.plans import RowContext
from ultralytics.nn.registry import REGISTRY, RegisteredModule, Registry, register
from ultralytics.utils.errors import ModelConfigError


def test_a_name_defined_in_two_files_names_both():
    registry = Registry()
    registry.add(RegisteredModule("Net", nn.Identity, plans.conv, "a.py"))
    with pytest.raises(ModelConfigError, match=r"'Net' is defined twice: a\.py and b\.py"):
        registry.add(RegisteredModule("Net", nn.Identity, plans.conv, "b.py"))


def test_the_same_file_may_define_it_again():
    registry = Registry()
    for kind in (nn.Identity, nn.ReLU):  # as a notebook cell that is run twice
        registry.add(RegisteredModule("Net", kind, plans.conv, "a.py"))
    assert registry["Net"].build is nn.ReLU


def test_a_class_of_a_notebook_can_be_registered():
    kind = types.new_class("FromNotebook", (nn.Module,))
    kind.__module__ = "__nowhere__"
    register(plans.channel_preserving)(kind)
    assert REGISTRY["FromNotebook"].origin == "__nowhere__"


def test_a_factory_is_known_by_its_file_and_may_have_another_name():
    @register(plans.backbone(8, 16), name="Two_Maps")
    def build():
        return nn.Identity()

    entry = REGISTRY["Two_Maps"]
    assert entry.origin == __file__ and entry.plan(RowContext((3,))).out == (8, 16)


@pytest.mark.parametrize(("channels", "scaled"), [(64, 32), (2048, 512), (9, 8), (10, 10), (50, 32)])
def test_channels_are_capped_scaled_and_rounded_up(channels, scaled):
    assert RowContext((3,), nc=10, width=0.5, max_channels=1024).scaled(channels) == scaled
