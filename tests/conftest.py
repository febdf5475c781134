"""Use one thread per test process with `pytest -n`, also in its subprocesses."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
