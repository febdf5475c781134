"""format=published: a pickle that names published classes only, which this package reads as data."""

import pickletools
import re
import zipfile

import pytest
import torch

from tests.small_detector import CONTENT, YOLO_CONTENT, write_weights
from ultralytics import RTDETR
from ultralytics.utils.errors import OptionError

NAMED = re.compile(
    r"ultralytics\.nn\.(modules\.(conv|block|head|transformer)|tasks) \w+|torch\S* \w+|collections OrderedDict"
    r"|__builtin__ set"
)
KINDS = {"DeformableTransformerDecoderLayer": "transformer", "RTDETRDecoder": "head", "C2f": "block", "Detect": "head"}


@pytest.mark.parametrize(
    ("content", "half", "kinds"),
    [(CONTENT, False, {"RTDETRDecoder", "DeformableTransformerDecoderLayer"}), (YOLO_CONTENT, True, {"C2f", "Detect"})],
)
def test_the_pickle_names_published_classes(tmp_path, content, half, kinds):
    weights = write_weights(tmp_path, content)
    file = RTDETR(weights).export(format="published", imgsz=64, half=half)
    assert file == str(tmp_path / f"{weights.stem}{'_half' * half}_published.pt")
    with zipfile.ZipFile(file) as archive:
        program = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    named = {argument for code, argument, _ in pickletools.genops(program) if code.name == "GLOBAL"}
    assert not [name for name in named if not NAMED.fullmatch(name)]
    assert {f"ultralytics.nn.modules.{KINDS[kind]} {kind}" for kind in kinds} <= named

    network = torch.load(file, weights_only=False)["model"]  # as published scripts do
    assert network.names == dict(enumerate(content["names"])) == RTDETR(file).names
    assert next(network.parameters()).dtype == (torch.float16 if half else torch.float32)
    assert network.args["task"] == network.task == "detect"
    parts = {type(part).__name__: part for part in network.modules()}
    assert parts.keys() >= kinds
    if "Detect" in kinds:
        assert vars(parts["Detect"])["stride"].tolist() == [8, 16, 32] and parts["Detect"].inplace
    else:
        assert not parts["DeformableTransformerDecoderLayer"].self_attn.batch_first
        assert (parts["RepConv"].c1, parts["MSDeformAttn"].im2col_step, parts["MLP"].residual) == (32, 64, False)


def test_layers_that_the_published_package_lacks():
    with pytest.raises(
        OptionError, match=r"rtdetr-efficientvit-m0.yaml:\d+: the published package has no EfficientViT"
    ):
        RTDETR("rtdetr-efficientvit-m0.yaml", verbose=False).export(format="published", imgsz=64)
