"""Comparison of two outputs, query by query."""

import torch

from ultralytics.engine.exporter import BOUNDS, Difference, compare


def test_queries_are_matched_one_to_one():
    expected = torch.rand(2, 30, 9)
    shuffled = torch.stack([image[torch.randperm(30)] for image in expected])
    assert compare(expected, shuffled, "float32") == Difference(0.0, 0.0, 60, 0)
    shuffled[0, 0] += 0.5
    one = compare(expected, shuffled, "float32")
    assert (one.queries, one.swapped) == (59, 1) and one.within(BOUNDS["float32"])
    shuffled[1, :5, 4:] += 0.5
    many = compare(expected, shuffled, "float32")
    assert many.swapped == 0 and many.scores > 0.1 and not many.within(BOUNDS["float32"])


def test_one_nan_is_a_mismatch():
    expected = torch.rand(2, 30, 9)
    found = expected.clone()
    found[0, 0, 0] = torch.nan
    assert not compare(expected, found, "float32").within(BOUNDS["float32"])


def test_int8_compares_confident_queries_only():
    expected = torch.zeros(1, 20, 5)
    expected[0, :, :4] = torch.rand(20, 4)
    expected[0, :3, 4] = 0.9
    found = expected.clone()
    found[0, 5:, :4] = torch.rand(15, 4)  # boxes without an object
    assert compare(expected, found, "int8") == Difference(0.0, 0.0, 3, 0)
    found[0, 0, 4] = 0.5
    assert not compare(expected, found, "int8").within(BOUNDS["int8"])
