"""What reading ahead brings: images a second with the frames decoded in a thread, and decoded by the caller.

    python benchmarks/sources.py                       # pictures of 1920 x 1080, the network on the processor
    python benchmarks/sources.py --network-ms 15       # a network elsewhere (GPU): the processor is free for 15 ms
    python benchmarks/sources.py --source folder/ --batch 8

Each repeat goes over the source both ways, in turns, so that other work on the machine meets both. Printed: the time of
each way and the ratio of every pair. `--network-ms` lets the caller sleep in place of a network.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from ultralytics.cfg import get_cfg
from ultralytics.data.loaders import AHEAD, load_source
from ultralytics.data.streams import Frame
from ultralytics.models.rtdetr.predict import RTDETRPredictor
from ultralytics.nn.tasks import RTDETRDetectionModel


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    network = make_network(args)
    with tempfile.TemporaryDirectory() as folder:
        kinds = {"given": args.source} if args.source else make_sources(Path(folder), args)
        print(
            "| source | decoded by the caller | read ahead | times faster (median, least, most) |\n|---|---:|---:|---:|"
        )
        for kind, source in kinds.items():
            run(source, network, args.batch, ahead=0)  # warms up
            pairs = []
            for turn in range(args.repeats):
                order = (0, AHEAD) if turn % 2 else (AHEAD, 0)
                pairs.append({ahead: run(source, network, args.batch, ahead=ahead) for ahead in order})
            waiting, ahead = (1000 * statistics.median(pair[way] for pair in pairs) for way in (0, AHEAD))
            ratios = sorted(pair[0] / pair[AHEAD] for pair in pairs)
            spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            print(f"| {kind} | {waiting:.1f} ms | {ahead:.1f} ms | {spread} |", flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", help="pictures or a video of yours; without it some are made")
    parser.add_argument("--images", type=int, default=40, help="how many are made")
    parser.add_argument("--model", default="rtdetr-efficientvit-m0.yaml")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--network-ms", type=float, help="of an image, slept in place of a network")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of torch and of OpenCV")
    return parser.parse_args()


def make_network(args: argparse.Namespace) -> Callable[[list[Frame]], None]:
    """What is done with a batch of frames: preprocess, network, boxes; or the network replaced by sleep."""
    given = {"mode": "predict", "device": "cpu", "imgsz": args.imgsz, "verbose": False}
    predictor = RTDETRPredictor(get_cfg(None, given))
    torch.manual_seed(0)
    predictor.setup_model(RTDETRDetectionModel(args.model))

    def predict(frames: list[Frame]) -> None:
        x = predictor.preprocess(frames)
        if args.network_ms is not None:
            time.sleep(args.network_ms / 1000 * len(frames))
            return
        with torch.no_grad():
            predictor.postprocess(predictor.inference(x), frames)

    return predict


def make_sources(folder: Path, args: argparse.Namespace) -> dict[str, Path]:
    """Pictures as JPEG and PNG, and a video, of blurred noise that compresses about as photographs do."""
    rng = np.random.default_rng(0)
    size, kinds = (1920, 1080), ("jpg", "png")
    video = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25, size)
    for kind in kinds:
        (folder / kind).mkdir()
    for number in range(args.images):
        coarse = rng.integers(0, 255, (size[1] // 6, size[0] // 6, 3), np.uint8)
        image = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
        video.write(image)
        for kind in kinds:
            cv2.imwrite(str(folder / kind / f"{number:03}.{kind}"), image)
    video.release()
    return {"JPEG": folder / "jpg", "PNG": folder / "png", "video": folder / "clip.mp4"}


def run(source: str | Path, network: Callable[[list[Frame]], None], batch: int, *, ahead: int) -> float:
    """Seconds of each frame."""
    start, count = time.perf_counter(), 0
    for frames in load_source(source, batch=batch, ahead=ahead):
        network(frames)
        count += len(frames)
    return (time.perf_counter() - start) / count


if __name__ == "__main__":
    main()
