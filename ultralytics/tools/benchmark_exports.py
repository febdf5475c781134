"""`yolo benchmark model=best.pt data=my.yaml`: accuracy, speed, size and memory of every export, in one table."""

from __future__ import annotations

from typing import Annotated

from ultralytics.cfg.values import DeviceName, OneOf, Range, SomeOf
from ultralytics.tools.common import open_detector


def command(
    model: str,
    data: str | None = None,
    formats: str | list[str] = "pytorch,torchscript,onnx,openvino",
    precisions: Annotated[str | list[str], SomeOf("float32", "float16", "int8")] = "float32,float16,int8",
    imgsz: Annotated[int | list[int] | None, Range(32)] = None,
    batch: Annotated[int, Range(1)] = 1,
    device: Annotated[str | int | list[int] | None, DeviceName()] = None,
    warmup: Annotated[int, Range(0)] = 10,
    repeats: Annotated[int, Range(2)] = 50,
    split: Annotated[str, OneOf("train", "val", "test")] = "val",
    project: str | None = None,
    name: str | None = None,
) -> None:
    """Export in every format and precision, and measure each file in a process of its own.

    Args:
        model: weights (.pt).
        data: data set for validation and int8 calibration; by default that of the training.
        formats: pytorch, torchscript, onnx, openvino, engine or safetensors, comma-separated.
        precisions: float32, float16 or int8, comma-separated; unsupported combinations are skipped.
        imgsz: one or several sizes in pixels; by default that of the training.
        batch: images in one run.
        device: see `yolo cfg`.
        warmup: runs that are not timed.
        repeats: timed runs.
        split: train, val or test.
        project: folder of the results, `runs/benchmark` by default.
        name: folder in it, `benchmark` by default; numbered when taken.

    Raises:
        UserError: the weights or the data set cannot be used. A failed export is a remark in its row.
    """
    open_detector(model, exported=True).benchmark(
        data=data, formats=formats, precisions=precisions, imgsz=imgsz, batch=batch, device=device, warmup=warmup,
        repeats=repeats, split=split, project=project, name=name,
    )  # fmt: skip
