"""python -m tests.stress: see README.md beside this."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.stress.conductor import Run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description="many processes, killed at random")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--shift", type=float, default=10.0, help="seconds between two looks at the histories")
    parser.add_argument("--seed", type=int, help="of an earlier run, to have the same choices again")
    parser.add_argument("--plain", action="store_true", help="through cffi alone, without the front in C")
    parser.add_argument("--keep", action="store_true", help="keep segment and histories of a run that failed")
    chosen = parser.parse_args()
    if chosen.plain:
        os.environ["MQSHM_FRONT"] = "0"
    seed = random.SystemRandom().randrange(1 << 32) if chosen.seed is None else chosen.seed
    directory = Path(tempfile.mkdtemp(prefix="mqshm-stress-"))
    run = Run(seed, directory, lambda text: print(text, flush=True))
    print(f"seed {seed}, {'cffi alone' if chosen.plain else 'front in C where it is built'}", flush=True)
    try:
        run.start()
        ends = time.monotonic() + chosen.minutes * 60
        while run.shifts < 2 or time.monotonic() < ends:  # a calm one and one with deaths at least
            seconds = max(1.0, min(chosen.shift, ends - time.monotonic()))
            if not run.shift(seconds, calm=run.shifts % 3 == 0):
                break
        else:
            run.finish()
    finally:
        if run.problems and chosen.keep:
            print(f"kept: broker {run.name!r} (`mqshm rm {run.name}` removes it) and {directory}")
        else:
            run.destroy()
            shutil.rmtree(directory)
    for each in run.problems:
        print(each)
    print(
        f"{run.shifts} shifts, {run.processes} processes started and {run.killed} killed, {run.messages} messages "
        f"published, {run.deliveries} received: {len(run.problems)} problems"
    )
    return 1 if run.problems else 0


if __name__ == "__main__":
    sys.exit(main())
