"""Seconds of a training step of the EfficientViT-M0 backbone beside other processes, by the wait policy of OpenMP.

python benchmarks/spin.py --beside 4
"""

import argparse
import os
import subprocess
import sys

STEPS = """
import time, torch
from ultralytics.nn.tasks import RTDETRDetectionModel
torch.set_num_threads(2)
backbone = RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml", nc=6, verbose=False).train().model[0]
images = torch.rand(4, 3, 160, 160)
times = []
for _ in range(11):
    start = time.perf_counter()
    sum(y.mean() for y in backbone(images)).backward()
    times.append(time.perf_counter() - start)
print(f"{sum(times[1:]) / 10:.3f}")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beside", type=int, default=4, help="busy processes beside the step")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; the policies take turns")
    args = parser.parse_args()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(args.beside)]
    try:
        for _ in range(args.repeats):
            for policy in ("", "PASSIVE"):
                environment = {**os.environ, "OMP_WAIT_POLICY": policy}
                if not policy:
                    del environment["OMP_WAIT_POLICY"]
                run = subprocess.run([sys.executable, "-c", STEPS], env=environment, capture_output=True, text=True)
                print(f"{policy or 'default'}: {run.stdout.strip().splitlines()[-1]} s", flush=True)
    finally:
        for process in busy:
            process.kill()


if __name__ == "__main__":
    main()
