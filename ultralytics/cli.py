"""The `yolo` command, and the command lines of train.py, val.py, detect.py and tools/*.py.

`epochs=72`, `--epochs 72` and `--epochs=72` are equivalent. Values are parsed by the type of their option: `name=007`
is a string, `lr0=1e-4` a number, `device=0,1` two GPUs. Nothing is evaluated.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from textwrap import fill

from ultralytics.cfg.family import DEFAULT_CFG_PATH
from ultralytics.cfg.migrate import DEPRECATED, RETIRED
from ultralytics.cfg.options import MODES, Positive, check_key, describe_options, get_cfg, merge_file, option_types
from ultralytics.cfg.values import WORDS, alternatives, check_value, parse_value
from ultralytics.cli_text import COMPLETION, HELP
from ultralytics.published.config import copy_default_cfg
from ultralytics.utils import LOGGER, __version__, setup_logging
from ultralytics.utils.checks import checks
from ultralytics.utils.errors import OptionError, UserError, did_you_mean, explained_memory
from ultralytics.utils.files import resumed_weights, runs_folder

# A module's function `command`, or another one after a colon; its parameters are the arguments of the command line.
TOOLS = {
    "inspect": "ultralytics.tools.inspect_model",
    "check": "ultralytics.nn.module_check.run_checks",
    "new": "ultralytics.nn.module_check.scaffold",
    "benchmark": "ultralytics.tools.fps:benchmark",
    "table": "ultralytics.tools.compare_runs",
    "ablate": "ultralytics.tools.ablate",
    "compare": "ultralytics.ablation.compare",
    "fps": "ultralytics.tools.fps",
    "profile": "ultralytics.tools.fps:profile",
    "models": "ultralytics.tools.model_table",
    "fork": "ultralytics.tools.fork_table",
    "heatmap": "ultralytics.tools.explain.heatmap",
    "attention": "ultralytics.tools.explain.attention_maps",
    "erf": "ultralytics.tools.explain.receptive_field",
    "plot-results": "ultralytics.tools.plot_runs",
    "evaluate": "ultralytics.tools.evaluate",
    "errors": "ultralytics.tools.evaluate:errors",
    "coco": "ultralytics.tools.evaluate",  # of scripts in tutorials
    "data": "ultralytics.tools.data_card",
    "yolo2coco": "ultralytics.tools.yolo2coco",
    "coco2yolo": "ultralytics.tools.yolo2coco:coco2yolo",
    "xml2txt": "ultralytics.tools.xml2txt",
    "split": "ultralytics.tools.split",
}
# Further commands, which are methods of a model: the mode whose options they take, and their own arguments.
METHODS: dict[str, tuple[str, dict[str, object]]] = {
    "track": ("predict", {}),
    "tune": ("train", {"iterations": Positive, "space": str | list[str]}),
}
RUNS = (*MODES, *METHODS)
UNSUPPORTED = ("segment", "classify", "pose", "obb", "solutions")  # tasks and modes of the published package
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `yolo` with `arguments` (default: the process's own) and return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    return run_guarded(lambda: run_command(words))


def run_command(words: Sequence[str]) -> None:
    """Run a command, a tool or a mode; UserError if there is none of this name."""
    words = words[1:] if words[:1] == ["detect"] and {*words[1:2]} & TOOLS.keys() else words
    name = words[0].lstrip("-") if words else "help"
    name = {"h": "help", "v": "version"}.get(name, name)
    if name in COMMANDS:
        COMMANDS[name](*words[1:])
    elif {"-h", "--help"} & set(words) or words[-1] == "help":
        show_help(*[word for word in words if word in (*RUNS, *TOOLS)][:1])
    elif name in TOOLS:
        tool = load_tool(name)
        tool(**parse_call(tool, words[1:], f"yolo {name}"))
    else:
        mode, rest = split_mode(words)
        run_mode(mode, parse_options(rest, own=METHODS.get(mode, ("", {}))[1]))


def load_tool(name: str) -> Callable[..., object]:
    module, _, function = TOOLS[name].partition(":")
    return getattr(importlib.import_module(module), function or "command")


def split_mode(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the mode and the remaining words of `[detect] train ...`, `... train detect` or `... mode=train ...`."""
    rest = join_words(words)
    for i, word in reversed([*enumerate(rest)]):
        if word == "detect" and (not i or "=" in rest[i - 1] or not rest[i - 1].startswith("--")):
            del rest[i]  # not the value in `--name detect`
        elif word == "--mode":
            rest[i : i + 2] = ["=".join(("mode", *rest[i + 1 : i + 2]))]
    first = [word for word in rest[:1] if "=" not in word and not word.startswith("-")]
    if (named := [word for word in rest if word.startswith(("mode=", "--mode="))]) and first:
        raise UserError(f"the mode is given twice: {first[0]!r} and {named[0]!r}")
    found = first or named or [word for word in rest if word in RUNS]
    if not found:
        raise UserError(f"yolo: no mode given; expected {', '.join(RUNS)}; see `yolo help`")
    rest.remove(found[0])
    mode = found[0].rpartition("=")[2]
    if other := [word for word in (mode, *rest[:1]) if word in UNSUPPORTED]:
        raise UserError(f"yolo {other[0]}: not implemented; this package detects objects: {', '.join(RUNS)}")
    if mode in RUNS:
        return mode, rest
    if mode == "settings":
        raise UserError("yolo settings: nothing is stored; in Python, settings.update(...) holds for the process")
    hint = did_you_mean(mode, (*RUNS, *COMMANDS, *TOOLS)) or f"; expected {', '.join(RUNS)}; see `yolo help`"
    raise UserError(f"yolo: unknown command {mode!r}{hint}")


