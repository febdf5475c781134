"""Use one thread per test process with `pytest -n`, also in its subprocesses; data and a network for short runs."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # test processes share the cores
if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")


@pytest.fixture(autouse=True)
def _entry_point() -> None:
    """Set up logging before each test, as entry points do: pytest captures a logger in the state it then has."""
    from ultralytics.utils import setup_logging

    setup_logging()


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    """Data YAML of drawn shapes: six images to train on and three to validate on, 64 pixels."""
    from tests.shapes import write_shapes

    return write_shapes(tmp_path_factory.mktemp("data"), train=6, val=3)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """Model YAML of a network that trains in a second."""
    import yaml

    from tests.interop.networks import NETWORK

    file = tmp_path_factory.mktemp("model") / "tiny.yaml"
    file.write_text(yaml.safe_dump(NETWORK))
    return file


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport():
    """Escape names of files that are not UTF-8 in the captured log: pytest-xdist cannot send them."""
    report = (yield).get_result()
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
