"""Split images and labels into train, val and test at random, as copies or as lists.

    python tools/dataset/split_data.py --images all/images --save my --train 0.8 --val 0.1 --test 0.1 --classes cat,dog
    python tools/dataset/split_data.py --images all/images --save lists --mode list --seed 1

The same as `yolo split images=all/images save=my`.
"""

from ultralytics.cli import run_script
from ultralytics.tools.split import command

if __name__ == "__main__":
    run_script(command, __doc__)
