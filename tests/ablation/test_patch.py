"""Patches of model files: later rows read the same layers, and the patched file builds and runs."""

import pytest
import torch

from ultralytics.ablation.patch import PatchedModel
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.errors import ModelConfigError

MODEL = """
nc: 3
backbone:
  - [-1, 1, Conv, [16, 3, 2]] # 0
  - [-1, 1, Conv, [32, 3, 2]] # 1
  - [-1, 1, C3, [32], p3] # 2
  - [-1, 1, Conv, [64, 3, 2]] # 3
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]] # 4
  - [[-1, 2], 1, Concat, [1]] # 5
  - [-1, 1, C3, [32], f3] # 6
  - [[6, 3], 1, RTDETRDecoder, [nc, 64, 10, 4, 8, 1]] # 7
"""


@pytest.fixture
def model(tmp_path):
    file = tmp_path / "base.yaml"
    file.write_text(MODEL)
    return str(file)


def sources(model, *patches, tmp_path):
    """Apply patches, build the written file, and return what each row reads, in its own words."""
    patched = PatchedModel.read(model)
    for i, patch in enumerate(patches):
        patched.apply(patch, f"change {i}")
    file = tmp_path / "patched.yaml"
    patched.write(file, "title")
    with torch.device("meta"):
        layers = DetectionModel(file).model
    return {f"{layer.i} {layer.row_module}": layer.f for layer in layers}


def test_without_patches_the_file_stays_the_same_network(model, tmp_path):
    assert sources(model, tmp_path=tmp_path) == {
        "0 Conv": -1, "1 Conv": -1, "2 C3": -1, "3 Conv": -1, "4 nn.Upsample": -1, "5 Concat": [-1, 2],
        "6 C3": -1, "7 RTDETRDecoder": [6, 3],
    }  # fmt: skip


def test_a_row_is_inserted_and_the_next_one_reads_it(model, tmp_path):
    rows = sources(model, {"after": 1, "row": [1, "SEAttention", [16]]}, tmp_path=tmp_path)
    assert list(rows) == [
        "0 Conv", "1 Conv", "2 SEAttention", "3 C3", "4 Conv", "5 nn.Upsample", "6 Concat", "7 C3", "8 RTDETRDecoder",
    ]  # fmt: skip
    assert rows["2 SEAttention"] == rows["3 C3"] == -1
    assert rows["6 Concat"] == [-1, 3]
    assert rows["8 RTDETRDecoder"] == [7, 4]


def test_other_readers_keep_their_layer_unless_all_are_meant(model, tmp_path):
    row = [1, "SEAttention", [16]]
    some = sources(model, {"after": "p3", "row": row}, tmp_path=tmp_path)
    assert some["4 Conv"] == -1  # reads the new row, 3
    assert some["6 Concat"] == [-1, 2]
    every = sources(model, {"after": "p3", "row": row, "readers": "all"}, tmp_path=tmp_path)
    assert every["4 Conv"] == -1
    assert every["6 Concat"] == [-1, 3]


def test_before_reads_the_one_input_of_a_row(model, tmp_path):
    rows = sources(model, {"before": 6, "row": [1, "SEAttention", [16]]}, tmp_path=tmp_path)
    assert rows["6 SEAttention"] == rows["7 C3"] == -1
    assert rows["8 RTDETRDecoder"] == [7, 3]
    rows = sources(model, {"before": 0, "row": [1, "Conv", [3, 3]]}, tmp_path=tmp_path)
    assert (rows["0 Conv"], rows["1 Conv"], rows["6 Concat"]) == (-1, -1, [-1, 3])


def test_remove_replace_and_change(model, tmp_path):
    assert sources(model, {"remove": 6}, tmp_path=tmp_path)["6 RTDETRDecoder"] == [5, 3]
    rows = sources(model, {"replace": "f3", "row": [2, "C2f", [32]]}, tmp_path=tmp_path)
    assert "6 C2f" in rows
    assert rows["7 RTDETRDecoder"] == [6, 3]
    rows = sources(model, {"at": 7, "args": ["nc", 64, 20, 4, 8, 2], "from": ["f3", 3]}, tmp_path=tmp_path)
    assert rows["7 RTDETRDecoder"] == [6, 3]


