"""List parameters and GFLOPs of every model YAML, and the reasons why some cannot be built.

    python tools/get_all_yaml_param_and_flops.py
    python tools/get_all_yaml_param_and_flops.py --folder my-models --imgsz 640 --nc 80 --sort parameters

The same as `yolo models folder=...`. The table is also written to runs/models.
"""

from ultralytics.cli import run_script
from ultralytics.tools.model_table import command

if __name__ == "__main__":
    run_script(command, __doc__)