def run_mode(mode: str, given: dict[str, object]) -> None:
    """Call the method of a model. All options are checked before torch is imported."""
    base, own = METHODS.get(mode, (mode, {}))
    options = get_cfg(overrides={**{key: value for key, value in given.items() if key not in own}, "mode": base})
    model = options.model or resumed_weights(options.resume if mode == "train" else False, options.project)
    if options.resume is True and mode == "train" and not options.model:
        if not model:
            folder = options.project or runs_folder()
            raise UserError(f"resume=True: no run in {folder}; write resume=FOLDER or project=")
        LOGGER.info(f"resume=True: resuming the newest run, {model}")
    required = {"model": model}
    if base == "train" and not options.resume:
        required["data"] = options.data
    for key, value in required.items():
        if value is None:
            example = next(line for line in HELP.splitlines() if line.startswith(f"  yolo {mode}"))
            raise UserError(f"yolo {mode}: {key}= is missing; for example `{' '.join(example.split())}`")
    setup_logging(options.verbose)
    passed = {key: value for key, value in given.items() if key not in ("task", "mode", "model")}

    from ultralytics.models import Model

    network = Model(model, modules=options.modules, trust=options.trust)
    if base == "predict":  # as a stream, so that the results of a video are not kept in memory
        for _ in getattr(network, mode)(**{"stream": True, "save": True, **passed}):
            pass
    else:
        getattr(network, mode)(**passed)


def show_help(name: str | None = None, *more: str) -> None:
    """Print the help of `yolo`, or of a mode or a tool."""
    name = more[0] if name == "detect" and more else name
    if name is None or name in COMMANDS:
        print(HELP, end="")
    elif name in RUNS:
        example = next(line for line in HELP.splitlines() if line.startswith(f"  yolo {name}"))
        print(f"{' '.join(example.split())}\n\nOptions, with defaults:\n")
        for row in (row for row in describe_options() if METHODS.get(name, (name,))[0] in row.modes):
            start = f"{row.name}={row.default} ".ljust(26)
            print(fill(row.meaning, 110, initial_indent=start, subsequent_indent=" " * 26))
    elif name in TOOLS:
        tool = load_tool(name)
        text = inspect.getdoc(getattr(tool, "func", tool)) or ""
        print(f"usage: yolo {name} {usage_of(tool)}\n\n{text.partition('Raises:')[0].strip()}")
    else:
        raise UserError(f"yolo help: no command {name!r}{did_you_mean(name, (*RUNS, *TOOLS))}")


