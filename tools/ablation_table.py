"""Merge the tables of several runs: size, speed, mAP50 and mAP50-95, and the differences to the first.

    python tools/ablation_table.py runs/detect/val runs/detect/val2 --names baseline,mine

The same as `yolo table runs/detect/val runs/detect/val2`. The table is also written to runs/table.
"""

from ultralytics.cli import run_script
from ultralytics.tools.compare_runs import command

if __name__ == "__main__":
    run_script(command, __doc__)
