"""Words of a command line turned into checked options, for the `yolo` command and the scripts train, val and detect.

`epochs=72`, `--epochs 72` and `--epochs=72` say the same. A value is read by what its option may be: `name=007` stays
text, `lr0=1e-4` is a number, `device=0,1` names two GPUs. Nothing is evaluated.
"""

from __future__ import annotations

import errno
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import get_type_hints

from ultralytics.cfg.options import (
    DEFAULT_CFG_PATH,
    MODES,
    alternatives,
    check_key,
    check_options,
    check_value,
    get_cfg,
    option_types,
    options_in,
)
from ultralytics.utils import LOGGER, __version__, setup_logging
from ultralytics.utils.errors import OptionError, UserError, did_you_mean
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
  yolo check    module=MyNet                   whether a module works in training, saving and export
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

    from ultralytics.models.rtdetr.model import RTDETR

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
    "inspect": "ultralytics.tools.inspect_model",
    "check": "ultralytics.nn.module_check.run_checks",
    "new": "ultralytics.nn.scaffold",
    "benchmark": "ultralytics.engine.benchmark",
    "table": "ultralytics.tools.compare_runs",
    "fps": "ultralytics.tools.fps",
    "profile": "ultralytics.tools.profile_layers",
    "models": "ultralytics.tools.model_table",
    "heatmap": "ultralytics.tools.heatmap",
    "plot-results": "ultralytics.tools.plot_runs",
    "coco": "ultralytics.tools.coco_metrics",
    "yolo2coco": "ultralytics.tools.yolo2coco",
    "xml2txt": "ultralytics.tools.xml2txt",
    "split": "ultralytics.tools.split",
}


def _print_help() -> None:
    print(HELP, end="")


def _print_version() -> None:
    print(__version__)


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


EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, what shells report for Ctrl-C

_BOOLEANS = {"true": True, "false": False}
_NULLS = ("null", "none", "~")
_NO_ALIASES: Mapping[str, str] = {}


def parse_arguments(arguments: Sequence[str], aliases: Mapping[str, str] = _NO_ALIASES) -> dict[str, object]:
    """Checked options in the order given. `aliases` are further names for options, {'weights': 'model'}.

    `cfg=FILE` stands for the options in that file; what the command line says itself goes before them.
    OptionError for anything that cannot be read, with the way to write it.
    """
    words = list(arguments)
    given: dict[str, object] = {}
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            key, text = _dashed(word, words, aliases)
        elif "=" in word:
            key, _, text = word.partition("=")
            key = _option_name(key, aliases) if key and text else _complain_of_spaces(word)
        else:
            raise OptionError(_about_bare_word(word, words))
        if key in given:
            raise OptionError(f"{key}: given twice ({given[key]!r} and {text!r}); keep one")
        given[key] = text if key == "cfg" else parse_value(key, text)
    file = given.pop("cfg", None)
    # A null in a file is the default written out (see `yolo copy-cfg`), so it is not passed on as a choice.
    from_file = {key: value for key, value in options_in(file).items() if value is not None}
    return {**from_file, **check_options(given)}


def parse_call(
    function: Callable[..., object],
    arguments: Sequence[str],
    command: str,
    aliases: Mapping[str, str] = _NO_ALIASES,
) -> dict[str, object]:
    """Words `key=value` or `--key value` as arguments of a function, read and checked by its annotations.

    A switch may stand alone, `--half`. Words without a key go to the parameter that is a list of texts, if there is
    one. `aliases` are further names for parameters. OptionError names `command` and what the function takes.
    """
    parameters, types = inspect.signature(function).parameters, get_type_hints(function, include_extras=True)
    usage = " ".join(f"{key}=..." if p.default is p.empty else f"[{key}={p.default}]" for key, p in parameters.items())
    listed = next((key for key in parameters if alternatives(types[key]) == (list[str],)), None)
    given: dict[str, object] = {}
    words, bare = list(arguments), []
    while words:
        word = words.pop(0)
        if listed and "=" not in word and not word.startswith("--"):
            bare.append(word)
            continue
        key, equals, text = word.removeprefix("--").partition("=")
        if word.startswith("--"):
            key = key.replace("-", "_")
        key = aliases.get(key, key)
        if key not in parameters:
            raise OptionError(f"{command}: unknown word {word!r}{did_you_mean(key, parameters)}; it takes {usage}")
        if word.startswith("--") and not equals:
            text = _value_of_switch(types[key], words)
        if not text:
            raise OptionError(f"{command}: the value of {key} is missing; it takes {usage}")
        if key in given:
            raise OptionError(f"{command}: {key} is given twice; keep one")
        value = text.split(",") if key == listed else read_value(text, types[key])
        given[key] = check_value(key, value, types[key])
    if bare and listed in given:
        raise OptionError(f"{command}: {listed} is given twice, as {listed}= and as {bare[0]!r}; keep one")
    if bare:
        given[listed] = bare
    if missing := [key for key, p in parameters.items() if p.default is p.empty and key not in given]:
        raise OptionError(f"{command}: {missing[0]}= is missing; it takes {usage}")
    return given


