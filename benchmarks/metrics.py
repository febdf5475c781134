"""Metrics of simulated detections: ours against the published packages' and pycocotools, and how ours grow.

    python benchmarks/metrics.py --peer 8.1.47=FOLDER          # 5,000 images x 300 predictions, in turns
    python benchmarks/metrics.py --scaling                     # to 100,000 images, and to 1,203 classes
    python benchmarks/metrics.py --protocols --repeats 3       # all protocols against pycocotools for COCO's alone

A peer is a folder for PYTHONPATH. Each side gets the same detections and labels in batches, as its validator gets them
from the network, and does all that follows: matching, confusion matrix, curves, AP. pycocotools gets them as arrays.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from interleave import Worker, in_turns, markdown, peers, serve

BATCH, SIZE = 16, 640


def main() -> None:
    args = parse_arguments()
    if args.serve:
        serve(lambda: prepare(args))
    elif args.scaling:
        scaling(args)
    elif args.protocols:
        protocols(args)
    else:
        compare(args)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", nargs="+", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--predictions", type=int, default=300, help="of each image")
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--coco-repeats", type=int, default=3, help="of pycocotools, which takes a minute; 0: none")
    parser.add_argument("--scaling", action="store_true", help="only ours, over the number of images and of classes")
    parser.add_argument("--protocols", action="store_true", help="all of ours against pycocotools, by processor time")
    parser.add_argument("--serve", choices=[*SIDES], help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(args: argparse.Namespace) -> None:
    size = ["--images", args.images, "--predictions", args.predictions, "--classes", args.classes]
    sides = {"ours": ("ours", None), **{name: ("theirs", folder) for name, folder in peers(args.peer).items()}}
    workers = {
        name: Worker(__file__, [*map(str, size), "--serve", kind], folder) for name, (kind, folder) in sides.items()
    }
    what = f"{args.images:,} images x {args.predictions} predictions, {args.classes} classes"
    rows = {what: in_turns({name: timed(worker) for name, worker in workers.items()}, args.repeats)}
    maps = {name: worker.result for name, worker in workers.items()}
    if args.coco_repeats:
        workers["pycocotools"] = Worker(__file__, [*map(str, size), "--serve", "coco"])
        pair = {name: timed(workers[name]) for name in ("ours", "pycocotools")}
        rows[f"the same, {args.coco_repeats} repeats"] = in_turns(pair, args.coco_repeats, warmup=0)
        maps["pycocotools"] = workers["pycocotools"].result
    print(markdown(rows, show=lambda seconds: f"{seconds:.2f} s"))
    print("\nmAP50-95: " + ", ".join(f"{name} {value:.4f}" for name, value in maps.items()))
    print("pycocotools sums precision at 101 recalls, the others the area between them, so it differs a little.")


def protocols(args: argparse.Namespace) -> None:
    """All protocols from the same arrays, and pycocotools for COCO's; processor seconds, in turns."""
    size = ["--images", args.images, "--predictions", args.predictions, "--classes", args.classes, "--protocols"]
    workers = {name: Worker(__file__, [*map(str, size), "--serve", name]) for name in ("protocols", "coco")}
    rows = [[workers[name]() for name in workers] for _ in range(args.repeats)]
    for number, ((ours, ap, memory), (theirs, other, other_memory)) in enumerate(rows, 1):
        print(
            f"turn {number}: ours {ours:.2f} s, {memory:.0f} MB; pycocotools {theirs:.2f} s, {other_memory:.0f} MB; "
            f"ratio {theirs / ours:.1f}; AP {ap:.12f} and {other:.12f}"
        )


def timed(worker: Worker) -> Callable[[], float]:
    """A function that lets the worker do one repeat and keeps its mAP."""

    def run() -> float:
        seconds, worker.result = worker()
        return seconds

    return run


def scaling(args: argparse.Namespace) -> None:
    """Time and memory of ours, each in a process of its own."""
    print("| images | predictions | classes | processor seconds | of an image | memory added |")
    print("|---:|---:|---:|---:|---:|---:|")
    sizes = [(n, args.classes) for n in (1000, 5000, 20_000, 50_000, 100_000)]
    for images, classes in [*sizes, *((5000, n) for n in (1, 10, 365, 1203))]:
        words = ["--images", images, "--predictions", args.predictions, "--classes", classes, "--serve", "growth"]
        worker = Worker(__file__, list(map(str, words)))
        seconds, megabytes = worker()
        worker.close()
        print(
            f"| {images:,} | {images * args.predictions:,} | {classes:,} | {seconds:.2f} "
            f"| {1e6 * seconds / images:.0f} us | {megabytes:.0f} MB |",
            flush=True,
        )


def prepare(args: argparse.Namespace) -> Callable[[Any], Any]:
    return SIDES[args.serve](args)


