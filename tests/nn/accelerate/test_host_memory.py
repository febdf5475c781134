from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ultralytics.nn.accelerate import host_memory

ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
FREE_AND_ASK = """
import resource, torch
from ultralytics.nn.accelerate.host_memory import prepare_host_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.zeros(4 << 20).add_(1)  # 16 MB: 4096 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def huge():
    lines = open("/proc/self/smaps_rollup").readlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages"))

first, before = faults(), resident()
kept, reserved = prepare_host_memory()
added = resident() - before
faults()
afterwards = faults()
large = torch.ones(16 << 20)  # 64 MB
print(kept, reserved, first, afterwards, added, huge(), prepare_host_memory() == (kept, reserved))
"""

needs_glibc = pytest.mark.skipif(
    sys.platform != "linux" or not os.confstr_names.get("CS_GNU_LIBC_VERSION"), reason="memory is kept with glibc only"
)


def in_a_process(prefix: str = "") -> list[str]:
    command = ["sh", "-c", f'{prefix}exec "$0" -c "$1"', sys.executable, FREE_AND_ASK]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@needs_glibc
def test_freed_memory_is_kept_and_nothing_is_used_for_it():
    kept, _, first, afterwards, added, _, once = in_a_process()

    assert kept == once == "True" and int(first) > 4000 and int(afterwards) < 1000
    assert int(added) < 20_000  # KiB


@needs_glibc
@pytest.mark.skipif(
    not ENABLED.exists() or "[never]" in ENABLED.read_text(), reason="this kernel gives no transparent huge pages"
)
def test_new_maps_lie_in_huge_pages():
    _, reserved, *_, huge, _ = in_a_process()

    assert int(reserved) > 1 << 30
    assert int(huge) >= 2048  # KiB, one at least of the 32 that fit: what there are depends on the machine's state


@needs_glibc
def test_a_process_with_little_room_goes_on_without():
    kept, reserved, *_ = in_a_process("ulimit -d 1500000; ")  # KiB of data

    assert kept == "True" and int(reserved) < 2 << 30


@needs_glibc
@pytest.mark.parametrize(
    "files",
    [
        {"kernel/mm/transparent_hugepage/enabled": "always madvise [never]"},
        {"sys/vm/overcommit_memory": "2"},
        {"kernel/mm/transparent_hugepage/enabled": ""},
    ],
)
def test_nothing_is_reserved_where_it_would_not_help_or_would_cost(files: dict[str, str], monkeypatch):
    known = {"kernel/mm/transparent_hugepage/enabled": "madvise", "sys/vm/overcommit_memory": "0", **files}
    monkeypatch.setattr(
        host_memory, "_setting", lambda name, folder: known[name].partition("[")[2].rstrip("]") or known[name]
    )

    assert host_memory._reserve_huge_pages(object()) == 0  # not asked for anything


@pytest.mark.parametrize(
    ("text", "expected"), [("always [madvise] never\n", "madvise"), ("[always] madvise never", "always"), ("2\n", "2")]
)
def test_settings_of_the_kernel(tmp_path: Path, text: str, expected: str):
    (tmp_path / "setting").write_text(text)

    assert host_memory._setting("setting", str(tmp_path)) == expected
    assert host_memory._setting("other", str(tmp_path)) == ""


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")

    assert host_memory.prepare_host_memory.__wrapped__() == (False, 0)
