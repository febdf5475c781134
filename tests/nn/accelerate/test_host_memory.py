import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from ultralytics.nn import accelerate
from ultralytics.nn.accelerate import host_memory

ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
MEASURE = """
import resource, torch
from ultralytics.nn.accelerate.host_memory import prepare_host_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.zeros(4 << 20).add_(1)  # 16 MB: 4096 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

first, before = faults(), resident()
advised = prepare_host_memory()
added = resident() - before
faults()
afterwards = faults()
large = torch.ones(16 << 20)  # 64 MB
lines = open("/proc/self/smaps_rollup").readlines()
huge = next(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages"))
print(advised, first, afterwards, added, huge)
"""

needs_glibc = pytest.mark.skipif(
    sys.platform != "linux" or not os.confstr_names.get("CS_GNU_LIBC_VERSION"), reason="memory is kept with glibc only"
)


@needs_glibc
def test_freed_memory_is_kept_in_huge_pages():
    output = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True).stdout
    advised, first, afterwards, added, huge = map(int, output.split())
    assert first > 4000 and afterwards < 1000  # page faults
    assert added < 20_000  # KiB: reserved memory is not used
    if ENABLED.exists() and "[never]" not in ENABLED.read_text():
        assert advised > 1 << 30
        assert huge >= 2048  # KiB, at least one of the 32 that fit: the number depends on the machine's state


@needs_glibc
def test_memory_is_prepared_with_and_without_rewrites(monkeypatch):
    calls = []
    monkeypatch.setattr(accelerate, "prepare_host_memory", lambda: calls.append(1))
    network = nn.Conv2d(3, 4, 1)
    assert accelerate.for_inference(network, rewrite=False) is network and calls == [1]


def test_nothing_is_reserved_without_overcommit(tmp_path, monkeypatch):
    monkeypatch.setattr(host_memory, "OVERCOMMIT", tmp_path / "overcommit_memory")
    host_memory.OVERCOMMIT.write_text("2\n")
    assert host_memory.prepare_host_memory.__wrapped__() == 0


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert host_memory.prepare_host_memory.__wrapped__() == 0