def simulate(images: int, predictions: int, classes: int, seed: int = 0) -> Iterator[tuple[np.ndarray, tuple]]:
    """Batches: detections (B, predictions, 6) as the network gives them, best first; labels (image, boxes, classes).

    Each image shows about seven objects of about three classes. Every object is found by a few good boxes, one of ten
    of them of a wrong class; all other predictions lie anywhere, half of them of the image's classes.
    """
    rng = np.random.default_rng(seed)
    for start in range(0, images, BATCH):
        count = min(BATCH, images - start)
        labels = rng.poisson(7, count)
        image = np.repeat(np.arange(count), labels)
        kinds = rng.integers(classes, size=(count, 3))
        cls = kinds[image, rng.integers(3, size=len(image))]
        sides = rng.uniform(12, 250, (len(image), 2))
        low = rng.uniform(0, 1, (len(image), 2)) * (SIZE - sides)
        boxes = np.hstack([low, low + sides]).astype(np.float32)

        found, owner = [], np.repeat(np.arange(count), predictions)
        low = rng.uniform(0, SIZE - 60, (len(owner), 2))
        anywhere = np.hstack([low, low + rng.uniform(10, 200, low.shape)])
        scores = rng.beta(1, 12, len(owner))
        guess = np.where(
            rng.random(len(owner)) < 0.5,
            kinds[owner, rng.integers(3, size=len(owner))],
            rng.integers(classes, size=len(owner)),
        )
        for i in range(count):  # the first predictions of an image are those that hit
            own = np.flatnonzero(image == i)
            hits = rng.permutation(np.repeat(own, 3))[:predictions]
            at = slice(i * predictions, i * predictions + len(hits))
            size = np.tile(boxes[hits, 2:] - boxes[hits, :2], 2)
            anywhere[at] = boxes[hits] + rng.normal(0, 0.07, (len(hits), 4)) * size
            scores[at] = rng.beta(3, 3, len(hits))
            wrong = rng.random(len(hits)) < 0.1
            guess[at] = np.where(wrong, rng.integers(classes, size=len(hits)), cls[hits])
        order = np.lexsort((-scores, owner))
        found = np.column_stack([anywhere, scores, guess])[order].astype(np.float32)
        yield found.reshape(count, predictions, 6), (image, boxes, cls)


def prepare_ours(args: argparse.Namespace) -> Callable[[Any], Any]:
    import torch

    batches = [
        (list(torch.from_numpy(found)), our_batch(torch, labels))
        for found, labels in simulate(args.images, args.predictions, args.classes)
    ]

    def run(_: Any) -> tuple[float, float]:
        return judge_ours(batches, args.classes)

    return run


def our_batch(torch: Any, labels: tuple) -> dict:
    """Labels as the loader gives them: centre and size in shares of the image."""
    image, boxes, cls = map(torch.from_numpy, labels)
    centred = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1) / SIZE
    img = torch.empty(1, 3, SIZE, SIZE, device="meta")
    return {"img": img, "batch_idx": image.float(), "cls": cls[:, None].float(), "bboxes": centred}


def judge_ours(batches: Any, classes: int, clock: Callable[[], float] = time.perf_counter) -> tuple[float, float]:
    from ultralytics.metrics.detection import DetMetrics
    from ultralytics.models.rtdetr.val import RTDETRValidator

    validator = RTDETRValidator(args={"mode": "val", "save_json": False})
    validator.metrics, validator.final = DetMetrics({i: str(i) for i in range(classes)}), False
    seconds = 0.0
    for detections, batch in batches:
        start = clock()
        validator.update_metrics(detections, batch)
        seconds += clock() - start
    start = clock()
    mean = validator.metrics.process().box.map
    return seconds + clock() - start, mean


def prepare_growth(args: argparse.Namespace) -> Callable[[Any], Any]:
    """Ours, the batches simulated on the way, so that the memory is that of the metrics."""
    import torch

    def batches(images: int):
        for found, labels in simulate(images, args.predictions, args.classes):
            yield list(torch.from_numpy(found)), our_batch(torch, labels)

    def run(_: Any) -> tuple[float, float]:
        judge_ours(batches(1), args.classes)  # imports, and first use of everything
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds, _ = judge_ours(batches(args.images), args.classes, time.process_time)
        return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024

    return run


