"""Checks of the system, packages, image sizes and device names."""

import sys

import pytest

from ultralytics.utils import LOGGER, checks
from ultralytics.utils.errors import MissingPackageError, OptionError, UserError


@pytest.fixture
def log(caplog, monkeypatch):
    """Capture messages of the package, whether or not an earlier test has configured its logger."""
    monkeypatch.setattr(LOGGER, "handlers", [caplog.handler])
    caplog.set_level("INFO", "ultralytics")
    return caplog


@pytest.mark.parametrize(
    ("imgsz", "stride", "result"),
    [(640, 32, 640), (600, 32, 608), (1, 32, 32), ([320, 641], 32, [320, 672]), (100, 16, 112)],
)
def test_image_sizes_are_rounded_up(imgsz, stride, result, log):
    assert checks.check_imgsz(imgsz, stride) == result
    assert bool(log.messages) == (imgsz != result)
    if log.messages:
        assert f"using {result}" in log.messages[0]
    with pytest.raises(OptionError, match="imgsz: expected a size of at least 32, got 0"):
        checks.check_imgsz(0)


def test_missing_package_has_the_pip_command():
    with pytest.raises(MissingPackageError) as caught:
        checks.require("no_such_package_here", "no-such-package>=1.6", "official COCO AP")
    assert str(caught.value) == (
        "official COCO AP needs the package 'no_such_package_here', which is not installed: "
        'pip install "no-such-package>=1.6"'
    )
    assert isinstance(caught.value, UserError) and isinstance(caught.value, ImportError)
    assert checks.require("json", "json", "nothing").dumps([]) == "[]"


def test_packages_of_requirements_are_found_by_import_name_or_by_pip_name():
    assert all(map(checks.is_installed, ("torch", "numpy>=1.20", "pyyaml")))
    assert not checks.is_installed("no-such-package>=1.6")


def test_missing_dependency_of_a_package_is_not_reported_as_the_package(tmp_path, monkeypatch):
    (tmp_path / "half_there.py").write_text("import something_it_needs\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="something_it_needs") as caught:
        checks.require("half_there", "half-there", "this")
    assert not isinstance(caught.value, MissingPackageError)
    sys.modules.pop("half_there", None)


def test_checks_logs_what_it_returns(log, monkeypatch):
    rows = checks.checks()
    assert {"ultralytics", "Python", "torch", "GPU", "processor", "free disk"} <= set(rows)
    for name, value in rows.items():
        assert name in log.text and value in log.text

    def version(package):
        raise checks.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(checks.metadata, "version", version)
    info = checks.checks()
    assert info["torch"] == "not installed" and "GPU" not in info
