"""Checks the models with spin: each holds within its bounds, and each seeded fault is found.

    python3 check.py [--short | --long] [--jobs N] [--only TEXT]
    python3 check.py --model ring "M0=1 M1=1 DEATHS=1"      # one search of any bounds

A search that ends for want of time, memory or depth shows nothing: it is `incomplete`, and counts as a failure.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import bounds
from bounds import Search

HERE = Path(__file__).parent
DEPTH = 2_000_000
WIDTH = 34  # of a search by bits: 2 ** 34 of them are 2 GiB
STORES = {"exact": "-DCOLLAPSE", "hashed": "-DHC4", "bits": "-DBITSTATE"}


class Outcome(NamedTuple):
    search: Search
    verdict: str  # holds, no error, found, or what went wrong
    said: str
    states: int
    seconds: float

    @property
    def expected(self) -> bool:
        if self.search.fault:
            return self.verdict == "found"
        return self.verdict == ("no error" if self.search.store == "bits" else "holds")


def build(search: Search, where: Path) -> str:
    """Empty, or why there is nothing to run. `spin` finds common.pml beside the model."""
    flags = [f"-D{flag}" for flag in search.all_flags]
    made = subprocess.run(
        ["spin", "-a", *flags, HERE / f"{search.model}.pml"], cwd=where, capture_output=True, text=True
    )
    if made.returncode or not (where / "pan.c").exists():
        return "spin: " + (made.stdout + made.stderr).strip()
    # A fault is found soon: compiling would be most of it.
    level = "-O0" if search.fault else "-O1" if search.quick else "-O2"
    options = ["-w", level, "-DSAFETY", f"-DMEMLIM={bounds.MEMORY_MB}", STORES[search.store]]
    built = subprocess.run(["gcc", *options, "-o", "pan", "pan.c"], cwd=where, capture_output=True, text=True)
    return f"gcc: {built.stderr.strip()}" if built.returncode else ""


def judge(search: Search, text: str) -> tuple[str, str]:
    """What pan's report shows. Whatever it does not say in so many words, it does not show."""
    broken = re.search(r"pan:\d+: (assertion violated .*?) \(at depth", text)
    if broken:
        return "found", broken[1]
    if "errors: 0" not in text:
        return "incomplete", text.strip().splitlines()[0] if text.strip() else "no report"
    for sign in ("max search depth too small", "out of memory", "Search not completed", "hashtable full"):
        if sign in text:
            return "incomplete", sign
    if search.store == "bits":
        factor = re.search(r"hash factor: ([\d.]+)", text)
        return "no error", f"by bits, not exhaustive; hash factor {factor[1] if factor else 'unknown'}"
    return "holds", {"exact": "complete", "hashed": "complete but for collisions of hashes"}[search.store]


def run(search: Search) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="mqshm-model-") as directory:
        where = Path(directory)
        start = time.monotonic()
        wrong = build(search, where)
        if wrong:
            return Outcome(search, "not built", wrong.splitlines()[-1], 0, time.monotonic() - start)
        # -E: a process that waits for ever is no error by itself; what may not wait is in the monitors.
        options = ["-E", f"-m{DEPTH}", f"-w{WIDTH if search.store == 'bits' else 22}"]
        try:
            done = subprocess.run(
                ["./pan", *options], cwd=where, capture_output=True, text=True, timeout=search.seconds
            )
            verdict, said = judge(search, done.stdout + done.stderr)
            states = re.search(r"(\d+) states, stored", done.stdout)
        except subprocess.TimeoutExpired:
            verdict, said, states = "incomplete", f"not over after {search.seconds} s", None
        return Outcome(search, verdict, said, int(states[1]) if states else 0, time.monotonic() - start)


def show(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The table, a line as soon as it is known; returns what is not as it should be."""
    wrong = []
    print(f"{'model':8}{'flags':44}{'verdict':12}{'states':>12}{'seconds':>9}  how, or where")
    for each in outcomes:
        search = each.search
        mark = "" if each.expected else "  <-- WRONG"
        wrong += [] if each.expected else [each]
        said = each.said if len(each.said) < 60 else each.said[:57] + "..."
        numbers = f"{each.verdict:12}{each.states:12,}{each.seconds:9.1f}"
        print(f"{search.model:8}{' '.join(search.all_flags):44}{numbers}  {said}{mark}", flush=True)
    return wrong


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--short", action="store_true", help="small bounds, a minute; the default")
    length.add_argument("--long", action="store_true", help="all bounds and every fault")
    parser.add_argument("--jobs", type=int, default=1, help="searches at a time")
    parser.add_argument("--only", default="", help="those whose model and flags contain this")
    parser.add_argument("--model", nargs=2, metavar=("MODEL", "FLAGS"), help="one search of these bounds")
    parser.add_argument("--store", choices=STORES, default="exact", help="with --model: how states are kept")
    parser.add_argument("--seconds", type=int, default=600, help="with --model: at most so long")
    return parser.parse_args()


def main() -> int:
    asked = arguments()
    if asked.model:
        model, flags = asked.model
        fault = next((flag for flag in flags.split() if flag.startswith("BAD_")), "")
        rest = " ".join(flag for flag in flags.split() if flag != fault)
        searches = [Search(model, rest, fault.removeprefix("BAD_"), asked.store, asked.seconds)]
    else:
        searches = bounds.LONG if asked.long else bounds.SHORT
        searches = [each for each in searches if asked.only in f"{each.model} {' '.join(each.all_flags)}"]
    missing = bounds.without_search() if asked.long else []
    for each in missing:
        print(f"{each}: nothing looks for it")
    start = time.monotonic()
    with ThreadPoolExecutor(asked.jobs) as pool:
        wrong = show(pool.map(run, searches))
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = f"{time.monotonic() - start:.0f} s, {spent.ru_utime + spent.ru_stime:.0f} s of the processor"
    print(f"{len(searches)} searches, {len(wrong)} not as they should be; {seconds}")
    return 1 if wrong or missing or not searches else 0


if __name__ == "__main__":
    os.environ.pop("MAKEFLAGS", None)
    sys.exit(main())
