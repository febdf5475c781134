"""Errors: memory that ran out, and commands in messages."""

from pathlib import Path

import pytest

from ultralytics.utils.errors import UserError, explained_memory, typed


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_memory_that_ran_out_is_explained(error):
    with pytest.raises(UserError, match="smaller imgsz or batch"), explained_memory():
        raise error
    with pytest.raises(KeyError), explained_memory():
        raise KeyError("memory")


def test_advised_commands_are_quoted_for_the_shell():
    assert typed(resume=Path("my runs/last.pt"), workers=0) == "'resume=my runs/last.pt' workers=0"
