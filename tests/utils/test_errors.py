"""Errors: memory that ran out."""

import pytest

from ultralytics.utils.errors import UserError, explained_memory


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_memory_that_ran_out_is_explained(error):
    with pytest.raises(UserError, match="smaller imgsz or batch"), explained_memory():
        raise error
    with pytest.raises(KeyError), explained_memory():
        raise KeyError("memory")
