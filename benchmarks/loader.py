"""Training images a second from JPEG: mosaic, affine, HSV and flip, ours against the published packages' loader.

    python benchmarks/loader.py --peer 8.1.47=FOLDER        # cache off, disk and ram, in turns
    python benchmarks/loader.py --workers 0 1 2             # ours over the number of workers

A peer is a folder for PYTHONPATH. 256 drawn JPEGs of about 640 x 480 pixels' area; one process, and one thread for
OpenCV on both sides, unless --workers says otherwise. A repeat is an epoch.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from interleave import Worker, in_turns, markdown, peers, serve

NAMES = ("circle", "square", "triangle", "star", "cross", "ring")
CACHES = {"off": False, "disk": "disk", "ram": "ram"}


def main() -> None:
    args = parse_arguments()
    if args.serve:
        serve(lambda: SIDES[args.serve](args))
        return
    with ExitStack() as stack:
        if args.data is None:
            args.data = stack.enter_context(tempfile.TemporaryDirectory())
            make_data(Path(args.data), args.images)
        if args.workers:
            over_workers(args)
        else:
            compare(args)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", nargs="+", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--data", help="folder with images/train and labels/train of the six shapes; drawn if missing")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--resize", choices=["stretch", "letterbox"], default="stretch", help="of RT-DETR, of YOLO")
    parser.add_argument("--cache", nargs="+", choices=[*CACHES], default=[*CACHES])
    parser.add_argument("--workers", type=int, nargs="+", default=[], help="only ours, with so many worker processes")
    parser.add_argument("--threads", type=int, default=1, help="of OpenCV")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--serve", choices=[*SIDES], help=argparse.SUPPRESS)
    return parser.parse_args()


def make_data(root: Path, images: int) -> None:
    from ultralytics.data.synthetic import generate_shapes

    generate_shapes(root, images_train=images, images_val=1, size=554)  # 554 x 554 are as many pixels as 640 x 480


def start(args: argparse.Namespace, kind: str, folder: str | None, cache: str, root: str, workers: int = 0) -> Worker:
    size = {"--imgsz": args.imgsz, "--batch": args.batch, "--threads": args.threads, "--workers": workers}
    words = [word for key, value in size.items() for word in (key, str(value))]
    return Worker(
        __file__, [*words, "--resize", args.resize, "--cache", cache, "--data", root, "--serve", kind], folder
    )


def compare(args: argparse.Namespace) -> None:
    """Each side has a copy of the files, as both put their caches beside them."""
    rows = {}
    for cache in args.cache:
        with tempfile.TemporaryDirectory() as copies:
            sides = {"ours": ("ours", None), **{name: ("theirs", folder) for name, folder in peers(args.peer).items()}}
            workers = {}
            for name, (kind, folder) in sides.items():
                root = shutil.copytree(args.data, Path(copies, name))
                workers[name] = start(args, kind, folder, cache, str(root))
            rows[f"cache {cache}"] = in_turns(workers, args.repeats)
            for worker in workers.values():
                worker.close()
    print(markdown(rows, show=lambda seconds: f"{1 / seconds:.0f} images/s"))


def over_workers(args: argparse.Namespace) -> None:
    print("| cache | " + " | ".join(f"{n} workers" for n in args.workers) + " |")
    print("|---|" + "---:|" * len(args.workers))
    for cache in args.cache:
        sides = {str(n): start(args, "ours", None, cache, args.data, n) for n in args.workers}
        times = in_turns(sides, args.repeats)
        for worker in sides.values():
            worker.close()
        print(f"| {cache} | " + " | ".join(f"{1 / min(t):.0f} images/s" for t in times.values()) + " |", flush=True)


def prepare_ours(args: argparse.Namespace) -> Callable[[Any], float]:
    import cv2

    from ultralytics.cfg import get_cfg
    from ultralytics.data.build import build_dataloader, build_dataset
    from ultralytics.data.dataset_yaml import load_dataset_config

    cv2.setNumThreads(args.threads)
    given = {"imgsz": args.imgsz, "augmentation": "mosaic", "cache": CACHES[args.cache[0]], "mode": "train"}
    data = {"path": args.data, "train": "images/train", "val": "images/val", "names": list(NAMES)}
    dataset = build_dataset(
        get_cfg(overrides=given), load_dataset_config(data), "train", training=True, resize=args.resize
    )
    loader = build_dataloader(dataset, batch=args.batch, workers=args.workers[0], shuffle=True)
    epochs = iter(range(10**6))

    def epoch(_: Any) -> float:
        loader.set_epoch(next(epochs))
        return seconds_an_image(loader)

    return epoch


def prepare_theirs(args: argparse.Namespace) -> Callable[[Any], float]:
    """A published data set with its default augmentation: the same steps and strengths as our `mosaic`."""
    import cv2

    from ultralytics.cfg import get_cfg
    from ultralytics.data.build import build_dataloader
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.models.rtdetr.val import RTDETRDataset

    options = get_cfg(overrides={"task": "detect", "mode": "train", "imgsz": args.imgsz})
    dataset = (YOLODataset if args.resize == "letterbox" else RTDETRDataset)(
        img_path=f"{args.data}/images/train",
        imgsz=args.imgsz,
        batch_size=args.batch,
        augment=True,
        hyp=options,
        rect=False,
        cache=CACHES[args.cache[0]] or None,
        prefix="",
        data={"path": args.data, "names": dict(enumerate(NAMES)), "nc": len(NAMES), "channels": 3},
    )
    loader = build_dataloader(dataset, args.batch, args.workers[0], shuffle=True, rank=-1)
    cv2.setNumThreads(args.threads)
    return lambda _: seconds_an_image(loader)


def seconds_an_image(loader: Any) -> float:
    begin, count = time.perf_counter(), 0
    for batch in loader:
        count += len(batch["img"])
    return (time.perf_counter() - begin) / count


SIDES = {"ours": prepare_ours, "theirs": prepare_theirs}

if __name__ == "__main__":
    main()
