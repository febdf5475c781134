"""Show parameters, FLOPs and time of every layer of a network.

    python tools/main_profile.py --model rtdetr-efficientvit-m0.yaml --imgsz 640 --device cpu
    python tools/main_profile.py --weights best.pt --sort time

The same as `yolo profile model=...`. The table is also written to runs/profile.
"""

from ultralytics.cli import run_script
from ultralytics.tools.fps import profile

if __name__ == "__main__":
    run_script(profile, __doc__, aliases={"weights": "model", "cfg": "model"})
