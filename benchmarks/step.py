"""Where the time of a training step goes: one row a setting, in milliseconds of processor time.

    python benchmarks/step.py --denoising 100 20 0
    python benchmarks/step.py --one-to-many 1 --boxes 50
    python benchmarks/step.py --profile            # and the dearest operations of torch

Images and boxes are random; the shortest of --repeats steps counts, after one that warms up. Processor time hardly
minds what else the machine does, and with one thread it is what a step takes.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

from ultralytics.losses.detr import RTDETRDetectionLoss
from ultralytics.nn.accelerate import for_training
from ultralytics.nn.tasks import RTDETRDetectionModel

PARTS = ("before the decoder", "decoder", "loss", "backward", "optimiser", "step")


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    print(f"| denoising | {' | '.join(PARTS)} |\n|---:|{'---:|' * len(PARTS)}")
    for denoising in args.denoising:
        step = make_step(args, denoising)
        step()
        rows = [step() for _ in range(args.repeats)]
        print(f"| {denoising} | {' | '.join(f'{1000 * min(row[part] for row in rows):.0f}' for part in PARTS)} |")
        if args.profile:
            with torch.profiler.profile() as profiler:
                step()
            print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=20))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="rtdetr-efficientvit-m0.yaml")
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--boxes", type=int, default=12, help="of each image")
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--denoising", type=int, nargs="+", default=[100], help="one row each")
    parser.add_argument("--loss-class", default="vfl")
    parser.add_argument("--one-to-many", type=float, default=0.0)
    parser.add_argument("--bfloat16", action="store_true", help="mixed precision")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--profile", action="store_true")
    return parser.parse_args()


def make_step(args: argparse.Namespace, denoising: int) -> Callable[[], dict[str, float]]:
    """A function that does one training step and returns the seconds of each part."""
    torch.manual_seed(0)
    settings = {"num_queries": args.queries, "num_denoising": denoising}
    model = RTDETRDetectionModel(args.model, nc=args.classes, overrides=settings).train()
    model.criterion = RTDETRDetectionLoss(args.classes, loss_class=args.loss_class, one_to_many=args.one_to_many)
    head = model.model[-1]
    head.set_one_to_many(args.one_to_many > 0)
    for_training(model)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
    batch = random_batch(args)
    spent: dict[str, float] = defaultdict(float)
    head.forward = timed(head.forward, "decoder", spent)
    model.criterion.forward = timed(model.criterion.forward, "loss", spent)

    def step() -> dict[str, float]:
        spent.clear()
        moments = [time.process_time()]
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
            total, _ = model(dict(batch))
        moments.append(time.process_time())
        total.backward()
        moments.append(time.process_time())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        moments.append(time.process_time())
        forward, backward, update = (b - a for a, b in pairwise(moments))
        spent["before the decoder"] = forward - spent["decoder"] - spent["loss"]
        return {**spent, "backward": backward, "optimiser": update, "step": moments[-1] - moments[0]}

    return step


def random_batch(args: argparse.Namespace) -> dict[str, torch.Tensor]:
    count = args.batch * args.boxes
    return {
        "img": torch.rand(args.batch, 3, args.imgsz, args.imgsz),
        "cls": torch.randint(args.classes, (count, 1)).float(),
        "bboxes": torch.cat((0.2 + 0.6 * torch.rand(count, 2), 0.05 + 0.2 * torch.rand(count, 2)), 1),
        "batch_idx": torch.arange(args.batch).repeat_interleave(args.boxes).float(),
    }


def timed(function: Callable[..., Any], part: str, spent: dict[str, float]) -> Callable[..., Any]:
    """The function, which adds the processor time of each call to `spent[part]`."""

    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        result = function(*args, **kwargs)
        spent[part] += time.process_time() - start
        return result

    return call


if __name__ == "__main__":
    main()