def prepare_theirs(args: argparse.Namespace) -> Callable[[Any], Any]:
    """A published DetectionValidator, driven through its public methods as its own `__call__` does."""
    import torch

    import ultralytics
    from ultralytics.models.yolo.detect import DetectionValidator

    batches = []
    for found, labels in simulate(args.images, args.predictions, args.classes):
        batch, count = our_batch(torch, labels), len(found)
        batch["img"] = torch.empty(count, 3, SIZE, SIZE, device="meta")
        whole = {"ori_shape": [(SIZE, SIZE)] * count, "ratio_pad": [((1.0, 1.0), (0.0, 0.0))] * count}
        names = {"im_file": [f"{i}.jpg" for i in range(count)]}
        batches.append((list(torch.from_numpy(found)), {**batch, **whole, **names}))
    names = {i: str(i) for i in range(args.classes)}
    if not hasattr(np, "trapz"):
        np.trapz = np.trapezoid  # 8.1.47 was written for NumPy 1, which called it so
    takes_dicts = tuple(map(int, ultralytics.__version__.split(".")[:2])) >= (8, 3)  # of the newer versions

    def run(_: Any) -> tuple[float, float]:
        folder = Path("benchmark-metrics")
        validator = DetectionValidator(save_dir=folder, args={"task": "detect", "mode": "val", "plots": True})
        validator.device, validator.data = torch.device("cpu"), {"val": "", "names": names, "nc": len(names)}
        validator.init_metrics(SimpleNamespace(names=names, end2end=False))
        validator.metrics.plot = False  # pictures of the curves are not compared
        seconds = 0.0
        for detections, batch in batches:
            found = [as_dict(rows) for rows in detections] if takes_dicts else detections
            start = time.perf_counter()
            validator.update_metrics(found, batch)
            seconds += time.perf_counter() - start
        start = time.perf_counter()
        stats = validator.get_stats()
        return seconds + time.perf_counter() - start, float(stats["metrics/mAP50-95(B)"])

    return run


def as_dict(rows: Any) -> dict:
    return {"bboxes": rows[:, :4], "conf": rows[:, 4], "cls": rows[:, 5], "extra": rows[:, 6:]}


def prepare_coco(args: argparse.Namespace) -> Callable[[Any], Any]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations, rows, images = [], [], 0
    for found, (image, boxes, cls) in simulate(args.images, args.predictions, args.classes):
        for i, box, kind in zip(image.tolist(), boxes.tolist(), cls.tolist(), strict=True):
            x, y, w, h = box[0], box[1], box[2] - box[0], box[3] - box[1]
            entry = {"image_id": images + i, "category_id": kind, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, **entry})
        number = np.repeat(np.arange(images, images + len(found)), found.shape[1])
        flat = found.reshape(-1, 6).astype(float)
        rows.append(np.column_stack([number, flat[:, :2], flat[:, 2:4] - flat[:, :2], flat[:, 4:]]))
        images += len(found)
    truth = COCO()
    categories = [{"id": i, "name": str(i)} for i in range(args.classes)]
    truth.dataset = {"images": [{"id": i} for i in range(images)], "annotations": annotations, "categories": categories}
    truth.createIndex()
    rows = np.concatenate(rows)

    clock = time.process_time if args.protocols else time.perf_counter

    def run(_: Any) -> tuple[float, ...]:
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, clock()
        judge = COCOeval(truth, truth.loadRes(rows), "bbox")
        judge.params.maxDets = [1, 10, 100 if args.protocols else args.predictions]
        judge.evaluate()
        judge.accumulate()
        precision = judge.eval["precision"][:, :, :, 0, 2]
        mean = float(precision[precision > -1].mean())
        seconds = clock() - start
        return (seconds, mean, *((growth_since(before),) if args.protocols else ()))

    return run


def prepare_protocols(args: argparse.Namespace) -> Callable[[Any], Any]:
    from ultralytics.metrics.boxes import EvalBoxes
    from ultralytics.metrics.protocols import PROTOCOLS, evaluate

    found, labels, images = [], [], 0
    for rows, (image, boxes, cls) in simulate(args.images, args.predictions, args.classes):
        number = np.repeat(np.arange(images, images + len(rows)), rows.shape[1])
        found.append(np.column_stack([number, rows.reshape(-1, 6).astype(float)]))
        labels.append(np.column_stack([image + images, cls, boxes.astype(float)]))
        images += len(rows)
    found, labels = np.concatenate(found), np.concatenate(labels)
    boxes, true = (np.hstack([part[:, :2], part[:, 2:4] - part[:, :2]]) for part in (found[:, 1:5], labels[:, 2:]))
    none = np.zeros(len(labels), bool)
    columns = (found[:, 0].astype(int), found[:, 6].astype(int), found[:, 5].copy(), boxes)
    truth = (labels[:, 0].astype(int), labels[:, 1].astype(int), true, true.prod(1, where=[False, False, True, True]))

    def run(_: Any) -> tuple[float, ...]:
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        made = EvalBoxes.build(range(images), {i: str(i) for i in range(args.classes)}, columns, (*truth, none, none))
        results = {name: evaluate(made, protocol) for name, protocol in PROTOCOLS.items()}
        return time.process_time() - start, results["coco"].stats["AP"], growth_since(before)

    return run


def growth_since(before: int) -> float:
    """Megabytes that the highest use of memory has grown."""
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


SIDES = {
    "ours": prepare_ours,
    "theirs": prepare_theirs,
    "coco": prepare_coco,
    "growth": prepare_growth,
    "protocols": prepare_protocols,
}

if __name__ == "__main__":
    main()