def show_options(*names: str) -> None:
    """Print default.yaml, or the descriptions of some options."""
    for name in names:
        check_key(name)
    rows = [row for row in describe_options() if row.name in names]
    lines = [f"{row.name}: {row.default}  # ({', '.join(row.modes)}) {row.meaning}\n" for row in rows]
    print("".join(lines) if names else DEFAULT_CFG_PATH.read_text(encoding="utf-8"), end="")


def show_completion(*words: str) -> None:
    if len(words) != 1 or words[0] not in COMPLETION:
        raise UserError(f"yolo completion: expected one of {', '.join(COMPLETION)}, got {' '.join(words)!r}")
    known = " ".join([*RUNS, *COMMANDS, *TOOLS, *(f"{name}=" for name in option_types())])
    print(COMPLETION[words[0]].replace("@WORDS@", known))


def _alone(name: str, action: Callable[[], object]) -> Callable[..., object]:
    """Return a command that accepts no arguments."""

    def command(*words: str) -> object:
        if words:
            raise UserError(f"yolo {name}: unexpected argument {' '.join(words)!r}")
        return action()

    return command


COMMANDS: dict[str, Callable[..., object]] = {
    "help": show_help,
    "version": _alone("version", lambda: print(__version__)),
    "checks": _alone("checks", checks),
    "cfg": show_options,
    "copy-cfg": _alone("copy-cfg", copy_default_cfg),
    "completion": show_completion,
}


def run_script(function: Callable[..., object], usage: str, aliases: Mapping[str, str] | None = None) -> None:
    """Call `function` with the arguments of a script's command line and exit; `--help` prints `usage`.

    `aliases` are additional argument names, {'weights': 'model'}. See `parse_call` for the arguments.
    """
    words, name = sys.argv[1:], os.path.basename(sys.argv[0])
    if {"-h", "--help"} & set(words):
        raise SystemExit(run_guarded(lambda: print(usage.strip())))
    raise SystemExit(run_guarded(lambda: function(**parse_call(function, words, name, aliases))))


