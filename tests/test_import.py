"""Importing the package has no effects: no files, environment, network or patched libraries, and no torch."""

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import ultralytics

ROOT = Path(__file__).resolve().parents[1]

# Runs in a fresh interpreter; audit hooks report every file opened for writing and every socket.
AUDIT = """
import importlib, json, os, sys
sys.dont_write_bytecode = True
before, ours = (names.split() for names in sys.argv[1:])
libraries = [importlib.import_module(name) for name in before]

def state():
    # what a patch would change: functions and classes of the libraries, and their thread counts
    parts = {f"{m.__name__}.{k}": id(v) for m in libraries for k, v in vars(m).items() if callable(v)}
    counts = {m.__name__: m.get_num_threads() for m in libraries if hasattr(m, "get_num_threads")}
    return parts | counts

noticed = []
def record(event, arguments):
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        noticed.append(f"open {arguments[0]} {arguments[1]}")
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.putenv", "os.unsetenv", "subprocess.Popen", "os.system") \\
            or event.startswith("socket."):
        noticed.append(f"{event} {arguments}")
environment = dict(os.environ)
parts = state()
sys.addaudithook(record)
for name in ours:
    importlib.import_module(name)
later = state()
patched = sorted(key for key in parts if later.get(key) != parts[key])
changed = sorted(k for k in environment.keys() | os.environ.keys() if environment.get(k) != os.environ.get(k))
print(json.dumps({"noticed": noticed, "environment": changed, "patched": patched, "modules": sorted(sys.modules)}))
"""
TORCH_FREE = ("cfg", "cli", "utils", "utils.checks", "utils.files")


def imported(*modules: str, folder: Path, after: str = "") -> dict:
    """Return the effects of importing the modules in a fresh interpreter, after the libraries of `after`."""
    folder.mkdir()
    run = subprocess.run(
        [sys.executable, "-c", AUDIT, after, " ".join(modules)],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(folder), "MPLCONFIGDIR": str(folder.parent)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    if not after:
        assert run.stderr == "", "importing must not print"
        assert list(folder.iterdir()) == [], "importing must not write files"
    return json.loads(run.stdout)


def test_import_has_no_effects_and_needs_no_torch(tmp_path):
    seen = imported("ultralytics", *(f"ultralytics.{name}" for name in TORCH_FREE), folder=tmp_path / "home")
    assert seen["noticed"] == seen["environment"] == []
    heavy = {"torch", "torchvision", "numpy", "cv2", "matplotlib", "scipy", "timm", "PIL"} & set(seen["modules"])
    assert not heavy


def test_no_module_has_effects_when_imported(tmp_path):
    modules = [m.name for m in pkgutil.walk_packages([str(ROOT / "ultralytics")], "ultralytics.") if not m.ispkg]
    refused = {
        ".".join(("ultralytics", *p.relative_to(ROOT / "ultralytics").with_suffix("").parts))
        for p in (ROOT / "ultralytics").rglob("*.py")
        if "\nrefuse(__name__)" in p.read_text(encoding="utf-8")
    }
    modules = [name for name in modules if name not in refused]
    assert len(modules) > 20
    # libraries are imported first, so that their own effects are not counted
    libraries = (
        "torch torch.utils.data torchvision numpy cv2 matplotlib.figure scipy.optimize timm thop PIL.Image yaml tqdm"
    )
    seen = imported(*modules, folder=tmp_path / "home", after=libraries)
    assert seen["noticed"] == seen["environment"] == seen["patched"] == []


def test_public_names_resolve_lazily():
    assert callable(ultralytics.checks)
    assert set(ultralytics.__all__) <= set(dir(ultralytics))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ultralytics.nothing


def test_version_and_requirements_agree_with_the_package_metadata():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{ultralytics.__version__}"\n' in text
    ours = Version(ultralytics.__version__)
    assert ours in SpecifierSet(">=8,<9") and ours in SpecifierSet("==8.4.190") and ours.local.startswith("modules.")
    wanted = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    block = text.partition("dependencies = [")[2].partition("]")[0]
    assert wanted == [line.strip().strip('",') for line in block.strip().splitlines()]
