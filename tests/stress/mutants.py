"""Breaks the core in known ways, one at a time, in a copy, and has a run of processes find each.

    python -m tests.stress.mutants [--rounds N] [NAME ...]

A mutant that is not found in any round is a demand that is missing, or a window too small to be hit by chance.
"""

# ruff: noqa: E501 -- the lines of C are as they stand in the core

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
COPIED = ("csrc", "mqshm", "tests", "setup.py")  # which builds in place without the package's description


class Mutant(NamedTuple):
    name: str
    file: str
    was: str
    becomes: str
    run: tuple[str, ...] = ("tests.stress", "--minutes", "0.15", "--shift", "4")


MUTANTS = [
    Mutant(
        "what the dead held is not given back",
        "flow/reap.c",
        "\t\tcase SLOT_INFLIGHT: again(s, i, w); break;\n",
        "",
    ),
    Mutant(
        "what the dead held is freed",
        "flow/reap.c",
        "case SLOT_INFLIGHT: again(s, i, w); break;",
        "case SLOT_INFLIGHT: give_back(s, i, w); break;",
    ),
    Mutant(
        "private subscriptions of the dead stay",
        "flow/reap.c",
        "\t\tmqi_subs_of_peer(h, p);\n",
        "",
    ),
    Mutant(
        "ack does not look at the generation",
        "flow/settle.c",
        "if (unlikely(!mqi_slot_free(s, d->slot, d->word))) return lost(d);",
        "mqi_slot_free(s, d->slot, mqi_load_acq(&s->slots[d->slot].word));",
    ),
    Mutant(
        "extending a lease does not move its end",
        "flow/settle.c",
        "uint64_t due = mqi_boot_ms_in(ms);\n\t\tif (mqi_due_set(s, d->slot, d->word, mqi_slot_gen(now), due)",
        "uint64_t due = mqi_boot_ms_in(0 * ms);\n\t\tif (mqi_due_set(s, d->slot, d->word, mqi_slot_gen(now), due)",
    ),
    Mutant(
        "a view does not hold its payload",
        "flow/settle.c",
        "\t\td->word = freeing;\n\t\tMQI_COUNT(d->sub->counters->settled, 1);\n",
        "\t\td->word = freeing;\n\t\tMQI_COUNT(d->sub->counters->settled, 1);\n\t\tif (d->block) mqi_block_release(d->sub->h, d->block, d->block_gen, d->bit);\n",
    ),
    Mutant(
        "a redelivery is not hinted at, now or later",
        "shm/slab.h",
        "\tmqi_or64(&s->again_hints[ring * mqi_again_words(s) + word], 1ull << group % 64);\n",
        "\tif (index % 64 != 7) mqi_or64(&s->again_hints[ring * mqi_again_words(s) + word], 1ull << group % 64);\n",
    ),
    Mutant(
        "attempts do not rise where they were lost",
        "flow/receive.c",
        "\tuint64_t leased = mqi_slot_word(SLOT_INFLIGHT, s->h->peer, mqi_slot_gen(word) + 1, attempt);\n",
        "\tif (attempt == 3) attempt = 2;\n\tuint64_t leased = mqi_slot_word(SLOT_INFLIGHT, s->h->peer, mqi_slot_gen(word) + 1, attempt);\n",
    ),
    Mutant(
        "a publish to many returns before the last receiver has it",
        "flow/publish.c",
        "\tfor (uint32_t i = 0; i < n; i++) {\n\t\trc = mqi_deliver(&claims[i], m);\n",
        "\tfor (uint32_t i = 0; i < n; i++) {\n\t\tif (i && i == n - 1 && m->seq % 512 == 7) { mqi_finish_freeing(claims[i].sub, claims[i].index, claims[i].word, offset, gen, i); break; }\n\t\trc = mqi_deliver(&claims[i], m);\n",
    ),
    Mutant(
        "a batch that stops in the middle counts the one that is not in",
        "flow/publish.c",
        "\t\tif (unlikely(rc != MQSHM_OK)) break;\n\t\tseqs[*done] = m.seq;\n",
        "\t\tif (unlikely(rc != MQSHM_OK)) { seqs[*done] = mqi_next_seq(h); ++*done; break; }\n\t\tseqs[*done] = m.seq;\n",
    ),
    Mutant(
        "a publisher reserves for some and keeps what it got",
        "flow/publish.c",
        "\tif (rc != MQSHM_OK) give_back(h->claims, *n);\n\telse\n",
        "\tif (rc == MQSHM_OK)\n",
    ),
    Mutant(
        "a receiver goes over a cell",
        "flow/receive.c",
        "\t\t\th = (int64_t)(head - h) > 1 ? head : h + 1;\n",
        "\t\t\th = (int64_t)(head - h) > 1 ? head + 1 : h + 1;\n",
    ),
    Mutant(
        "what is dropped is not counted",
        "flow/publish.c",
        "\tmqi_settle(&victim, &s->counters->dropped);\n",
        "\tuint64_t nowhere = 0;\n\tmqi_settle(&victim, &nowhere);\n",
    ),
    Mutant(
        "of two that publish an id neither looks for the other",
        "flow/unique.c",
        "if (messages[*which].unique) rc = mqi_id_claim(",
        "if (0) rc = mqi_id_claim(",
        ("tests.stress.ids", "--count", "100000"),
    ),
    Mutant(
        "the ids of a transaction are not added",
        "flow/unique.c",
        "\t\tif (messages[*which].unique) rc = mqi_id_add(",
        "\t\tif (messages[*which].unique && n == 1) rc = mqi_id_add(",
        ("tests.stress.ids", "--count", "100000"),
    ),
    Mutant(
        "a forked child is taken for its parent",
        "shm/handle.h",
        "\tif (unlikely(h->forks != mqi_fork_count())) return MQSHM_FORKED;\n",
        "",
    ),
]


