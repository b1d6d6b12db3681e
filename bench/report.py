"""What was measured, as tables, as marks and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .harness import Result


@dataclass(frozen=True)
class Mark:
    """What mqshm wants to be, as a ratio to the best of some peers in the same run (or, without peers, as a value)."""

    text: str
    ours: str  # key of a cell
    peers: tuple[str, ...]  # keys; the best one counts
    goal: float
    at_least: bool = True  # False: the ratio shall be at most the goal
    unit: str = "x"


@dataclass(frozen=True)
class Verdict:
    question: str
    mark: Mark
    ours: float | None
    peer: str
    theirs: float | None
    ratio: float | None

    @property
    def word(self) -> str:
        if self.ratio is None:
            return "not measured"
        met = self.ratio >= self.mark.goal if self.mark.at_least else self.ratio <= self.mark.goal
        return "met" if met else "NOT MET"


def judge(question: str, marks: Sequence[Mark], results: Sequence[Result]) -> list[Verdict]:
    values = {result.key: result.value for result in results if result.value is not None}
    verdicts = []
    for mark in marks:
        ours = values.get(mark.ours)
        found = {key: values[key] for key in mark.peers if key in values}
        if not mark.peers:
            verdicts.append(Verdict(question, mark, ours, "-", None, ours))
            continue
        peer = (max if mark.at_least else min)(found, key=found.__getitem__, default="-")
        theirs = found.get(peer)
        ratio = ours / theirs if ours is not None and theirs else None
        verdicts.append(Verdict(question, mark, ours, peer, theirs, ratio))
    return verdicts


def number(value: float | None) -> str:
    if value is None:
        return "-"
    for scale, letter in ((1e6, " M"), (1e4, " k")):
        if abs(value) >= scale:
            return f"{value / (1e6 if letter == ' M' else 1e3):.3g}{letter}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the head; the first column is words, the others are figures."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def results_table(results: Sequence[Result], unit: str) -> str:
    rows = [["peer/mode/variant", unit, "spread", "detail"]]
    for result in results:
        if result.value is None:
            rows.append([result.key, "failed", "", result.note[:60]])
            continue
        spread = (max(result.samples) - min(result.samples)) / result.value if result.value else 0.0
        detail = " ".join(f"{name} {number(value)}" for name, value in result.detail.items())
        rows.append([result.key, number(result.value), f"{spread:.0%}", detail])
    return table(rows)


def marks_table(verdicts: Sequence[Verdict]) -> str:
    rows = [["question: mark", "mqshm", "best peer", "its figure", "ratio", "mark", "verdict"]]
    for verdict in verdicts:
        mark = verdict.mark
        sign = ">=" if mark.at_least else "<="
        rows.append(
            [
                f"{verdict.question}: {mark.text}",
                number(verdict.ours),
                verdict.peer.rpartition("/")[0] or "-",
                number(verdict.theirs),
                "-" if verdict.ratio is None else f"{verdict.ratio:.3g}",
                f"{sign} {mark.goal:.3g} {mark.unit}",
                verdict.word,
            ]
        )
    return table(rows)


def plot(path: Path, questions: dict[str, tuple[str, list[Result]]], head: str) -> str | None:
    """A picture, a panel for each question. What stands in the way, or None."""
    try:
        import matplotlib
    except ImportError:
        return "matplotlib is not installed: no plot"
    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn = {name: (unit, [r for r in results if r.value]) for name, (unit, results) in questions.items()}
    drawn = {name: entry for name, entry in drawn.items() if entry[1]}
    if not drawn:
        return "nothing to plot"
    heights = [max(1.5, 0.25 * len(results)) for _, results in drawn.values()]
    figure, axes = pyplot.subplots(
        len(drawn),
        1,
        figsize=(10, sum(heights) + len(drawn)),
        squeeze=False,
        height_ratios=heights,
        layout="constrained",
    )
    for axis, (name, (unit, results)) in zip(axes[:, 0], drawn.items(), strict=True):
        colours = ["tab:red" if result.key.startswith("mqshm") else "tab:gray" for result in results]
        axis.scatter([result.value for result in results], [result.key for result in results], color=colours)
        axis.set_xscale("log")  # of dots, for a bar's length would mean nothing
        axis.grid(axis="y", alpha=0.3)
        axis.invert_yaxis()
        axis.set_title(f"{name} ({unit})", loc="left")
        axis.tick_params(axis="y", labelsize=7)
    figure.suptitle(head, fontsize=7)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return None
