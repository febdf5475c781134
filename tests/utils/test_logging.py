"""Lines of the log: where they are written, and in which encoding."""

import io
import logging
import subprocess
import sys

import pytest

from ultralytics.utils import LOGGER, setup_logging


@pytest.fixture
def logger(monkeypatch):
    monkeypatch.setattr(LOGGER, "handlers", [])
    monkeypatch.setattr(LOGGER, "propagate", LOGGER.propagate)
    setup_logging()
    yield LOGGER
    LOGGER.setLevel(logging.INFO)


def test_lines_are_written_to_stdout_and_warnings_to_stderr(logger, capsys):
    logger.info("loss 0.5")
    logger.warning("no labels")
    logger.error("failed")
    assert capsys.readouterr() == ("loss 0.5\n", "no labels\nfailed\n")


def test_the_level_of_a_script_stays(logger):
    for level in (logging.ERROR, logging.WARNING, logging.INFO):
        logger.setLevel(level)
        found = [setup_logging(verbose) or logger.level for verbose in (True, False, True)]
        assert found == [level, max(level, logging.WARNING), level]


def test_a_stream_without_the_characters_gets_escapes(logger, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    logger.info("猫 ± \udcff")
    assert stream.buffer.getvalue() == b"\\u732b \\xb1 \\udcff\n"


@pytest.mark.parametrize(("before", "out"), [("", "plain\n"), ("import logging; logging.basicConfig(level=20)", "")])
def test_the_logger_works_without_an_entry_point(before, out):
    program = f"{before}\nfrom ultralytics.utils import LOGGER\nLOGGER.info('plain')"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == out and run.stderr == ("" if out else "INFO:ultralytics:plain\n")
