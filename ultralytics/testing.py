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

from ultralytics.nn.module_check import Report, check_module
from ultralytics.nn.registry import ADDMODULES, REGISTRY, import_folder, module_folders
from ultralytics.utils.errors import UserError


def registered_modules(folder: str | Path = ADDMODULES) -> list[str]:
    """Names that the files of a folder register, sorted; the package's own folder where none is given.

    Raises:
        UserError: there is no such folder, or a file that registers a module cannot be imported: it would go untested.
    """
    path = module_folders([folder])[0]
    found = import_folder(path)
    for file, reason in found.failures.items():
        if "register(" in file.read_text(encoding="utf-8", errors="replace"):
            raise UserError(f"{file}: not imported, so its modules cannot be tested: {reason}")
    entries = (*found.entries.values(), *REGISTRY)
    return sorted(entry.name for entry in entries if Path(entry.origin).resolve().parent == path)


@pytest.fixture
def module_contract() -> Callable[..., Report]:
    """`check_module` of `ultralytics.nn.module_check`, which fails the test with the table where a check fails."""

    def check(name: str, **options: object) -> Report:
        report = check_module(name, **options)
        if report.broken:
            pytest.fail(report.table(), pytrace=False)
        return report

    return check
