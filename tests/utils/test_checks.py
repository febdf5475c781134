"""What the machine has; packages and image sizes that must fit."""

from __future__ import annotations

import logging
import sys

import pytest

from ultralytics.utils import checks
from ultralytics.utils.errors import MissingPackageError, OptionError, UserError


@pytest.fixture
def log(caplog):
    """Messages of the package, whether or not an earlier test has set its logger up for the terminal."""
    logger = logging.getLogger("ultralytics")
    logger.addHandler(caplog.handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)


@pytest.mark.parametrize(
    ("imgsz", "stride", "result"),
    [(640, 32, 640), (600, 32, 608), (1, 32, 32), ([320, 641], 32, [320, 672]), (100, 16, 112)],
)
def test_image_sizes_are_rounded_up(imgsz, stride, result, log):
    assert checks.check_imgsz(imgsz, stride) == result
    assert bool(log.messages) == (imgsz != result)
    if log.messages:
        assert f"using {result}" in log.messages[0]


def test_image_sizes_are_positive():
    with pytest.raises(OptionError, match="imgsz: expected a size of at least 32, got 0"):
        checks.check_imgsz(0)


def test_a_missing_package_is_named_with_its_pip_command():
    with pytest.raises(MissingPackageError) as caught:
        checks.require("no_such_package_here", "no-such-package>=1.6", "official COCO AP")
    assert str(caught.value) == (
        "official COCO AP needs the package 'no_such_package_here', which is not installed: "
        'pip install "no-such-package>=1.6"'
    )
    assert isinstance(caught.value, UserError)
    assert isinstance(caught.value, ImportError)


def test_a_package_that_is_there_is_returned():
    assert checks.require("json", "json", "nothing").dumps([]) == "[]"


def test_a_package_that_lacks_something_itself_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "half_there.py").write_text("import something_it_needs\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="something_it_needs") as caught:
        checks.require("half_there", "half-there", "this")
    assert not isinstance(caught.value, MissingPackageError)
    sys.modules.pop("half_there", None)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("torch>=2.4", ("torch", "2.4", None)),
        ("thing", ("thing", "", None)),
        ('pytest>=8.0; extra == "dev"', ("pytest", "8.0", "dev")),
        ("faster-coco-eval>=1.6; extra == 'coco'", ("faster-coco-eval", "1.6", "coco")),
    ],
)
def test_requirements_are_read(text, parsed):
    assert checks._parse_requirement(text) == parsed


@pytest.mark.parametrize(
    ("installed", "state"),
    [
        ({"opencv-python": "4.9.0"}, "4.9.0"),
        ({"opencv-python-headless": "5.0.0.93"}, "5.0.0.93 as opencv-python-headless"),
        ({"opencv-python": "4.7.1+local9"}, '4.7.1+local9, older than 4.8: pip install "opencv-python>=4.8"'),
        ({}, 'not installed (needed): pip install "opencv-python>=4.8"'),
    ],
)
def test_the_state_of_a_requirement(installed, state, monkeypatch):
    def version(name):
        if name not in installed:
            raise checks.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(checks.metadata, "version", version)
    assert checks._requirement_state("opencv-python", "4.8", optional=False) == state


def test_checks_prints_what_it_returns(log):
    rows = checks.checks()
    assert {"ultralytics", "Python", "torch", "GPU", "processor", "disk free here"} <= set(rows)
    for name, value in rows.items():
        assert name in log.text
        assert value in log.text


def test_without_torch_the_report_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert checks.collect_system_info()["torch"] == "not installed: pip install torch torchvision"
