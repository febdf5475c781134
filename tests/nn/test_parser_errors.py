"""Wrong rows, modules and files, and the parts of each error: where, what, got, expected, what to do."""

import re
from pathlib import Path

import pytest

from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import ModelConfigError

MODULES = Path(__file__).parent / "faulty_modules"
FILE = """\
nc: 3
modules: MODULES
backbone:
  - [-1, 1, Conv, [16, 3, 2]] # 0
  - [-1, 1, Conv, [16, 3, 2]] # 1
  - [-1, 1, Conv, [16, 3, 2], p3] # 2
  - [-1, 1, Conv, [32, 3, 2]] # 3
head:
  - [-1, 1, Conv, [32, 1, 1]] # 4
  ROW
  - [[2, 3], 1, RTDETRDecoder, [nc, 32, 10, 2, 4, 1]]
"""

# A row put in as layer 5, line 10 of the file, and the answer: fragments in their order.
ROWS = [
    # names
    ("- [-1, 1, Cnv, [64]]", ["net.yaml:10: no module 'Cnv'", "did you mean 'Conv'?"]),
    ("- [-1, 1, nn.Upsampl, [None, 2]]", ["torch.nn has no layer 'nn.Upsampl'", "did you mean 'Upsample'?"]),
    ("- [-1, 1, Qwertz, []]", ["no module 'Qwertz'", "looked in", "nn/Addmodules. Name its folder by modules=FOLDER"]),
    # from
    ("- [9, 1, Conv, [64]]", ["net.yaml:10: layer 5 Conv", "reads from 9", "only [0, 1, 2, 3, 4] have an output"]),
    ("- [1.5, 1, Conv, [64]]", ["net.yaml:10: `from` must be a layer number, a name, or a list of these", "got 1.5"]),
    ("- [p4, 1, Conv, [64]]", ["layer 5 Conv reads 'p4'", "no earlier row has this name", "did you mean 'P4'?"]),
    ("- [P5, 1, Conv, [64]]", ["layer 5 Conv reads P5, stride 32", "the backbone's maps have [2, 4, 8, 16]"]),
    ("- [y, 1, Conv, [32]]\n  - [-1, 1, Conv, [32], y]", ["reads 'y', but no earlier row has this name"]),
    ("- [-1, 1, Concat, [1]]", ["layer 5 Concat fails on inputs [(1, 32, 40, 40)]", "it takes a list of maps"]),
    ("- [[-1, 3], 1, Conv, [32]]", ["layer 5 Conv fails on inputs", "it takes one map", "put Concat before it"]),
    ("- [[2, 3], 1, Concat, [1]]", ["Concat fails on inputs", "different sizes, 80x80 and 40x40", "nn.Upsample"]),
    # sizes
    ("- [-1, 101, Conv, [32]]", ["net.yaml:10: 101 repeats at depth 1.0; expected at most 100"]),
    (
        "- [-1, 1, Conv, [1000000, 3]]",
        ["layer 5 Conv(32, 1000000, 3) cannot be built", "tensors of more than 110,000,000"],
    ),
    ("- [-1, 1, nn.LazyConv2d, [32, 1]]", ["a lazy layer; write its sizes, such as nn.Conv2d"]),
    # form of the row
    ("- [-1, 1, Conv]", ["net.yaml:10: a row is [from, repeats, module, args]", "got [-1, 1, 'Conv']"]),
    ("- [-1, 0, Conv, [64]]", ["net.yaml:10: repeats must be a whole number from 1, got 0"]),
    ("- [-1, 1, Conv, 64]", ["the fourth column is the list of Conv's arguments, got 64"]),
    ("- [-1, 1, Conv, [32], p3]", ["net.yaml:10: the name 'p3' is taken by net.yaml:6", "choose another"]),
    ("- [-1, 1, Conv, [32], P3]", ["a row's name is a word other than P1 to P9, got 'P3'"]),
    # arguments
    ("- [-1, 1, Conv, []]", ["layer 5 Conv: its arguments [] cannot be used", "expected [c2: int, *args: Any]"]),
    (
        "- [-1, 1, Conv, [64, 3, 1, None, 1, 1, True, 9, 9]]",
        ["layer 5 Conv(32, 64, 3, ", "cannot be built", "positional arguments but 11 were given"],
    ),
    ("- [-1, 1, Detect, []]", ["layer 5 Detect: its arguments [] cannot be used: expected [nc: int, reg_max: int"]),
    ("- [-1, 1, Detect, [2, 16, 'yes']]", ["end2end must be True or False, got 'yes'"]),
    (
        "- [-1, 1, nn.Conv2d, [64, 128, 1]]",  # written for 64 input channels, but the layer before gives 32
        ["layer 5 nn.Conv2d(32, 64, 128, 1): expected a kernel size of at most 63, got 128", "32", "only [128, 1]"],
    ),
    ("- [-1, 1, Conv, [32, 64, 1]]", ["layer 5 Conv(32, 32, 64, 1): expected a kernel size", "only [64, 1]"]),
    ("- [-1, 1, Conv, [sixty]]", ["layer 5 Conv", "output channels must be a number above 0, got 'sixty'"]),
    (
        "- [-1, 1, AIFI, [64, 7]]",
        ["layer 5 AIFI(32, 64, 7) cannot be built: num_heads=7: channels must be a multiple of 7, got 32"],
    ),
    ("- [-1, 1, Conv, [64, 3, 2, None, 3]]", ["must be divisible by groups (in_channels=32, groups=3)"]),
    ("- [-1, 1, nn.Conv2d, [64, 3, 2, 1, 1, 5]]", ["must be divisible by groups (in_channels=32, groups=5)"]),
    ("- [-1, 1, nn.GroupNorm, [5]]", ["num_channels (32) must be divisible by num_groups (5)"]),
    ("- [-1, 1, RTDETRDecoder, [nc, 32]]", ["layer 5 RTDETRDecoder fails", "it takes a list of maps"]),
    ("- [[2, 3], 1, RTDETRDecoder, [nc, 32]]", ["returns shapes [(1, 300, 7)", "only the last row may"]),
    # the module itself
    ("- [-1, 1, Heads, [7]]", ["layer 5 Heads(32, 7) cannot be built", "dim 32 should be divided by num_heads 7"]),
    ("- [-1, 1, Reduced, [64]]", ["Reduced(32, 64): its parameter a.weight is empty, (0, 32, 1, 1)", "a divisor"]),
    ("- [-1, 1, NoSuper, []]", ["layer 5 NoSuper(32) cannot be built", "before Module.__init__() call"]),
    ("- [-1, 1, GivesTuple, []]", ["layer 5 GivesTuple: gives 2 outputs [(32, 40, 40), ()]", "only a backbone may"]),
    ("- [-1, 1, GivesDict, []]", ["layer 5 GivesDict: its forward returns a dict", "expected a map (B, C, H, W)"]),
    ("- [-1, 1, Tokens, []]", ["layer 5 Tokens: returns shapes [(1, 1600, 32)]", "only the last row"]),
    ("- [-1, 1, DeepMismatch, []]", ["DeepMismatch fails", "to have 32 channels, but got 16", "(Faulty.py, line "]),
    ("- [-1, 1, StatesWrong, []]", ["its plan states outputs of (32,) channels, its forward gives [(8, 40, 40)]"]),
    ("- [-1, 1, Rearranged, []]", ["Needs.py, line 1: 'rearrange'", "pip install package_nobody_has"]),
    (
        "- [-1, 1, Syntax, []]",
        ["Syntax.py defines it but was not imported: SyntaxError: expected ':' (Syntax.py, line 4)"],
    ),
    # YAML
    ("-\t[-1, 1, Conv, [32]]", ["net.yaml, line 10: not valid YAML", "indent with spaces, not tabs"]),
    (" - [-1, 1, Conv, [32]]", ["line 10: not valid YAML", "start with `- ` in the same column"]),
    ("- [-1, 1, Conv, [32]", ["line 11: not valid YAML", "closing bracket is missing, here or in the line before"]),
    ("[-1, 1, Conv, [32]]", ["not valid YAML", "a row starts with `- `"]),
]

