"""Damaged and hand-made files: each ends in a value or in one clear error, soon and in little memory.

A fixed seed and a bounded number of cases; more of them: `python -m tests.test_fuzz 20` (times the number).
"""

import json
import random
import re
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.nn.formats.test_metadata import PUBLISHED
from tests.shapes import write_shapes
from tests.small_detector import CONTENT, write_weights
from ultralytics import RTDETR
from ultralytics.cfg.family import default_values
from ultralytics.cfg.options import get_cfg
from ultralytics.cli import parse_options
from ultralytics.data.build import build_dataset
from ultralytics.data.dataset_yaml import load_dataset_config
from ultralytics.data.images import probe_image, read_image
from ultralytics.nn.formats.metadata import Metadata
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import UserError

SECONDS, MEMORY = 10, 500  # of a case; MB of all cases of a kind beyond what was there
SHARED: list = [["x"]] * 3
for _ in range(25):
    SHARED = [SHARED] * 3  # 3^25 values if it is written out
ODD_VALUES = [
    None, True, -1, 0, 1, 2, 7, 10**9, 2**63, 10**400, 0.5, -0.5, 1e300, float("nan"), float("inf"), "", " ", "x", "0",
    "1e999", "{[1]: 2}", "\0", "é猫\n", "a" * 5000, "[" * 300, "../../x", "/dev/zero", b"x", "\ud800",
    [], [1], [[]], {}, {"a": 1}, {1: 2}, SHARED,
]  # fmt: skip
ODD_TEXTS = [
    "", " ", "\t", "\n", "\0", ":", "-", "[", "]", "{", "}", "#", "%", "@", "&a ", "*a", "!!int x", "!!map ",
    "!!timestamp x", "<<: 5", "? [1]", "2024-13-01", "0b_", "9" * 4301, "1e999", "-1", "nan", "null", "'", '"',
    "\\ud800", "：", "é", "[" * 200, "\x85", "0x" + "f" * 80, "1_0", "٠", ".", "..", "/", "\\", "NaN", "Infinity",
    "true", "~", "\ufeff", "\u2028",
]  # fmt: skip


def changed_text(rng: random.Random, text: str) -> str:
    """Replace, insert or remove words and characters."""
    for _ in range(rng.randint(1, 3)):
        words = [*re.finditer(r"[\w.]+|[^\w\s]", text)] or [re.match("", text)]
        start, end = rng.choice(words).span()
        other = text[slice(*rng.choice(words).span())]
        text = text[:start] + rng.choice([rng.choice(ODD_TEXTS), other, ""]) + text[rng.choice([start, end, end]) :]
    return text


