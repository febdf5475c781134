"""What a contract run found: one result for each check, and the table that shows them."""

from __future__ import annotations

import sys
import unicodedata
from dataclasses import dataclass
from typing import Literal

from ultralytics.utils.errors import UserError

Status = Literal["kept", "broken", "skipped"]
MARKS = {"kept": "✔", "broken": "✘", "skipped": "–"}
PLAIN_MARKS = {"kept": "ok", "broken": "NO", "skipped": "-"}  # for terminals whose encoding lacks the others


FAILURES = (Exception, SystemExit)  # what a user's module may end with; an interruption by the user is not among them


class Fault(Exception):
    """A check found that the module breaks its contract, and the line of its file where one is known."""

    def __init__(self, reason: str, line: int | None = None):
        super().__init__(reason)
        self.line = line


class NotApplicable(Exception):
    """A check that says nothing about this module, or cannot run here, and why."""


@dataclass(frozen=True)
class Result:
    """Outcome of one check.

    Attributes:
        check: its name.
        status: kept, broken or skipped.
        reason: what was found, in one line.
        place: `FILE:LINE` to look at, '' where none is known.
    """

    check: str
    status: Status
    reason: str
    place: str = ""


@dataclass(frozen=True)
class Report:
    """Outcome of all checks of a module.

    Attributes:
        module: its name.
        origin: file that defines it.
        setup: its arguments and inputs, in words.
        results: in the order of the table.
    """

    module: str
    origin: str
    setup: str
    results: tuple[Result, ...]

    def __getitem__(self, check: str) -> Result:
        return {result.check: result for result in self.results}[check]

    @property
    def broken(self) -> tuple[Result, ...]:
        """Results of the checks that failed."""
        return tuple(result for result in self.results if result.status == "broken")

    def table(self, encoding: str | None = None) -> str:
        """One line for each check. Marks that the encoding (standard output's) lacks are written in letters."""
        marks = MARKS if _can_write(encoding or sys.stdout.encoding or "ascii") else PLAIN_MARKS
        width = max((len(result.check) for result in self.results), default=0)
        lines = [f"{self.module} ({self.origin}), {self.setup}"]
        for result in self.results:
            place = f" ({result.place})" if result.place else ""
            lines.append(
                f"{marks[result.status]:<{len(marks['broken'])}} {result.check:<{width}}  {result.reason}{place}"
            )
        return "\n".join(lines)

    def summary(self) -> str:
        """One line: how many checks failed, and each of them with its place."""
        shown = "; ".join(f"{r.check}: {r.reason}{f' ({r.place})' if r.place else ''}" for r in self.broken)
        return f"{self.module}: {len(self.broken)} of {len(self.results)} checks failed{f': {shown}' if shown else ''}"

    def raise_if_broken(self) -> None:
        """UserError with the summary where a check failed."""
        if self.broken:
            raise UserError(self.summary())


def described(error: BaseException) -> str:
    """Type and message of an error. Of one whose first line only announces others, such as `load_state_dict`'s, all."""
    text = str(error).strip()
    head = text.splitlines()[0] if text else ""
    return f"{type(error).__name__}: {' '.join(text.split()) if head.endswith(':') else text}"


def one_line(text: str, limit: int = 200) -> str:
    """The first line of a message that says something, cut to `limit` characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    clean = "".join(c for c in (lines[0] if lines else "no message") if unicodedata.category(c) != "Cc")
    return clean if len(clean) <= limit else f"{clean[: limit - 3]}..."


def _can_write(encoding: str) -> bool:
    try:
        "".join(MARKS.values()).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