# A change of the file, and the answer.
FILES = [
    (("[[2, 3], 1, RTDETRDecoder, [nc, 32, 10, 2, 4, 1]]", "[2, 1, Conv, [8]]"), ["the last layer of an RT-DETR is"]),
    (("[nc, 32, 10, 2, 4, 1]", "[6, 32, 10, 2, 4, 1]"), [
        "net.yaml:10: layer 5 RTDETRDecoder: is built for 6 classes", "the model has 3", "write nc in place of 6"]),
    (("[nc, 32, 10, 2, 4, 1]", "[32, nc, 10, 2, 1, 1]"), ["net.yaml:10: layer 5 RTDETRDecoder: is built for 32"]),
    (("[nc, 32, 10, 2, 4, 1]", "[nc, 30, 10, 2, 4, 1]"), ["nc=3, nh=4 heads: hd must be a multiple of 4, got 30"]),
    (("head:", "haed:"), ["net.yaml:8: unknown key 'haed'", "did you mean 'head'?"]),
    (("nc: 3", "nc: three"), ["net.yaml: nc must be a whole number from 1 to 100000; got 'three'"]),
    (("nc: 3", "nc：3"), ["not valid YAML", "line 1 has a full-width '：', write ':'"]),
    (("nc: 3", "nc: 3\nnc: 4"), ["net.yaml, line 2: not valid YAML: duplicate key 'nc'"]),
    (("nc: 3", "nc: 3\nscale: q\nscales: {l: [1, 1, 1024]}"), ["unknown scale 'q'; the file has l"]),
    (("nc: 3", "nc: 3\nscales: {l: [1, 1]}"), ["scale 'l' must be [depth, width, max_channels], got [1, 1]"]),
    *(
        (("nc: 3", f"nc: 3\nactivation: {text}"), [f"activation '{text}' is not a layer of torch.nn"])
        for text in ("Five", "nn.Module", "nn.Hardtanh(2, 1)", "nn.PReLU(-1)", "nn.PReLU(2000000000)", "nn.Flatten(9)",
                     "nn.Threshold", "nn.ReLU({[1]:2})", "nn.Linear(1, 1)", "nn.functional", "nn.LSTM(3, 3)")
    ),
    (("nc: 3", "nc: 3\nactivation: nn.Rellu()"), ["activation 'nn.Rellu()' is not a layer of torch.nn"]),
    (("nc: 3", "nc: 3\nactivation: nn.ReLU(x)"), ["activation 'nn.ReLU(x)' is not a layer of torch.nn"]),
    (("MODULES", "nowhere"), ["nowhere is not a folder", "check modules="]),
    (("- [-1, 1, Conv, [16, 3, 2]] # 0", "- [3, 1, Conv, [16]]"), ["layer 0 Conv reads from 3", "reads the image: -1"]),
    (("- [-1, 1, Conv, [16, 3, 2]] # 0", "- [-1, 1, StatesTwo, []]"), ["states outputs of (16, 32)", "gives [(16, 80"]),
    (("[-1, 1, Conv, [16, 3, 2]] # 0\n", "[-1, 1, EfficientViT_M0, []]\n  - [0, 1, Conv, [8]]\n"), ["only [1, 2, 3"]),
]  # fmt: skip


