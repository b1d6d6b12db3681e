"""Breaks the core in known ways, one at a time, in a copy, and has a fuzzer find each.

    python3 mutants.py [NAME ...]

A mutant that is not found is a check that is missing. One whose text is not there any more is to be brought up to date.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
CSRC = HERE.parents[2] / "csrc"
PATIENCE = 600.0  # seconds
COMMANDS = {
    "fuzz_ops": ["--count", "200000", "--seed", "1"],
    "fuzz_ops_lf": ["-max_total_time=200", "-max_len=16384", "-seed=1", "-artifact_prefix=./"],
    "fuzz_damage": ["--count", "10000", "--seed", "1"],
}


class Mutant(NamedTuple):
    name: str
    file: str
    was: str
    becomes: str
    fuzzer: str


MUTANTS = [
    Mutant(
        "a settled payload keeps its receiver's bit",
        "flow/settle.c",
        "\tmqi_block_release(s->h, block, gen, bit);",
        "\t(void)block, (void)gen, (void)bit;",
        "fuzz_ops",
    ),
    Mutant(
        "a nack for later forgets its time",
        "flow/settle.c",
        "uint64_t due = mqi_boot_ms() + ms, later",
        "uint64_t due = mqi_boot_ms(), later",
        "fuzz_ops_lf",
    ),
    Mutant(
        "an id that was given back counts as published",
        "shm/ids.c",
        "\t\tmqi_store_rel(&e->state, ID_WITHDRAWN);",
        "",
        "fuzz_ops",
    ),
    Mutant(
        "ids are forgotten by a window that is not any more",
        "shm/ids.c",
        "now < began + config.dedup_window_ms) return;",
        "now < began + h->dedup_window_ms) return;",
        "fuzz_ops",
    ),
    Mutant(
        "what is known is looked for in one table only",
        "shm/ids.c",
        "if (rc == MQSHM_OK && !(word & VOID)) rc = search_all(h, other(word), &s);\n\treturn rc;\n}\n\n/* A death",
        "return rc;\n}\n\n/* A death",
        "fuzz_ops",
    ),
    Mutant(
        "drop_lowest drops what is above the new message",
        "flow/publish.c",
        "unsigned highest = s->overflow == MQSHM_DROP_LOWEST ? m->ring : 0;",
        "unsigned highest = 0;",
        "fuzz_ops",
    ),
    Mutant(
        "drop_lowest keeps the new message out where one of its priority waits",
        "flow/publish.c",
        "unsigned highest = s->overflow == MQSHM_DROP_LOWEST ? m->ring : 0;",
        "unsigned highest = s->overflow == MQSHM_DROP_LOWEST ? m->ring + 1 : 0;",
        "fuzz_ops",
    ),
    Mutant(
        "a commit that nobody receives forgets its ids",
        "flow/commit.c",
        "c->block = 0; /* gone, and its ids stay",
        "{} /* gone, and its ids stay",
        "fuzz_ops",
    ),
    Mutant(
        "a commit that fails keeps what it was to settle",
        "flow/commit.c",
        "\t\tundo_settling(c, begun);",
        "\t\tif (begun > 100) undo_settling(c, begun);",
        "fuzz_ops",
    ),
    Mutant(
        "what was to be settled by a commit that died undone is gone",
        "flow/reap.c",
        "if (verdict == VERDICT_COMMITTED) freeing(s, i, w);",
        "if (verdict != VERDICT_UNKNOWN) freeing(s, i, w);",
        "fuzz_ops",
    ),
    Mutant(
        "what was settled by a commit that died done comes again",
        "flow/reap.c",
        "if (verdict == VERDICT_COMMITTED) freeing(s, i, w);",
        "if (verdict == VERDICT_COMMITTED) again(s, i, w);",
        "fuzz_ops",
    ),
    Mutant(
        "what becomes a dead letter stays as well",
        "flow/dead.c",
        "mqi_transact(h, &part, 1, &d, NULL, 1, counter",
        "mqi_transact(h, &part, 1, &d, NULL, 0, counter",
        "fuzz_ops",
    ),
    Mutant(
        "the claim that finds a message worn out counts as a delivery",
        "flow/settle.c",
        "mqi_slot_gen(d->word) + 1, d->attempt & MQI_ATTEMPTS_MAX)",
        "mqi_slot_gen(d->word) + 1, mqi_slot_attempts(d->word))",
        "fuzz_ops",
    ),
    Mutant(
        "what is worn out is gone",
        "flow/receive.c",
        "rc = mqi_give_up(out, mqi_death_of(out), NULL, 0);",
        "rc = mqi_settle(out, &s->counters->rejected);",
        "fuzz_ops",
    ),
    Mutant(
        "something is dropped for a dead letter that does not come",
        "flow/commit.c",
        "\t\trc = look_at_leases(&c);",
        "\t\trc = c.m > 1000 ? look_at_leases(&c) : MQSHM_OK;",
        "fuzz_ops",
    ),
    Mutant(
        "a slot's payload in the slot may have any size",
        "flow/receive.c",
        "if (out->size > MQI_INLINE) return false;",
        "",
        "fuzz_damage",
    ),
    Mutant(
        "a ring's cell may lead to any slot",
        "flow/receive.c",
        "if (unlikely(index >= s->capacity))",
        "if (0)",
        "fuzz_damage",
    ),
    Mutant(
        "a bucket's chain is followed without end",
        "shm/topics.c",
        "id < MQI_TOPICS && steps < MQI_TOPICS ? row_at(h, id) : NULL",
        "id < MQI_TOPICS ? row_at(h, id) : NULL",
        "fuzz_damage",
    ),
    Mutant(
        "a chunk's blocks may have no size",
        "shm/block.c",
        "stride < 64 || stride % 64",
        "stride % 64",
        "fuzz_damage",
    ),
]


def found(mutant: Mutant, where: Path) -> bool:
    core = where / "csrc"
    shutil.copytree(CSRC, core)
    source = core / mutant.file
    text = source.read_text()
    if text.count(mutant.was) != 1:
        sys.exit(f"'{mutant.name}': its text stands {text.count(mutant.was)} times in {mutant.file}")
    source.write_text(text.replace(mutant.was, mutant.becomes))
    program = where / mutant.fuzzer
    built = subprocess.run(
        ["make", f"CSRC={core}", f"BUILD={where}", str(program)], cwd=HERE, capture_output=True, text=True
    )
    if built.returncode:
        sys.exit(f"'{mutant.name}' does not compile:\n{built.stderr}")
    run = subprocess.run(
        [program, *COMMANDS[mutant.fuzzer]],
        cwd=where,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PATIENCE,
    )
    line = next((line for line in run.stderr.splitlines() if line.startswith("FAILED")), "")
    print(f"{'found ' if line else 'MISSED'}  {mutant.fuzzer}: {mutant.name}\n        {line}", flush=True)
    return bool(line)


def main() -> int:
    names = sys.argv[1:]
    missed = 0
    for mutant in MUTANTS:
        if names and not any(name in mutant.name for name in names):
            continue
        with tempfile.TemporaryDirectory() as where:
            missed += not found(mutant, Path(where))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
