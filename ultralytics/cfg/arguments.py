"""Words of a command line turned into checked options, for the `yolo` command and the scripts train, val and detect.

`epochs=72`, `--epochs 72` and `--epochs=72` say the same. A value is read by what its option may be: `name=007` stays
text, `lr0=1e-4` is a number, `device=0,1` names two GPUs. Nothing is evaluated.
"""

from __future__ import annotations

import errno
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import get_type_hints

from ultralytics.cfg.options import MODES, check_key, check_options, option_types, options_in
from ultralytics.cfg.rules import alternatives, check_value
from ultralytics.utils import setup_logging
from ultralytics.utils.errors import OptionError, UserError, did_you_mean

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
