"""python -m bench: all questions, or some, with mqshm and its peers in the same run."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
import time
from pathlib import Path
from types import ModuleType

from . import harness, report
from .peers import MODULES, present

QUESTIONS = [
    *(
        "limits",
        "pingpong",
        "stream",
        "pool",
        "workqueue",
        "fanout",
        "priorities",
        "flat",
        "tail",
        "idle",
        "timers",
        "health",
        "profile",
        "builds",
    ),
]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures mqshm beside its peers.")
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=f"of {', '.join(QUESTIONS)} (default: all)")
    parser.add_argument("--peers", type=lambda text: text.split(","), help=f"only these, of {', '.join(MODULES)}")
    parser.add_argument("--only", metavar="TEXT", help="only cells whose peer/mode/variant contains this")
    parser.add_argument(
        "--rounds", type=int, default=3, help="interleaved runs of a cell; their median counts (default 3)"
    )
    parser.add_argument("--seconds", type=float, default=harness.TARGET_SECONDS, help="of one run (default 0.5)")
    parser.add_argument(
        "--quick", action="store_true", help="one short round, fewer variants: does it work, not how fast"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything that was measured")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a picture, where matplotlib is installed")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a mark is not met or not measured")
    chosen = parser.parse_args()
    for name in chosen.questions:
        if name not in QUESTIONS:
            parser.error(f"no question {name!r}; there are {', '.join(QUESTIONS)}")
    for name in chosen.peers or ():
        if name not in MODULES:
            parser.error(f"no peer {name!r}; there are {', '.join(MODULES)}")
    if chosen.rounds < 1 or chosen.seconds <= 0:
        parser.error("--rounds and --seconds are above 0")
    if chosen.quick:
        chosen.rounds, chosen.seconds = 1, min(chosen.seconds, 0.1)
    return chosen


def answer(question: ModuleType, chosen: argparse.Namespace) -> list[harness.Result]:
    wanted = [name for name in question.PEERS if chosen.peers is None or name in chosen.peers]
    peers, lines = present(wanted)
    for line in lines:
        print(f"  {line}")
    cells = [cell for cell in question.cells(peers, chosen.quick) if chosen.only is None or chosen.only in cell.key]
    return harness.measure(cells, chosen.rounds, chosen.seconds)


def main() -> int:
    chosen = arguments()
    head = harness.machine()
    command = shlex.join(["python", "-m", "bench", *sys.argv[1:]])
    print(f"{head}\n{command}\n{chosen.rounds} interleaved rounds of about {chosen.seconds:g} s; medians")
    if harness.busy():
        print("WARNING: the machine is busy with other things; ratios will be off, and most for peers with threads")
    answers: dict[str, list[harness.Result]] = {}
    units: dict[str, str] = {}
    verdicts: list[report.Verdict] = []
    for name in chosen.questions or QUESTIONS:
        question = importlib.import_module(f".{name}", __package__)
        print(f"\n{name}: {(question.__doc__ or '').splitlines()[0]}")
        started = time.monotonic()
        results = answer(question, chosen)
        answers[name], units[name] = results, question.UNIT
        if results:
            print(report.results_table(results, question.UNIT))
        if hasattr(question, "epilogue") and results:
            question.epilogue(print)
        print(f"({time.monotonic() - started:.0f} s)", flush=True)
        asked = {result.key for result in results}
        marks = [mark for mark in question.MARKS if chosen.only is None or mark.ours in asked]
        verdicts += report.judge(name, marks, results)
    if verdicts:
        print(f"\nMarks: ratios to the best peer of this run\n{report.marks_table(verdicts)}")
    if chosen.json:
        harness.write_json(chosen.json, {"machine": head, "command": command, "rounds": chosen.rounds}, answers)
    if chosen.plot:
        trouble = report.plot(chosen.plot, {name: (units[name], results) for name, results in answers.items()}, head)
        if trouble:
            print(trouble)
    return int(chosen.strict and any(verdict.word != "met" for verdict in verdicts))


if __name__ == "__main__":
    raise SystemExit(main())