def run_guarded(action: Callable[[], object]) -> int:
    """Run `action` and return the exit code. User errors are printed in one line, without a traceback.

    Threads of OpenMP sleep while they wait, unless OMP_WAIT_POLICY is set: spinning ones take the time of other
    processes. This has an effect only before torch is imported, so scripts import it in their function.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    setup_logging()
    try:
        with explained_memory():
            action()
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `yolo cfg | head`; devnull avoids a second error when Python closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def parse_call(
    function: Callable[..., object], words: Sequence[str], where: str, aliases: Mapping[str, str] | None = None
) -> dict[str, object]:
    """Parse words into keyword arguments of `function`, checked by its annotations.

    A function with `**options` takes options, see `parse_options`. A parameter of type `list[str]` also takes the
    words without a key. OptionError starts with `where` and ends with the usage.
    """
    parameters = inspect.signature(function, eval_str=True).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return parse_options(words, aliases)
    types = {key: parameter.annotation for key, parameter in parameters.items()}
    required = [key for key, parameter in parameters.items() if parameter.default is parameter.empty]
    try:
        listing = next((key for key in types if alternatives(types[key]) == (list[str],)), None)
        given = parse_words(words, types, aliases, listing)
        if missing := [key for key in required if key not in given]:
            raise OptionError(f"{missing[0]}= is missing")
        return given
    except OptionError as error:
        raise OptionError(f"{where}: {error}; usage: {where} {usage_of(function)}") from None


def usage_of(function: Callable[..., object]) -> str:
    """Return the arguments of a command: `model=... [imgsz=640]`."""
    parameters = inspect.signature(function).parameters.items()
    return " ".join(f"{key}=..." if p.default is p.empty else f"[{key}={p.default}]" for key, p in parameters)


def parse_options(
    words: Sequence[str], aliases: Mapping[str, str] | None = None, own: Mapping[str, object] | None = None
) -> dict[str, object]:
    """Parse words into checked options, and further arguments by the types `own`.

    `cfg=FILE` adds the options of a file; the command line has priority.
    """
    published = dict.fromkeys((*RETIRED, *DEPRECATED), bool | int | float | str | None)  # for `check_options`
    return merge_file(parse_words(words, {**published, **option_types(), "cfg": str, **(own or {})}, aliases))


def parse_words(
    words: Sequence[str], types: Mapping[str, object], aliases: Mapping[str, str] | None = None,
    positional: str | None = None,
) -> dict[str, object]:  # fmt: skip
    """Parse `key=value`, `--key value`, `--key=value`, `--switch` and `switch` into values checked by their annotation.

    Other words without a key are collected in the list `positional`, or are an error.
    """
    rest, given, listed = join_words(words), {}, []
    while rest:
        word = rest.pop(0)
        key, equals, text = word.removeprefix("--").partition("=")
        if not equals and not word.startswith("--"):
            if word in types and bool in alternatives(types[word]):
                rest.insert(0, f"{word}=True")
                continue
            if positional is None:
                raise OptionError(f"cannot read {word!r}; {_correction(word, rest, types)}")
            listed.append(word)
            continue
        if not key or (equals and not text):
            raise OptionError(f"{word!r}: name or value is missing; write key=value, for example epochs=72")
        key = key.replace("-", "_")
        key = (aliases or {}).get(key, key)
        if key not in types:
            if "cfg" in types:
                check_key(key, aliases or ())
            raise OptionError(f"unknown argument {word!r}{did_you_mean(key, [*types, *(aliases or ())])}")
        if not equals:
            text = _next_value(word, types[key], rest)
        if key in given:
            raise OptionError(f"{key}: given twice ({given[key]!r} and {text!r})")
        value = text.split(",") if key == positional else parse_value(text, types[key])
        given[key] = check_value(key, value, types[key])
    if listed and positional in given:
        raise OptionError(f"{positional}: given twice, as {positional}= and as {listed[0]!r}")
    return {**given, positional: listed} if listed else given


def join_words(words: Sequence[str]) -> list[str]:
    """Undo how a shell splits `epochs = 3`, `classes=[0, 1]` and `classes=0, 1`; remove commas between arguments."""
    joined: list[str] = []
    for word in words:
        last = joined[-1] if joined else ""
        goes_on = last.endswith("=") or _is_open(last) or (last.endswith(",") and word[:1].isdigit())
        if last and (word.startswith("=") or (goes_on and "=" not in word)):
            joined[-1] += word
        elif word != ",":
            joined.append(word)
    return [word if _is_open(word) else word.rstrip(",") for word in joined]


def _is_open(word: str) -> bool:
    """Check for a list without its closing bracket."""
    value = word.rpartition("=")[2].rstrip(",")
    return value[:1] in ("[", "(") and value[-1:] not in ("]", ")")


def _next_value(word: str, annotation: object, rest: list[str]) -> str:
    """Return the value after `--key`, or the numbers of a list, removed from `rest`. A switch alone is True."""
    kinds = alternatives(annotation)
    if kinds == (bool,):
        return rest.pop(0) if rest and rest[0].lower() in WORDS else "True"
    if not rest or rest[0].startswith("--") or (bool in kinds and "=" in rest[0]):
        if bool in kinds:
            return "True"
        raise OptionError(f"{word}: the value is missing; write {word} VALUE")
    values = [rest.pop(0)]
    while list[int] in kinds and rest and (values[0] + rest[0]).isdecimal():
        values.append(rest.pop(0))
    return ",".join(values)


def _correction(word: str, rest: Sequence[str], types: Mapping[str, object]) -> str:
    """Return what to write instead of a word without a key."""
    name = word.lstrip("-\u2010\u2011\u2013\u2014").rstrip(":").replace("-", "_")  # also dashes of text processors
    if name in types:
        return f"write {name}={rest[0] if rest and '=' not in rest[0] and not rest[0].startswith('-') else 'VALUE'}"
    if "\uff1d" in word:  # of Chinese keyboards
        return f"write {word.replace(chr(0xFF1D), '=')}"
    if word in RUNS:
        return f"the mode is the first word: yolo {word} key=value ..."
    if word.endswith((".pt", ".pth")):
        return f"write model={word}"
    if word.endswith((".yaml", ".yml")):
        return f"write data={word} for a dataset or model={word} for a model"
    return "options are written key=value, for example epochs=72 or source=image.jpg"
