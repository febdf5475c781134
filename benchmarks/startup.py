"""How long it takes until something happens: the command line, imports, and one image with detect.py.

    python benchmarks/startup.py --peer 8.1.47=FOLDER

A peer is a folder for PYTHONPATH. Every repeat is a process of its own, in turns, timed from its start to its end; for
`from ultralytics import RTDETR` the process has imported torch, and times the line itself. detect.py: one image at 640
pixels, drawn and saved, by ours from weights of EfficientViT-M0, by theirs from the model file rtdetr-l.yaml (published
versions cannot read weights under every torch). So that the networks do not count, each process's forward pass, as it
says itself ("... ms inference"), is taken off its time.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from interleave import environment, in_turns, markdown, peers

COMMAND = "import sys; sys.argv = ['yolo', '{}']; from ultralytics.cfg import entrypoint; entrypoint()"
TIMED_IMPORT = (
    "import time, torch\nstart = time.perf_counter()\nfrom ultralytics import RTDETR\n"
    "print('seconds', time.perf_counter() - start)"
)
THEIR_DETECT = (
    "from ultralytics import RTDETR\n"
    "RTDETR('rtdetr-l.yaml').predict('image.jpg', save=True, conf=0.25, imgsz=640, device='cpu', project='runs')"
)
OUR_DETECT = Path(__file__).resolve().parents[1] / "detect.py"


def main() -> None:
    args = parse_arguments()
    folders = {"ours": None, **peers(args.peer)}
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder))
        for what, side in MEASURED.items():
            rows[what] = in_turns({name: partial(side, path, folder) for name, path in folders.items()}, args.repeats)
    print(markdown(rows, show=lambda seconds: f"{seconds:.3f} s"))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", nargs="+", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--repeats", type=int, default=10)
    return parser.parse_args()


def make_files(folder: Path) -> None:
    import cv2
    import numpy as np

    from ultralytics import RTDETR
    from ultralytics.data.synthetic import draw_image

    image, _ = draw_image(np.random.default_rng(0), 554)
    cv2.imwrite(str(folder / "image.jpg"), image)
    RTDETR("rtdetr-efficientvit-m0.yaml").save(folder / "m0.pt")


def run(peer: str | None, folder: str, *words: str) -> tuple[float, str]:
    """Seconds of a process from start to end, and what it has said."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment(peer), capture_output=True, text=True, encoding="utf-8"
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} with {peer or 'our package'} failed:\n{done.stderr[-2000:]}")
    return seconds, done.stdout + done.stderr


def whole(code: str, peer: str | None, folder: str) -> float:
    return run(peer, folder, "-c", code)[0]


def timed_import(peer: str | None, folder: str) -> float:
    return float(re.search(r"seconds ([\d.e-]+)", run(peer, folder, "-c", TIMED_IMPORT)[1])[1])


def detect(peer: str | None, folder: str, *, forward: bool = False) -> float:
    """Seconds of the process without its forward pass, or with it."""
    ours = (str(OUR_DETECT), "--weights", "m0.pt", "--source", "image.jpg", "--project", "runs", "--device", "cpu")
    seconds, said = run(peer, folder, *(("-c", THEIR_DETECT) if peer else ours))
    return seconds if forward else seconds - float(re.search(r"([\d.]+) ?ms inference", said)[1]) / 1000


MEASURED: dict[str, Callable[[str | None, str], float]] = {
    "`yolo version`": partial(whole, COMMAND.format("version")),
    "`yolo help`": partial(whole, COMMAND.format("help")),
    "`import ultralytics`": partial(whole, "import ultralytics"),
    "`from ultralytics import RTDETR`, torch imported before": timed_import,
    "detect.py, one image, without the forward pass": detect,
    "detect.py, one image, with it (m0, rtdetr-l)": partial(detect, forward=True),
}

if __name__ == "__main__":
    main()
