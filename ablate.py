"""Run an ablation study: train a base and its changes for several seeds, and write the table with its statistics.

    python ablate.py --study my-study.yaml --dry            cells, cost and estimated time; nothing is trained
    python ablate.py --study my-study.yaml                  train and report; the same command continues a study
    python ablate.py --study my-study.yaml --device 0,1     one run on each GPU
    python ablate.py --study my-study.yaml --status         progress and remaining time

docs/en/ablation.md describes the study file. The same in Python:

    from ultralytics.ablation import Study

    analysis = Study("my-study.yaml").run(jobs=2)
"""

from ultralytics.cli import load_tool, run_script

if __name__ == "__main__":
    run_script(load_tool("ablate"), __doc__)
