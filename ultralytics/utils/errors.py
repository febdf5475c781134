"""Errors that users can fix. Messages have where, what, got, expected and what to do; the CLI prints one line."""

import difflib
import logging
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

LONGEST = 2000  # characters of a message, which may show a value of the user's file
NO_MEMORY = re.compile(  # messages of torch, OpenCV and the system
    r"out of memory|DefaultCPUAllocator|Insufficient memory|bad.alloc|Cannot allocate memory|could not create a "
    r"(primitive$|memory)|size calculation overflow|integer multiplication overflow",
    re.IGNORECASE | re.MULTILINE,
)


class UserError(ValueError):
    """Base class of errors that users can fix; the message is complete without a traceback."""

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


class OptionError(UserError):
    """Unknown option, or a value of the wrong type or range."""


class ModelConfigError(UserError):
    """Invalid model YAML or row of it."""


class DataError(UserError):
    """Unusable dataset, image, label file or prediction source."""


class WeightsError(UserError):
    """Weights file that cannot be read or does not fit the model."""


class DeviceError(UserError):
    """Device that does not exist."""


class MissingFileError(DataError, WeightsError, ModelConfigError, FileNotFoundError):
    """File, folder, weights or model file that does not exist."""


class MissingPackageError(UserError, ImportError):
    """Optional package that is not installed; the message has the pip command."""


@contextmanager
def reported(what: str) -> Iterator[None]:
    """Log an error of the block in place of raising it: for what follows a long computation, whose result is kept."""
    try:
        yield
    except Exception as error:  # whatever it is, the result is worth more
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        logging.getLogger("ultralytics").error(f"{what} failed, the run continues without it: {reason}")


def out_of_memory(error: BaseException) -> bool:
    """Check for memory that ran out, in torch, OpenCV or Python."""
    return not isinstance(error, UserError) and bool(isinstance(error, MemoryError) or NO_MEMORY.search(str(error)))


@contextmanager
def explained_memory(options: object = None) -> Iterator[None]:
    """Raise UserError, with the image size and batch of `options`, for memory that ran out in the block."""
    try:
        yield
    except Exception as error:  # RuntimeError, cv2.error, MemoryError
        if not out_of_memory(error):
            raise
        now = f" (now imgsz={options.imgsz}, batch={options.batch})" if options else ""
        raise UserError(f"out of memory; use a smaller imgsz or batch{now}, or a smaller model") from error


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that is spelled most like `word`, first with the same letters, then digits; or None."""
    word, by_lower = str(word).lower(), {str(candidate).lower(): str(candidate) for candidate in candidates}
    near = difflib.get_close_matches(word, by_lower, n=5)
    orders = [{match: sort(match) != sort(word) for match in near} for sort in (sorted, re.compile(r"\d").findall)]
    return by_lower[min(near, key=lambda match: [order[match] for order in orders])] if near else None


def typed(**options: object) -> str:
    """Return options as a shell takes them, such as `'resume=my runs/last.pt'`."""
    return shlex.join(f"{key}={value}" for key, value in options.items())


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, in the plural if it is not 1.

    Examples:
        >>> counted(1, "class"), counted(2, "class"), counted(0, "epoch"), counted(3, "entry"), counted(2, "\u4eba")
        ('1 class', '2 classes', '0 epochs', '3 entries', '2 \u4eba')
    """
    if number == 1 or not noun[-1:].isascii():  # Chinese names have no plural
        return f"{number} {noun}"
    if noun.endswith("y") and not noun.endswith(("ay", "ey", "oy", "uy")):
        return f"{number} {noun[:-1]}ies"
    hisses = noun.endswith(("s", "x", "ch", "sh")) and not noun.endswith("epoch")
    return f"{number} {noun}{'es' if hisses else 's'}"


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return `; did you mean 'epochs'?` for the nearest candidate, or '' if none is close.

    Examples:
        >>> did_you_mean("epoch", ["batch", "epochs"])
        "; did you mean 'epochs'?"
        >>> did_you_mean("modle", ["mode", "model"])
        "; did you mean 'model'?"
    """
    near = nearest(word, candidates)
    return f"; did you mean {near!r}?" if near else ""


def check_keys(given: Iterable, known: Iterable[str], at: Callable[[str], str], error: type[UserError]) -> None:
    """Raise `error` for the first key that is not among `known`; `at` returns where a key is."""
    for key in given:
        if key not in known:
            raise error(f"{at(key)}: unknown key {key!r}{did_you_mean(key, known)}; known: {', '.join(known)}")
