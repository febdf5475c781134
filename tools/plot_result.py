"""Draw metrics and losses of several trainings in one picture each, with a line for each run.

    python tools/plot_result.py runs/detect/train runs/detect/train2 --names baseline,mine

The same as `yolo plot-results runs/detect/train runs/detect/train2`. The pictures are written to runs/plot.
"""

from ultralytics.cli import run_script
from ultralytics.tools.plot_runs import command

if __name__ == "__main__":
    run_script(command, __doc__)
