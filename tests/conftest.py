"""With several test processes (`pytest -n 2`), each of them and what it starts computes in one thread."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