def is_found(mutant: Mutant, where: Path, rounds: int) -> str:
    target = where / "csrc" / mutant.file
    text = (ROOT / "csrc" / mutant.file).read_text()
    if text.count(mutant.was) != 1:
        return "its text is not there any more"
    target.write_text(text.replace(mutant.was, mutant.becomes))
    try:
        build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"]
        built = subprocess.run(build, cwd=where, capture_output=True, text=True)
        if built.returncode:
            return f"it does not build\n{built.stderr}"
        environment = {**os.environ, "PYTHONPATH": str(where)}
        for seed in range(1, rounds + 1):
            run = [sys.executable, "-m", *mutant.run, "--seed", str(seed)]
            result = subprocess.run(run, cwd=where, capture_output=True, text=True, env=environment)
            if result.returncode:
                first = _first(result.stdout)
                return f"found: {first}" if first else f"ended with {result.returncode}\n{result.stdout}{result.stderr}"
        return "NOT FOUND"
    finally:
        target.write_text(text)


def _first(output: str) -> str:
    """What was found first, in a line; nothing where the run itself went wrong."""
    return next(
        (line[:200] for line in output.splitlines() if (line.startswith("seed ") or " ids " in line) and ": " in line),
        "",
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress.mutants")
    parser.add_argument("--rounds", type=int, default=4, help="runs, of another seed each, to find a mutant in")
    parser.add_argument("names", nargs="*", help="parts of mutants' names; all, if none is given")
    chosen = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory(prefix="mqshm-mutants-") as directory:
        where = Path(directory)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, where / name, ignore=shutil.ignore_patterns("*.so", "build", "__pycache__"))
            else:
                shutil.copy(source, where / name)
        for mutant in MUTANTS:
            if chosen.names and not any(name in mutant.name for name in chosen.names):
                continue
            said = is_found(mutant, where, chosen.rounds)
            missed += not said.startswith("found")
            print(f"{mutant.name}\n    {said}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
