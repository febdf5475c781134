"""The `yolo` command: finds out what is asked and hands it to the class that does it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import ultralytics
from ultralytics.cfg.arguments import parse_arguments, parse_call, run_guarded
from ultralytics.cfg.options import DEFAULT_CFG_PATH, MODES, get_cfg
from ultralytics.utils import LOGGER, setup_logging
from ultralytics.utils.errors import UserError, did_you_mean
from ultralytics.utils.files import resumed_weights, write_text

TASK = "detect"
COPY_NAME = "default_copy.yaml"

HELP = """\
yolo [detect] train|val|predict|export key=value ...

  yolo train    model=rtdetr-efficientvit-m0.yaml data=my.yaml epochs=72 imgsz=640 batch=4
  yolo val      model=runs/detect/train/weights/best.pt data=my.yaml
  yolo predict  model=runs/detect/train/weights/best.pt source=image.jpg conf=0.25
  yolo export   model=runs/detect/train/weights/best.pt format=onnx
  yolo train    model=runs/detect/train/weights/last.pt resume=True

  model=   a model YAML to start anew, weights (.pt), or an exported model
  data=    a data YAML; shapes.yaml is built in and needs no download
  source=  image, folder, 'pattern*.jpg', video, camera number, or stream address
  cfg=     a YAML file of options

Modules and model files:
  yolo inspect  model=my-model.yaml            layer table, warnings, pictures of the graph
  yolo new      module=MyNet kind=attention    a starting file and a model YAML
  yolo contract module=MyNet                   whether a module keeps to what training and export need
  yolo models   folder=my-models               parameters and GFLOPs of every model YAML
  yolo profile  model=my-model.yaml            parameters, GFLOPs and time of every layer
  yolo fps      model=best.pt                  latency, images a second, memory

Runs and their results:
  yolo benchmark    model=best.pt data=my.yaml             accuracy, speed, size and memory of every export
  yolo table        runs/detect/val runs/detect/val2       one table of several runs, with differences
  yolo plot-results runs/detect/train runs/detect/train2   metrics and losses of several runs in a picture
  yolo heatmap      model=best.pt source=image.jpg         class-activation maps
  yolo coco         annotations=val.json predictions=predictions.json   COCO's official figures

Data sets:
  yolo yolo2coco data=my.yaml split=val         YOLO labels to a COCO json
  yolo xml2txt   xml=Annotations save=labels    Pascal VOC to YOLO labels
  yolo split     images=all/images save=my      images dealt out to train, val and test

Also:
  yolo cfg        every option, its default and what it does
  yolo copy-cfg   a copy of that file to edit, for cfg=
  yolo checks     versions, processor, GPU and memory of this machine
  yolo version
  yolo help