def changed_bytes(rng: random.Random, data: bytes) -> bytes:
    """Flip, cut, insert or repeat bytes."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) or 1)
        kind = rng.randrange(5)
        if kind == 0:
            data[at : at + 1] = rng.choice([b"\xff", b"\x00", b"\x80", rng.randbytes(1)])
        elif kind == 1:
            del data[at : at + rng.choice([1, 4, 100])]
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.choice([1, 4]))
        elif kind == 3:
            data[at : at + 4] = rng.choice([b"\xff\xff\xff\x7f", b"\x00\x00\x00\x00", b"\xff\xff\xff\xff"])
        elif rng.random() < 0.3:
            del data[at:]
    return bytes(data)


def changed_value(rng: random.Random, value: object, odd: list = ODD_VALUES) -> object:
    """Replace, remove or rename one part of lists and mappings in one another."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice([*value])
        kind = rng.randrange(8)
        if kind == 0:
            return {k: v for k, v in value.items() if k != key}
        if kind == 1:
            renamed = rng.choice(["x", "", 0, -1, None, 1.5, "é"])
            return {renamed if k == key else k: v for k, v in value.items()}
        return {**value, key: changed_value(rng, value[key], odd)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        if rng.random() < 0.1:
            return value[:at] + value[at + 1 :]
        return [*value[:at], changed_value(rng, value[at], odd), *value[at + 1 :]]
    return rng.choice(odd)


def write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8", errors="surrogatepass")


def model_yaml(rng: random.Random, folder: Path) -> Callable[[], object]:
    content = {**CONTENT, "scales": {"n": [1.0, 1.0, 512]}, "activation": "nn.ReLU()", "block": "Conv"}
    if rng.random() < 0.5:
        value = changed_value(rng, content)
        return lambda: RTDETRDetectionModel(value)
    write(folder / "net.yaml", changed_text(rng, yaml.safe_dump(content)))
    return lambda: RTDETRDetectionModel(folder / "net.yaml")


def data_yaml(rng: random.Random, folder: Path) -> Callable[[], object]:
    text = (folder / "shapes.yaml").read_text()
    if rng.random() < 0.5:
        value = changed_value(rng, yaml.safe_load(text))
        return lambda: load_dataset_config(value, download=False) if isinstance(value, dict) else None
    write(folder / "changed.yaml", changed_text(rng, text))
    return lambda: load_dataset_config(folder / "changed.yaml", download=False)


def scan(folder: Path, file: str) -> object:
    config = load_dataset_config(folder / file, ("val",), download=False)
    return len(build_dataset(get_cfg(overrides={"cache": False}), config, "val", training=False, imgsz=64))


def coco_json(rng: random.Random, folder: Path) -> Callable[[], object]:
    names = sorted(path.name for path in (folder / "shapes/images/val").iterdir())
    box = {"category_id": 1, "bbox": [5, 5, 9, 9], "iscrowd": 0}
    content = {
        "images": [{"id": i, "file_name": name, "width": 64, "height": 64} for i, name in enumerate(names)],
        "annotations": [{"id": i, "image_id": i, **box} for i in (0, 1)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    if rng.random() < 0.6:
        text = json.dumps(changed_value(rng, content, ODD_VALUES[:-1]), default=lambda _: "bytes")
    else:
        text = changed_text(rng, json.dumps(content))
    write(folder / "val.json", text)
    data = {"path": str(folder / "shapes"), "train": "images/train", "val": "images/val"}
    write(folder / "coco.yaml", yaml.safe_dump({**data, "annotations": {"val": str(folder / "val.json")}}))
    return lambda: scan(folder, "coco.yaml")


def labels(rng: random.Random, folder: Path) -> Callable[[], object]:
    file = sorted((folder / "shapes/labels/val").iterdir())[0]
    text = "0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.1 0.1 0.2 0.2 0.3 0.1\n"
    if rng.random() < 0.7:
        write(file, changed_text(rng, text))
    else:
        file.write_bytes(changed_bytes(rng, text.encode()))
    return lambda: scan(folder, "shapes.yaml")


def options(rng: random.Random, folder: Path) -> Callable[[], object]:
    key = rng.choice([*default_values(), "cfg", "x"])
    value = rng.choice([*ODD_VALUES, *default_values().values()])
    word = changed_text(rng, f"{key}={str(value)[:99] if value is not SHARED else 1}")
    if rng.random() < 0.5:
        return lambda: get_cfg(overrides={key: value})
    return lambda: parse_options([word, changed_text(rng, "epochs=3")])


def checkpoints(rng: random.Random, folder: Path) -> Callable[[], object]:
    file = folder / "changed.pt"
    if rng.random() < 0.5:
        file.write_bytes(changed_bytes(rng, (folder / "small.pt").read_bytes()))
    else:
        state = torch.load(folder / "small.pt", weights_only=True)
        state = changed_value(rng, {**state, "options": {"imgsz": 64, "data": "shapes.yaml"}})
        torch.save(state, file)
    return lambda: RTDETR(file, verbose=False).info(imgsz=64, verbose=False)


def onnx_metadata(rng: random.Random, folder: Path) -> Callable[[], object]:
    entries = {**PUBLISHED, "model_yaml": json.dumps({"nc": 2, "backbone": []}), "layout": "boxes and class scores"}
    if rng.random() < 0.5:
        key = rng.choice([*entries])
        entries[key] = changed_text(rng, entries[key])
    else:
        entries = changed_value(rng, entries)
    return lambda: Metadata.from_text(entries, "m.onnx")


def pictures(rng: random.Random, folder: Path) -> Callable[[], object]:
    file = folder / f"picture.{rng.choice(['png', 'jpg', 'bmp', 'gif', 'webp', 'tiff', 'ppm'])}"
    exif = Image.Exif()
    exif[0x0112] = rng.choice([1, 6, 9])
    pixels = np.random.default_rng(0).integers(0, 255, (32, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, exif=exif.tobytes())
    file.write_bytes(changed_bytes(rng, file.read_bytes()))
    return lambda: (read_image(file), probe_image(file))


KINDS = {  # cases of each
    model_yaml: 150, data_yaml: 300, coco_json: 150, labels: 120, options: 400, checkpoints: 50, onnx_metadata: 400,
    pictures: 250,
}  # fmt: skip


def peak() -> float:
    """Return the largest memory since the last call in MB; 0 where Linux does not report it."""
    try:
        text = Path("/proc/self/status").read_text()
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0.0
    return int(re.search(r"VmHWM:\s+(\d+)", text)[1]) / 1024


def stop(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def run(kind: Callable, folder: Path, count: int, seed: int = 0) -> list[str]:
    """Return a line for each case that ended in another way than in a value or an error of the package."""
    failures = []
    before = signal.signal(signal.SIGALRM, stop)
    for number in range(count):
        action = kind(random.Random(f"{kind.__name__} {seed} {number}"), folder)
        signal.alarm(SECONDS)
        start = time.monotonic()
        try:
            action()
        except UserError as error:
            if len(str(error)) > 3000 or not str(error):
                failures.append(f"case {number}: a message of {len(str(error))} characters")
        except Exception as error:  # what this test looks for
            place = error.__traceback__
            while place.tb_next:
                place = place.tb_next
            where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}"
            failures.append(f"case {number}: {type(error).__name__} at {where}: {str(error)[:150]}")
        finally:
            signal.alarm(0)
        if time.monotonic() - start > SECONDS:
            failures.append(f"case {number}: more than {SECONDS} s")
    signal.signal(signal.SIGALRM, before)
    return failures


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    write_shapes(folder, train=1, val=2)
    write_weights(folder)
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_odd_inputs_end_in_a_value_or_a_clear_error(kind, samples, monkeypatch):
    monkeypatch.setenv("ULTRALYTICS_CACHE", str(samples / "cache"))
    peak()
    base = peak()
    failures = run(kind, samples, KINDS[kind])
    assert not failures, "\n".join(failures)
    assert peak() - base < MEMORY


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    with tempfile.TemporaryDirectory() as name:
        write_shapes(Path(name), train=1, val=2)
        write_weights(Path(name))
        for kind, count in KINDS.items():
            lines = [line for seed in range(times) for line in run(kind, Path(name), count, seed)]
            print(f"{kind.__name__}: {len(lines)} of {times * count} failed", *lines, sep="\n  ", flush=True)
