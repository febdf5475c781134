"""Draw metrics and losses of several trainings into one picture each, a line for each run.

    python tools/plot_result.py runs/detect/train runs/detect/train2 --names baseline,mine

The same as `yolo plot-results runs/detect/train runs/detect/train2`. The pictures are written to runs/plot.
"""

from ultralytics.cfg.arguments import run_tool
from ultralytics.tools.overlay import command

if __name__ == "__main__":
    run_tool(command, __doc__)