"""

# What people may ask for out of habit.
_ELSEWHERE = {
    "track": "there is no tracking here; `yolo predict` detects in each frame of a video",
    "segment": "this package detects boxes and has no segmentation",
    "classify": "this package detects boxes and has no classification",
    "pose": "this package detects boxes and has no pose estimation",
    "obb": "this package detects upright boxes",
    "settings": "there is no settings file; everything is an option, see `yolo cfg`",
}

_MODES_IN_WORDS = "train, val, predict or export"
_EXAMPLES = {
    "train": "yolo train model=rtdetr-efficientvit-m0.yaml data=shapes.yaml",
    "val": "yolo val model=runs/detect/train/weights/best.pt",
    "predict": "yolo predict model=runs/detect/train/weights/best.pt source=image.jpg",
    "export": "yolo export model=runs/detect/train/weights/best.pt format=onnx",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (the process's own by default) and return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    return run_guarded(lambda: run_command(words))


def run_command(words: Sequence[str]) -> None:
    """Do what the words ask; UserError for what cannot be understood or done."""
    first = words[0].lstrip("-") if words else "help"
    first = {"h": "help", "v": "version"}.get(first, first)
    if first in _COMMANDS:
        if len(words) > 1:
            raise UserError(f"yolo {first}: takes nothing more, got {' '.join(words[1:])!r}")
        _COMMANDS[first]()
        return
    if first in _TOOLS:
        tool = importlib.import_module(_TOOLS[first]).command
        tool(**parse_call(tool, words[1:], f"yolo {first}"))
        return
    mode, rest = split_mode(words)
    run_mode(mode, parse_arguments(rest))


def split_mode(words: Sequence[str]) -> tuple[str, list[str]]:
    """The mode and the words after it: from `detect train ...`, `train ...`, or `mode=train ...` anywhere."""
    rest = list(words)
    if rest and rest[0] == TASK:
        rest.pop(0)
    named = [word for word in rest if word.startswith(("mode=", "--mode="))]
    if rest and rest[0] in MODES:
        mode = rest.pop(0)
        if named:
            raise UserError(f"the mode is given twice: {mode!r} and {named[0]!r}; keep one")
        return mode, rest
    if rest and "=" not in rest[0] and not rest[0].startswith("-"):
        raise UserError(_about_mode(rest[0]))
    if not named:
        raise UserError(f"yolo: say what to do, {_MODES_IN_WORDS}, for example `{_EXAMPLES['train']}`; see `yolo help`")
    mode = named[0].partition("=")[2]
    if mode not in MODES:
        raise UserError(_about_mode(mode))
    return mode, [word for word in rest if word is not named[0]]


def _about_mode(word: str) -> str:
    if word in _ELSEWHERE:
        return f"yolo {word}: {_ELSEWHERE[word]}"
    near = did_you_mean(word, (*MODES, *_COMMANDS, *_TOOLS))
    return f"yolo: unknown command {word!r}{near or f'; expected {_MODES_IN_WORDS}, or `yolo help`'}"


def run_mode(mode: str, given: dict[str, object]) -> None:
    """Train, validate, predict or export with the given options, which are checked whole before torch is imported."""
    options = get_cfg(overrides={**given, "mode": mode})
    model = options.model or resumed_weights(options.resume)
    if model is None:
        raise UserError(f"yolo {mode}: model= is missing; for example `{_EXAMPLES[mode]}`")
    if mode == "train" and options.data is None and not options.resume:
        raise UserError(f"yolo train: data= is missing; for example `{_EXAMPLES[mode]}`")
    if mode == "predict" and options.source is None:
        raise UserError(f"yolo predict: source= is missing; for example `{_EXAMPLES[mode]}`")
    setup_logging(options.verbose)
    passed = {key: value for key, value in given.items() if key not in ("task", "mode", "model", "source")}

    from ultralytics import RTDETR

    network = RTDETR(model)
    if mode == "train":
        network.train(**passed)
    elif mode == "val":
        network.val(**passed)
    elif mode == "export":
        network.export(**passed)
    else:
        # On the command line the pictures are the result. As a stream, a video needs no memory for all its frames.
        for _ in network.predict(source=options.source, stream=True, **{"save": True, **passed}):
            pass


# Commands about modules, model files, runs and data sets: each lives in a file of its own, as a function `command`
# whose parameters are the words it takes.
_TOOLS = {
    "inspect": "ultralytics.inspect.command",
    "contract": "ultralytics.nn.contract.run",
    "new": "ultralytics.nn.scaffold",
    "benchmark": "ultralytics.tools.benchmark",
    "table": "ultralytics.tools.ablation",
    "fps": "ultralytics.tools.fps",
    "profile": "ultralytics.tools.profile",
    "models": "ultralytics.tools.zoo",
    "heatmap": "ultralytics.tools.heatmap",
    "plot-results": "ultralytics.tools.overlay",
    "coco": "ultralytics.tools.coco",
    "yolo2coco": "ultralytics.tools.yolo2coco",
    "xml2txt": "ultralytics.tools.xml2txt",
    "split": "ultralytics.tools.split",
}


def _print_help() -> None:
    print(HELP, end="")


def _print_version() -> None:
    print(ultralytics.__version__)


def _print_options() -> None:
    print(DEFAULT_CFG_PATH.read_text(encoding="utf-8"), end="")


def _print_checks() -> None:
    from ultralytics.utils.checks import checks

    checks()


def _copy_options() -> None:
    copy = Path(COPY_NAME)
    if copy.exists():
        raise UserError(f"{copy}: is there already; rename or delete it first")
    write_text(copy, DEFAULT_CFG_PATH.read_text(encoding="utf-8"))
    LOGGER.info(f"{copy} written; edit it and use it: yolo train cfg={copy} model=... data=...")


_COMMANDS: dict[str, Callable[[], None]] = {
    "help": _print_help,
    "version": _print_version,
    "checks": _print_checks,
    "cfg": _print_options,
    "copy-cfg": _copy_options,
}
