"""The queue with processes that train nothing, and (slow) real runs that are killed."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import yaml

from ultralytics.ablation import Study, queue
from ultralytics.ablation.queue import Progress, run_local, study_lock, write_config
from ultralytics.ablation.study import StudyError
from ultralytics.ablation.worker import DONE, ERROR, WATCH

STUDY = {
    "model": "rtdetr-r18.yaml",
    "data": "shapes8.yaml",
    "train": {"epochs": 2, "imgsz": 64, "batch": 4, "workers": 0, "queries": 20, "save_minutes": 0},
    "seeds": 2,
    "changes": {"MAL": {"train": {"loss_class": "mal"}}},
}
# a run that writes its device and time, or fails
CHILD = """
import sys, time, pathlib
folder, *device = sys.argv[1:]
folder = pathlib.Path(folder)
if "seed1" in folder.name and "MAL" in folder.parts[-2]:
    (folder / "error.txt").write_text("DataError: no images")
    sys.exit(1)
start = time.time()
time.sleep(0.5)
(folder / "done.json").write_text("{}")
(folder / "times.txt").write_text(f"{start} {time.time()} {''.join(device)}")
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    study = Study(STUDY, tmp_path)
    monkeypatch.setattr(Study, "_measure", lambda self, *_: None)
    study.prepare()
    for run in study.runs:
        write_config(study.spec, run, study.spec.data)
    monkeypatch.setattr(
        queue, "worker_command", lambda folder, device="": [sys.executable, "-c", CHILD, str(folder), device]
    )
    return study


def test_runs_share_the_devices_and_failures_are_reported(study):
    found = {}
    run_local(study.runs, 1, ["0", "1"], lambda run, error: found.update({(run.cell.name, run.seed): error}))
    assert found == {("base", 0): "", ("MAL", 0): "", ("base", 1): "", ("MAL", 1): "DataError: no images"}
    times = [(run.folder / "times.txt").read_text().split() for run in study.runs[:2]]
    assert {row[2] for row in times} == {"0", "1"}
    assert float(times[1][0]) < float(times[0][1])  # at the same time
    assert Progress.read(study.runs[3]).state == "failed"


def test_a_process_that_ends_without_a_result_is_a_failure(study, monkeypatch):
    killed = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    monkeypatch.setattr(queue, "worker_command", lambda folder, device="": killed)
    errors = []
    run_local(study.runs[:1], 1, [], lambda run, error: errors.append(error))
    assert "ended by signal SIGKILL" in errors[0]


def test_other_options_in_the_folder_of_a_run_are_refused(study):
    run = study.runs[0]
    file = run.folder / "run.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "epochs": 9}))
    with pytest.raises(StudyError, match="epochs: 9, now 2"):
        write_config(study.spec, run, study.spec.data)


def test_one_process_runs_a_study(tmp_path):
    code = "import sys, time; from ultralytics.ablation.queue import study_lock; from pathlib import Path\n"
    code += "with study_lock(Path(sys.argv[1])): print('locked', flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "locked\n"
    with pytest.raises(StudyError, match="another process runs this study"), study_lock(tmp_path):
        pass
    other.kill()  # the lock ends with its process
    other.wait()
    with study_lock(tmp_path):
        pass


def test_a_run_ends_with_its_parent(tmp_path):
    child = "import sys, threading, time; from ultralytics.ablation import worker\n"
    child += (
        "threading.Thread(target=worker._end_with_parent, daemon=True).start(); print('up', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, WATCH: "1"}
    )
    assert process.stdout.readline() == b"up\n"
    process.stdin.close()  # as when the parent is killed
    assert process.wait(timeout=20) == 1


SMALL = """
backbone:
  - [-1, 1, Conv, [16, 3, 4]] # 0
  - [-1, 1, Conv, [32, 3, 2]] # 1
  - [-1, 1, Conv, [32, 3, 2]] # 2
head:
  - [[1, 2], 1, RTDETRDecoder, [nc, 32, 12, 4, 4, 1, 64]] # 3
"""
CHANGES = {
    "EMA": {"after": 1, "row": [1, "EMA", [8]], "readers": "all"},
    "MAL": {"train": {"loss_class": "mal"}},
    "few": {"train": {"queries": 5}},
    "many": {"train": {"one_to_many": 1.0}},
}


@pytest.mark.slow
def test_a_study_that_is_killed_often_gives_the_same_table(tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL)
    study = {**STUDY, "model": str(tmp_path / "small.yaml"), "seeds": 3, "changes": CHANGES}
    study["train"] = {**STUDY["train"], "queries": 12}
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(study, sort_keys=False))
    main = "from ultralytics.cfg import entrypoint; entrypoint()"
    command = [sys.executable, "-c", main, "ablate", f"study={file}", "cost=False", "jobs=2"]

    def texts(folder):
        return {name: (folder / "study" / f"table.{name}").read_bytes() for name in ("txt", "md", "tex", "csv")}

    start = time.monotonic()
    subprocess.run([*command, f"project={tmp_path / 'whole'}"], check=True)
    longest = 2 * (time.monotonic() - start) / 10  # a tenth of the study twice: about 3 of its 15 runs
    rng, killed = random.Random(0), 0
    for _ in range(20):
        process = subprocess.Popen([*command, f"project={tmp_path / 'killed'}"])
        time.sleep(rng.uniform(0.1, 1) * longest)
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*command, f"project={tmp_path / 'killed'}"], check=True)
    assert killed >= 10
    assert texts(tmp_path / "whole") == texts(tmp_path / "killed")
    assert len(list((tmp_path / "killed").rglob(DONE))) == 15
    assert not list((tmp_path / "killed").rglob(ERROR))


@pytest.mark.slow
def test_a_ray_cluster_that_loses_a_node_gives_the_same_table(tmp_path):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY, sort_keys=False))
    main = "from ultralytics.cfg import entrypoint; entrypoint()"
    command = [sys.executable, "-c", main, "ablate", f"study={file}", "cost=False"]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    lost = cluster.add_node(num_cpus=1)
    address = {**os.environ, "RAY_ADDRESS": cluster.address}
    process = subprocess.Popen([*command, f"project={tmp_path / 'ray'}", "executor=ray"], env=address)
    try:
        time.sleep(40)
        assert process.poll() is None
        cluster.remove_node(lost, allow_graceful=False)
        assert process.wait(timeout=900) == 0
    finally:
        process.kill()
        cluster.shutdown()
    subprocess.run([*command, f"project={tmp_path / 'local'}"], check=True)
    tables = [(tmp_path / place / "study" / "table.csv").read_bytes() for place in ("ray", "local")]
    assert tables[0] == tables[1]