@pytest.mark.parametrize(("row", "answer"), ROWS)
def test_a_wrong_row(row, answer, tmp_path):
    check(FILE.replace("ROW", row), answer, tmp_path)


def test_a_row_that_was_put_in_and_later_numbers_that_were_not_raised(tmp_path, caplog):
    rows = FILE.replace("ROW", "- [-1, 1, Conv, [32, 1]] # put in\n  - [-1, 1, Conv, [32, 1]] # 5")
    file = tmp_path / "net.yaml"
    file.write_text(rows.replace("MODULES", "."))
    model = RTDETRDetectionModel(str(file))
    model.info(imgsz=64, verbose=False)
    assert "layer 6 Conv: no layer reads its output" in caplog.text
    assert "Were rows inserted before it?" in caplog.text


@pytest.mark.parametrize(("change", "answer"), FILES)
def test_a_wrong_file(change, answer, tmp_path):
    check(FILE.replace("  ROW\n", "").replace(*change), answer, tmp_path)


@pytest.mark.parametrize("text", ["", "- 1\n", "nc: 3\nbackbone: {a: 1}\nhead: []\n"])
def test_a_file_of_another_form(text, tmp_path):
    (tmp_path / "net.yaml").write_text(text)
    with pytest.raises(ModelConfigError, match=r"^net\.yaml: (expected keys|`backbone` must be a list of rows)"):
        RTDETRDetectionModel(tmp_path / "net.yaml")


def check(text: str, answer: list[str], folder: Path) -> None:
    modules = folder / "modules"
    modules.mkdir()
    for file in MODULES.iterdir():
        if file.is_file():
            (modules / file.with_suffix(".py").name).write_text(file.read_text())
    file = folder / "net.yaml"
    file.write_text(text.replace("MODULES", "modules"))
    with pytest.raises(ModelConfigError) as caught:
        RTDETRDetectionModel(file)
    message = str(caught.value)
    assert re.search(".*".join(map(re.escape, answer)), message), message
    assert "\n" not in message
