"""The source `-`: what another program writes to the standard input, paths or one picture."""

from __future__ import annotations

import os
import re
import sys

from ultralytics.data.images import is_image
from ultralytics.utils.errors import DataError

STDIN = "-"
LIMIT = 1 << 29  # bytes; one picture of 179 million pixels, or millions of paths
BINARY = re.compile(rb"[\x01-\x08\x0b\x0e-\x1f]")  # control characters that no list of paths has
PLAIN_PNM = re.compile(rb"P[123]\s")  # pictures in text form


def read_piped() -> bytes | list[str]:
    """Everything on the standard input: an encoded picture, or paths, one a line or separated by zero bytes.

    Paths are stripped of surrounding blanks; empty ones stay, for the numbers of the lines. DataError where nothing is
    piped in.
    """
    stream = getattr(sys.stdin, "buffer", None)
    usage = "pipe paths or an image into it: find . -name '*.jpg' | yolo predict model=best.pt source=-"
    if stream is None or sys.stdin.isatty():
        raise DataError(f"source -: the standard input is not a pipe; {usage}")
    data = stream.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise DataError(f"source -: more than {LIMIT / 1e6:.0f} MB came in; write it to a file and give its path")
    if not data.strip():
        raise DataError(f"source -: the standard input is empty; {usage}")
    if is_image(data) or BINARY.search(data) or PLAIN_PNM.match(data):
        return data
    lines = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [os.fsdecode(line).strip() for line in lines]