def test_new_rows_with_names_are_read_by_later_patches(model, tmp_path):
    rows = sources(
        model,
        {"after": 6, "row": [6, 1, "SEAttention", [16], "s3"]},
        {"after": 3, "row": [3, 1, "SEAttention", [16], "s4"]},
        {"at": 7, "from": ["s3", "s4"]},
        tmp_path=tmp_path,
    )
    assert rows["9 RTDETRDecoder"] == [8, 4]
    assert rows["5 nn.Upsample"] == -1


def test_a_map_of_a_backbone_is_named_by_its_stride(tmp_path):
    patched = PatchedModel.read("rtdetr-efficientvit-m0.yaml")
    patched.apply({"after": "P4", "row": [1, "SEAttention", [16]], "readers": "all"}, "SE")
    file = tmp_path / "patched.yaml"
    patched.write(file, "title")
    with torch.device("meta"):
        rows = {layer.i: (layer.row_module, layer.f) for layer in DetectionModel(file).model}
    assert rows[5] == ("SEAttention", 3)
    assert rows[6] == ("Conv", -2)  # still P5, layer 4
    assert rows[10] == ("Conv", 5)
    assert rows[24][1] == [17, 20, 23]


def test_rows_of_a_backbone_are_named_by_their_stride(model, tmp_path):
    rows = sources(model, {"after": "P2", "row": [1, "SEAttention", [16]], "readers": "all"}, tmp_path=tmp_path)
    assert rows["3 SEAttention"] == rows["4 Conv"] == -1
    assert rows["6 Concat"] == [-1, 3]


def test_a_from_by_stride_still_reads_the_layer_of_the_unpatched_file(tmp_path):
    file = tmp_path / "base.yaml"
    file.write_text(MODEL.replace("[[-1, 2], 1, Concat", "[[-1, P2], 1, Concat"))
    rows = sources(str(file), {"after": 2, "row": [1, "SEAttention", [16]]}, tmp_path=tmp_path)
    assert rows["6 Concat"] == [-1, 2]


def test_two_changes_at_different_maps_of_a_backbone_combine():
    patched = PatchedModel.read("rtdetr-efficientvit-m0.yaml")
    for target in ("P3", "P4"):
        patched.apply({"after": target, "row": [1, "SEAttention", [16]], "readers": "all"}, target)
    assert [line.sources[0][1] for line in patched.lines if line.columns[1] == "SEAttention"] == [1, 2]


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"at": 6}, "at needs a column"),
        ({"remove": [6]}, "number or name of one row"),
        ({"after": 99, "row": [1, "SEAttention", []]}, "no row 99"),
        ({"after": "ff3", "row": [1, "SEAttention", []]}, "did you mean 'f3'"),
        ({"after": 1}, "needs a row"),
        ({"after": 1, "row": ["SEAttention"]}, "a row is"),
        ({"row": [1, "SEAttention", []]}, "a patch has one of"),
        ({"after": 1, "before": 1, "row": [1, "SEAttention", []]}, "a patch has one of"),
        ({"remove": 5}, "has not one input"),
        ({"remove": 7}, "has not one input"),
        ({"before": 7, "row": [1, "SEAttention", [16]]}, "reads 2 maps"),
        ({"after": 1, "row": [1, "SEAttention", [16]], "reader": "all"}, "did you mean 'readers'"),
        ({"after": 1, "row": [-3, 1, "SEAttention", [16]]}, "write numbers"),
        ({"after": 6, "row": [50, 1, "SEAttention", [16]]}, "not in the file"),
        ({"after": 6, "row": [1, "SEAttention", [16]]}, "readers: all"),
    ],
)
def test_patches_that_do_not_fit(model, patch, message):
    with pytest.raises(ModelConfigError, match=message):
        PatchedModel.read(model).apply(patch, "my change")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"at": 6, "args": [48]}, {"at": "f3", "repeats": 2}),
        ({"remove": 6}, {"after": 6, "row": [1, "SEAttention", [16]]}),
    ],
)
def test_two_changes_of_one_row_are_refused(model, first, second):
    patched = PatchedModel.read(model)
    patched.apply(first, "one")
    with pytest.raises(ModelConfigError, match=r"'other': row .* is also changed by 'one'"):
        patched.apply(second, "other")


def test_a_row_that_does_not_build_is_named_with_its_line(model, tmp_path):
    patched = PatchedModel.read(model)
    patched.apply({"after": 1, "row": [1, "SEAtention", []]}, "typo")
    with pytest.raises(ModelConfigError, match=r"patched.yaml:\d+: .*SEAttention"):
        patched.write(tmp_path / "patched.yaml", "title")