def _value_of_switch(annotation: object, rest: list[str]) -> str:
    """What stands behind `--key`, taken off `rest`: nothing is True for a switch, and missing for anything else."""
    if alternatives(annotation) == (bool,):
        return rest.pop(0) if rest and rest[0].lower() in _BOOLEANS else "True"
    return rest.pop(0) if rest and not rest[0].startswith("--") else ""


def parse_value(key: str, text: str) -> object:
    """The text as what the option may be; as text where nothing fits, for the check to answer."""
    return read_value(text, option_types()[key])


def read_value(text: str, annotation: object) -> object:
    """The text as one of the types of an annotation; as text where nothing fits."""
    kinds = alternatives(annotation)
    text = text.strip()
    word = text.lower()
    # An option that takes any text keeps what only looks like a number; the others read it, if only to be told apart.
    reads = (lambda kind: kind in kinds) if str in kinds else (lambda kind: True)
    if reads(type(None)) and word in _NULLS:
        return None
    if reads(bool) and word in _BOOLEANS:
        return _BOOLEANS[word]
    if reads(int) and re.fullmatch(r"[-+]?\d+", text):
        return int(text)
    if reads(float) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", word):
        return float(text)
    if reads(list[int]) and (numbers := _whole_numbers(text)):
        return numbers
    return text


def _whole_numbers(text: str) -> list[int]:
    """The numbers of `0,2`, `[0, 2]` or `(0, 2)`; none where the text is anything else."""
    bracketed = re.fullmatch(r"\[(.*)\]|\((.*)\)", text)
    inner = (bracketed[1] or bracketed[2] or "") if bracketed else text
    words = [word.strip() for word in inner.removesuffix(",").split(",")]
    listed = bracketed or "," in text
    return [int(word) for word in words] if listed and all(re.fullmatch(r"\d+", word) for word in words) else []


def run_guarded(action: Callable[[], object]) -> int:
    """Run the action and return the exit code: an error the user can mend is one line on stderr, not a traceback."""
    setup_logging()
    try:
        action()
        sys.stdout.flush()
    except UserError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # `yolo cfg | head`: the reader has seen enough. Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _fail(f"{error.filename or 'disk'}: no space left; what was saved before is whole. Free some and resume")
    return 0


def run_script(
    main: Callable[[dict[str, object]], object], usage: str, aliases: Mapping[str, str] = _NO_ALIASES
) -> None:
    """Call `main` with the options on the command line of a script and exit with its code; `--help` prints `usage`."""
    words = sys.argv[1:]
    asked = "-h" in words or "--help" in words
    raise SystemExit(run_guarded(lambda: print(usage.strip()) if asked else main(parse_arguments(words, aliases))))


def run_tool(command: Callable[..., object], usage: str, aliases: Mapping[str, str] = _NO_ALIASES) -> None:
    """Call a tool's `command` with the words of a script's command line and exit with its code; see `run_script`."""
    words, name = sys.argv[1:], os.path.basename(sys.argv[0])
    asked = "-h" in words or "--help" in words
    raise SystemExit(
        run_guarded(lambda: print(usage.strip()) if asked else command(**parse_call(command, words, name, aliases)))
    )


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return EXIT_USER_ERROR


def _option_name(word: str, aliases: Mapping[str, str]) -> str:
    """The option's name: `save-txt` is `save_txt`; OptionError for what is none."""
    name = word.strip().replace("-", "_")
    name = aliases.get(name, name)
    if name != "cfg":
        check_key(name)
    return name


def _dashed(word: str, rest: list[str], aliases: Mapping[str, str]) -> tuple[str, str]:
    """Name and text of `--key=text`, `--key text` (taken off `rest`) or, for an option that is on or off, `--key`."""
    name, equals, text = word[2:].partition("=")
    key = _option_name(name, aliases) if name else _complain_of_spaces(word)
    if equals:
        return key, text or _complain_of_spaces(word)
    if key != "cfg" and alternatives(option_types()[key]) == (bool,):
        return key, rest.pop(0) if rest and rest[0].lower() in _BOOLEANS else "True"
    if not rest or rest[0].startswith("--"):
        raise OptionError(f"{word}: its value is missing; write {word} VALUE or {key}=VALUE")
    return key, rest.pop(0)


def _complain_of_spaces(word: str) -> str:
    raise OptionError(
        f"{word!r}: name or value is missing; write key=value without spaces around '=', for example epochs=72"
    )


def _about_bare_word(word: str, rest: Sequence[str]) -> str:
    name = word.lstrip("-").rstrip(":").replace("-", "_")
    if rest and rest[0] == "=":
        return f"cannot read {word!r}; write key=value without spaces around '=', for example epochs=72"
    if name in option_types():
        value = rest[0] if rest and "=" not in rest[0] and not rest[0].startswith("-") else "VALUE"
        return f"cannot read {word!r}; write {name}={value}"
    if word in MODES:
        return f"cannot read {word!r} here; it goes first: yolo {word} key=value ..."
    if word.endswith((".pt", ".pth")):
        return f"cannot read {word!r}; write model={word}"
    if word.endswith((".yaml", ".yml")):
        return f"cannot read {word!r}; write data={word} for a data set or model={word} for a model"
    return f"cannot read {word!r}; options are written key=value, for example epochs=72 or source=image.jpg"
