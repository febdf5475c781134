"""A pytest plugin that holds your own modules to the contract of `yolo contract`.

In `conftest.py`:

    pytest_plugins = ["ultralytics.testing"]

and in a test:

    from ultralytics.testing import registered_modules

    @pytest.mark.parametrize("name", registered_modules("my_modules"))
    def test_contract(name, module_contract):
        module_contract(name, modules=["my_modules"])
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ultralytics.nn.contract import Report, check_module
from ultralytics.nn.discovery import ADDMODULES, import_folder
from ultralytics.nn.registry import REGISTRY


def registered_modules(folder: str | Path = ADDMODULES) -> list[str]:
    """Names that the files of a folder register, sorted; the package's own folder where none is given."""
    path = Path(folder).expanduser().resolve()
    own = import_folder(path).entries.values()
    return sorted(entry.name for entry in (*own, *REGISTRY) if Path(entry.origin).resolve().parent == path)


@pytest.fixture
def module_contract() -> Callable[..., Report]:
    """`check_module` of `ultralytics.nn.contract`, which fails the test with the table where a check fails."""

    def check(name: str, **options: object) -> Report:
        report = check_module(name, **options)
        if report.broken:
            pytest.fail(report.table(), pytrace=False)
        return report

    return check
