"""The test suites in the source distributions of the published package, run with this package in a temporary folder.

Slow, and skipped without PUBLISHED_SDISTS, the folder of `pip download --no-binary :all: ultralytics==VERSION`.
The states of all rows are in published_suites.yaml.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).parent
SUITES = yaml.safe_load((HERE / "published_suites.yaml").read_text())
FOLDER = os.environ.get("PUBLISHED_SDISTS", "")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not FOLDER, reason="PUBLISHED_SDISTS is not set")]


@pytest.mark.parametrize("version", SUITES["suites"])
def test_rows_pass_or_have_a_reason(version, tmp_path):
    listed, root = SUITES["suites"][version], tmp_path / f"ultralytics-{version}"
    with tarfile.open(Path(FOLDER, f"ultralytics-{version}.tar.gz")) as archive:
        archive.extractall(tmp_path, [m for m in archive if m.name.startswith(f"{root.name}/tests/")], filter="data")
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    for file in (HERE / "standins.py", HERE.parent / "golden" / "fill.py"):
        shutil.copy(file, plugins)
    paths = {"PYTHONPATH": f"{plugins}{os.pathsep}{HERE.parents[1]}", "ULTRALYTICS_CACHE": str(tmp_path / "cache")}
    given = {"cwd": root, "env": {**os.environ, **paths}, "capture_output": True, "text": True}
    subprocess.run([sys.executable, plugins / "standins.py", root / "tests"], check=True, **given)
    options = ("-q", "-W", "ignore", "-p", "standins", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", ".")
    slow = ("--slow",) if (root / "tests" / "conftest.py").exists() else ()
    start = [sys.executable, "-m", "pytest", *options, "-o", "markers=slow", *slow]
    skipped = re.compile("|".join(SUITES["left_out"]))
    collected = subprocess.run([*start, "tests", "--co"], **given).stdout
    ids = set(re.findall(r"^tests/\S+::\S+.*$", collected, re.M))
    reasons = {name for names in listed["differs"].values() for name in names}
    assert {name for name in ids if not skipped.search(name)} == {*listed["passes"], *reasons}
    subprocess.run([*start, *listed["passes"]], **given)
    states = dict(line.split("\t")[:2] for line in (tmp_path / "cache" / "states.tsv").read_text().splitlines())
    assert [name for name in listed["passes"] if states.get(name) != "passed"] == []
