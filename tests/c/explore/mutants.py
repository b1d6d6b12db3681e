"""Breaks the core in known ways, one at a time, in a copy, and has the explorer find each.

    python3 mutants.py [--long] [NAME ...]

A mutant that is not found is a check that is missing. One whose text is not there any more is to be brought up to date.
"""

# ruff: noqa: E501 -- the lines of C are as they stand in the core

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
CSRC = HERE.parents[2] / "csrc"


class Mutant(NamedTuple):
    name: str
    file: str
    was: str
    becomes: str
    program: str


MUTANTS = [
    Mutant(
        "sweeper does not look whether the row is still that death",
        "flow/reap.c",
        "return d->dead_word == 0 || mqi_load_acq(&mqi_peer(h, d->peer)->word) == d->dead_word;",
        "(void)h, (void)d; return true;",
        "dead-number-used-again",
    ),
    Mutant(
        "marks of a row cleared by its sweeper",
        "flow/reap.c",
        "\tmqi_topics_repair(h, peer);\n",
        "\tmqi_topics_repair(h, peer);\n\tfor (unsigned i = 0; i < MQI_SUBS / 64; i++) mqi_store_rel(&row->touched[i], 0);\n",
        "dead-number-used-again",
    ),
    Mutant(
        "linked before OFFER",
        "shm/ring.h",
        "\t\tif (likely(mqi_cas64(cell, v, mqi_cell(want, index)))) break;",
        "\t\tmqi_store_rel(&slot->word, word);\n\t\tif (likely(mqi_cas64(cell, v, mqi_cell(want, index)))) {\n"
        "\t\t\tmqi_store_rel(&slot->word, mqi_slot_word(SLOT_OFFER, mqi_slot_owner(word), mqi_slot_gen(word), 0));\n"
        "\t\t\tbreak;\n\t\t}",
        "publish-publish-receive",
    ),
    Mutant(
        "place written after OFFER",
        "shm/ring.h",
        "\t\tif (likely(mqi_cas64(cell, v, mqi_cell(want, index)))) break;",
        "\t\tmqi_store_rlx(&slot->place, mqi_place(ring, t + 1));\n"
        "\t\tif (likely(mqi_cas64(cell, v, mqi_cell(want, index)))) {\n"
        "\t\t\tmqi_store_rlx(&slot->place, mqi_place(ring, t));\n\t\t\tbreak;\n\t\t}",
        "publish-publish-receive",
    ),
    Mutant(
        "receiver does not compare the place",
        "flow/receive.c",
        "if (likely(mqi_claimable(mqi_slot_state(w)) && mqi_load_acq(&slot->place) == mqi_place(ring, h))) {",
        "if (likely(mqi_claimable(mqi_slot_state(w)))) {",
        "publish-receive-receive",
    ),
    Mutant(
        "receiver passes a cell whose message it did not get",
        "flow/receive.c",
        "if (rc != MQSHM_EMPTY) h++; /* else look again: another has it, or a reaper made OFFER READY */",
        "h++;",
        "publisher-dies",
    ),
    Mutant(
        "again hints cleared after the look",
        "flow/receive.c",
        "\t\t\t\tuint64_t lower = mqi_xchg64(&hints[word], 0);\n",
        "\t\t\t\tuint64_t lower = mqi_load_acq(&hints[word]);\n\t\t\t\tif (mqi_again_words(s) == 1) {\n"
        "\t\t\t\t\tbool any = false;\n\t\t\t\t\tfor (uint32_t i = 0; i < s->capacity && i < mqi_load_acq(&s->shm->slots_ready); i++)\n"
        "\t\t\t\t\t\tany |= mqi_slot_state(mqi_load_acq(&s->slots[i].word)) == SLOT_AGAIN;\n"
        "\t\t\t\t\tmqi_xchg64(&hints[word], 0);\n\t\t\t\t\tif (!any) continue;\n\t\t\t\t}\n",
        "again-and-again",
    ),
    Mutant(
        "again hint set before the state",
        "flow/settle.c",
        "\t\tif (!mqi_cas64(&s->slots[d->slot].word, d->word, given_back(d, SLOT_AGAIN))) return lost(d);\n"
        "\t\tmqi_made_again(s, d->slot);\n",
        "\t\tmqi_made_again(s, d->slot);\n"
        "\t\tif (!mqi_cas64(&s->slots[d->slot].word, d->word, given_back(d, SLOT_AGAIN))) return lost(d);\n",
        "nack-and-receive",
    ),
    Mutant(
        "free hint set before the slot is free",
        "shm/slab.h",
        "\tif (!mqi_cas64(&s->slots[index].word, word, mqi_slot_word(SLOT_FREE, MQI_NOBODY, mqi_slot_gen(word), 0))) return false;\n"
        "\tmqi_slot_freed(s, index);\n",
        "\tmqi_slot_freed(s, index);\n"
        "\tif (!mqi_cas64(&s->slots[index].word, word, mqi_slot_word(SLOT_FREE, MQI_NOBODY, mqi_slot_gen(word), 0))) return false;\n",
        "room-in-time",
    ),
    Mutant(
        "full without a look at every slot",
        "shm/slab.c",
        "for (uint32_t i = 0, ready = memory_of(s); i < ready; i++) {\n\t\t\tif (mqi_slot_take(",
        "for (uint32_t i = 0, ready = 0; i < ready; i++) {\n\t\t\tif (mqi_slot_take(",
        "publish-publish-receive",
    ),
    Mutant(
        "ack by a plain store",
        "shm/slab.h",
        "\tif (!mqi_cas64(&s->slots[index].word, word, mqi_slot_word(SLOT_FREE, MQI_NOBODY, mqi_slot_gen(word), 0))) return false;\n",
        "\tmqi_store_rel(&s->slots[index].word, mqi_slot_word(SLOT_FREE, MQI_NOBODY, mqi_slot_gen(word), 0));\n",
        "lease-ends",
    ),
    Mutant(
        "last share and freeing in two steps",
        "shm/block.c",
        "\t\tif (!mqi_cas64(&b->word, w, mqi_block_word(left ? BLOCK_LIVE : BLOCK_FREE, left, gen))) continue;\n",
        "\t\tif (!mqi_cas64(&b->word, w, mqi_block_word(BLOCK_LIVE, left, gen))) continue;\n"
        "\t\tif (!left) mqi_cas64(&b->word, mqi_block_word(BLOCK_LIVE, 0, gen), mqi_block_word(BLOCK_FREE, 0, gen));\n",
        "receiver-dies",
    ),
    Mutant(
        "wide payload freed before its words are empty",
        "shm/block.c",
        "if (mqi_load_sc(&wide[i]) != wide_word(gen, 0)) return;",
        "(void)i;",
        "last-shares-wide",
    ),
    Mutant(
        "bound slots of the dead freed, committed or not",
        "flow/reap.c",
        "\tif (!mqi_block_held(s->h, block, gen, mqi_load_acq(&slot->ref.bit))) {",
        "\tif (mqi_load_acq(&slot->ref.bit) < 64 && block && gen) {",
        "fan-out-publisher-dies",
    ),
    Mutant(
        "bound slots of the dead delivered, committed or not",
        "flow/reap.c",
        "\tif (!mqi_block_held(s->h, block, gen, mqi_load_acq(&slot->ref.bit))) {",
        "\tif (!block || !gen) {",
        "fan-out-publisher-dies",
    ),
    Mutant(
        "offered slots of the dead freed, linked or not",
        "flow/reap.c",
        "\tif (mqi_ring_leads_to(s, i)) {",
        "\tif (mqi_ring_leads_to(s, i) && s->row > 9) {",
        "publisher-dies",
    ),
    Mutant(
        "row free before its sweep",
        "flow/reap.c",
        "\t\tif (mqi_sweep_row(h, p, word) != MQSHM_OK) continue; /* another reaper was done with it first */\n\t\tmqi_peer_release(h, p, word);\n",
        "\t\tmqi_peer_release(h, p, word);\n\t\tif (mqi_sweep_row(h, p, word) != MQSHM_OK) continue;\n",
        "receiver-dies",
    ),
    Mutant(
        "publisher does not mark what it touches",
        "flow/publish.c",
        "\tmqi_touch(s);\n",
        "",
        "publisher-dies",
    ),
    Mutant(
        "reaper takes a slot over without a mark",
        "flow/reap.c",
        "\tmqi_touch(s); /* the word will name this peer, which may die as well */\n",
        "",
        "reapers-die",
    ),
    Mutant(
        "slot freed before its share is given back",
        "flow/settle.c",
        "\tmqi_block_release(s->h, block, gen, bit);\n\tmqi_slot_free(s, index, word);\n",
        "\tmqi_slot_free(s, index, word);\n\tmqi_block_release(s->h, block, gen, bit);\n",
        "receiver-dies",
    ),
    Mutant(
        "time raised without a second look",
        "flow/due.c",
        "\t\tif (first) lower_both(s, from, first);\n",
        "\t\t(void)first;\n",
        "set-beside-what-fires",
    ),
    Mutant(
        "time written by who has lost its lease",
        "flow/due.c",
        "\t\tif (mqi_load_acq(&s->slots[index].word) != word) return false;\n",
        "\t\t(void)word;\n",
        "two-give-back-for-later",
    ),
    Mutant(
        "time given to a lease that is over",
        "flow/due.c",
        "\tif (mqi_load_acq(&s->slots[i].word) != w) return 0;\n",
        "",
        "two-give-back-for-later",
    ),
    Mutant(
        "tomb made without a look at the head",
        "flow/expire.c",
        "\tmqi_ring_tomb(s, i, tomb);\n",
        "",
        "expire-in-the-middle",
    ),
    Mutant(
        "tomb freed wherever it stands",
        "flow/expire.c",
        "\tmqi_ring_tomb(s, i, tomb);\n",
        "\tmqi_slot_free(s, i, tomb);\n",
        "expire-in-a-small-ring",
    ),
    Mutant(
        "half-made tomb passed without a second look",
        "shm/ring.c",
        "\t\tw = mqi_load_acq(&slot->word);\n\t\tif (mqi_load_acq(&slot->place)",
        "\t\tif (mqi_load_acq(&slot->place)",
        "pass-under-repair",
    ),
    Mutant(
        "half-made tomb passed before the head says so",
        "shm/ring.c",
        "\t\tmqi_raise(&s->shm->head[ring], at + 1);\n",
        "",
        "pass-under-repair",
    ),
    Mutant(
        "receiver passes tombs without burying them",
        "flow/receive.c",
        "\t\t\tif (unlikely(mqi_ring_grave(mqi_slot_state(w)))) mqi_ring_bury(s, ring, h, index, w);\n",
        "",
        "expire-in-the-middle",
    ),
    Mutant(
        "tombs at the head left to receivers",
        "flow/due.c",
        "\t\tif (f.tombs >> ring & 1) mqi_ring_sweep(s, ring);\n",
        "\t\t(void)ring;\n",
        "expire-twice-at-once",
    ),
    Mutant(
        "OFFER expired before it is linked",
        "flow/due.c",
        "\t\tif (state == SLOT_OFFER && !mqi_ring_leads_to(s, i)) return put_off(s, i, time, f->now_ms + PUT_OFF_MS);\n",
        "",
        "expire-twice-at-once",
    ),
    Mutant(
        "time of a message on its way in removed",
        "flow/due.c",
        "if (state == SLOT_NEW || state == SLOT_BOUND || state == SLOT_INFLIGHT) most = 1;",
        "if (state == SLOT_INFLIGHT) most = 1;",
        "expire-twice-at-once",
    ),
    Mutant(
        "what is given back has no time",
        "flow/settle.c",
        "if (unlikely(mqi_info_flags(mqi_load_rlx(&s->slots[index].info)) & F_EXPIRES)) mqi_due_again(s, index);",
        "",
        "expire-what-is-given-back",
    ),
    Mutant(
        "delay longer than its message's time",
        "flow/settle.c",
        "due = mqi_due_or_over(s, mqi_boot_ms_in(ms), d->expires_ns)",
        "due = mqi_boot_ms_in(ms)",
        "expire-what-is-given-back",
    ),
    Mutant(
        "expirer not marked where it takes out",
        "flow/expire.c",
        "\tmqi_touch(s);\n",
        "",
        "expirer-dies",
    ),
    Mutant(
        "expiry of a dead peer left as it is",
        "flow/reap.c",
        "\t\tcase SLOT_EXPIRING: mqi_expire_take_over(s, i, w); break;\n",
        "",
        "expire-under-repair",
    ),
    Mutant(
        "tomb of a dead peer left where it is",
        "flow/expire.c",
        "\tbury(s, i, mine);\n\tmqi_ring_sweep(s, ring);\n",
        "\tmqi_cas64(&s->slots[i].word, mine, mqi_slot_word(SLOT_TOMB, MQI_NOBODY, mqi_slot_gen(mine), 0));\n\t(void)ring, (void)bury;\n",
        "expire-under-repair",
    ),
    Mutant(
        "watcher looks before it says until when it sleeps",
        "flow/watch.c",
        "\t\tif (first >= until) return until;\n",
        "\t\treturn until;\n",
        "watch-and-set",
    ),
    Mutant(
        "watcher not rung for an earlier time",
        "flow/due.c",
        "mqi_event_ring_peer(s->h, mqi_watch_peer(w));",
        "(void)0;",
        "watch-and-set",
    ),
    Mutant(
        "watcher looked at before the time is lowered",
        "flow/due.c",
        "\tlower(&s->shm->next_due, ms);\n\tmqi_fence_after_rmw(); /* pairs with the watcher's: it sees the time, or we see until when it sleeps */\n\tfor (uint64_t w = mqi_load_acq(watch);",
        "\tuint64_t early = mqi_load_acq(watch);\n\tlower(&s->shm->next_due, ms);\n\tfor (uint64_t w = early;",
        "watch-and-set",
    ),
    Mutant(
        "publisher goes on with the match it had before it reaped",
        "flow/publish.c",
        "mqi_reap_soon(s->h)) return MQSHM_CLOSED;",
        "mqi_reap_soon(s->h)) rc = mqi_slot_reserve(s, &claim->index, &claim->word);",
        "subscriber-dies-publishing",
    ),
    Mutant(
        "extended lease keeps its generation",
        "flow/settle.c",
        "uint64_t now = restate(d->word, SLOT_INFLIGHT, s->h->peer, 1);",
        "uint64_t now = restate(d->word, SLOT_INFLIGHT, s->h->peer, 0);",
        "lease-extended",
    ),
    Mutant(
        "lease taken without looking at its tag",
        "flow/due.c",
        "if (!has_times || ahead < least || ahead > most) return",
        "if (!has_times || !time) return",
        "lease-on-a-used-slot",
    ),
    Mutant(
        "memory given back while others are inside",
        "shm/grace.c",
        "\tif (is_alone(h)) return true;\n",
        "\tif (h) return true;\n",
        "close-and-publish",
    ),
    Mutant(
        "growth granted without the others' claims",
        "shm/area.c",
        "\t\tif (t.held + t.asked <= limit) {",
        "\t\tif (t.held + 1 <= limit) {",
        "growth-at-the-limit",
    ),
    Mutant(
        "no memory without a look at every block",
        "shm/block.c",
        "\t\tmqi_blocks_each(h, take_any, &want);\n",
        "\t\tif (round > 4000) mqi_blocks_each(h, take_any, &want);\n",
        "last-blocks",
    ),
    Mutant(
        "waiter looks before it says that it waits",
        "flow/wait.c",
        "\tfor (uint32_t i = 0; i < n; i++) mqi_event_arm(h, events[i]);\n\tint rc = 0;\n\tif (!look(w, ready)) rc = ",
        "\tint rc = 0;\n\tbool there = look(w, ready);\n\tfor (uint32_t i = 0; i < n; i++) mqi_event_arm(h, events[i]);\n\tif (!there) rc = ",
        "wait-for-messages",
    ),
    Mutant(
        "woken receiver does not pass it on",
        "flow/receive.c",
        "\tif (unlikely(s->woken) && rc == MQSHM_OK) {\n\t\ts->woken = false;\n\t\tif (mqi_may_receive(s)) mqi_event_one(s->h, s->shm->waiters);\n",
        "\tif (unlikely(s->woken) && rc == MQSHM_OK) {\n\t\ts->woken = false;\n",
        "wait-for-a-batch",
    ),
    Mutant(
        "who makes room does not wake",
        "shm/slab.h",
        "\tif (unlikely(mqi_event_waited_for(s->shm->space_waiters))) mqi_event_ring(s->h, s->shm->space_waiters);\n",
        "",
        "wait-for-room",
    ),
    Mutant(
        "chunk given back without a grace period",
        "shm/grace.c",
        "\t\tif (p != h->peer && !seen_idle(h, p)) return false;\n",
        "",
        "trim-and-publish",
    ),
    Mutant(
        "chunk retired although a block was taken",
        "shm/trim.c",
        "if (taken == blocks && mqi_cas64(",
        "if (mqi_cas64(",
        "trim-and-publish",
    ),
    Mutant(
        "cursors into chunks that were given back are kept",
        "shm/trim.c",
        "\tmqi_add64(&h->hdr->chunks_version, 1);\n",
        "",
        "trim-and-publish",
    ),
    Mutant(
        "generations begin anew with a chunk",
        "shm/trim.c",
        "\tmqi_store_rel(&u->gen, gen);\n",
        "",
        "trim-under-repair",
    ),
    Mutant(
        "who decides on a settlement leaves its commit possible",
        "flow/commit.c",
        "if (is == mqi_block_word(BLOCK_NEW, mqi_slot_owner(w), gen)) mqi_block_doom(h, block, is);",
        "(void)is;",
        "commit-lease-ends",
    ),
    Mutant(
        "a settlement that was begun is always undone",
        "flow/reap.c",
        "\tif (verdict == VERDICT_COMMITTED) freeing(s, i, w);\n\telse if (verdict == VERDICT_UNDONE) again(s, i, w);",
        "\tif (verdict != VERDICT_UNKNOWN) again(s, i, w);",
        "commit-dying",
    ),
    Mutant(
        "a settlement that was begun is always done",
        "flow/reap.c",
        "\tif (verdict == VERDICT_COMMITTED) freeing(s, i, w);\n\telse if (verdict == VERDICT_UNDONE) again(s, i, w);",
        "\tif (verdict != VERDICT_UNKNOWN) freeing(s, i, w);",
        "commit-dying",
    ),
    Mutant(
        "a commit forgets that it was one before all is settled",
        "flow/commit.c",
        "\tfor (uint32_t i = 0; i < c->m; i++) {\n\t\tmqshm_delivery *d = c->settled[i];\n\t\tstruct mqshm_sub *s = d->sub;",
        "\tif (c->m) mqi_commit_over(c->h, c->h->peer, 0);\n"
        "\tfor (uint32_t i = 0; i < c->m; i++) {\n\t\tmqshm_delivery *d = c->settled[i];\n\t\tstruct mqshm_sub *s = d->sub;",
        "commit-dying",
    ),
    Mutant(
        "settled before the commit says where it is decided",
        "flow/commit.c",
        "\tmqi_store_rlx(&row->commit_block, c->block); /*",
        "\tmqi_store_rlx(&row->commit_block, 0); /*",
        "commit-dying",
    ),
    Mutant(
        "bit of the commit is left to itself by the sweep",
        "flow/reap.c",
        "\tmqi_commit_over(h, peer, dead_word);\n",
        "",
        "commit-dying",
    ),
    Mutant(
        "settled although one lease was lost",
        "flow/commit.c",
        "if (!settling || ",
        "if ((!settling && begun > c->m) || ",
        "commit-lease-ends",
    ),
    Mutant(
        "an undecided rival is left alone",
        "shm/ids.c",
        "if (!decide || mqi_block_doom(h, block, w)) return false;",
        "return false;",
        "once",
    ),
    Mutant(
        "a doomed block goes back without its ids",
        "shm/block.c",
        "\tmqi_ids_withdraw(h, offset, gen);\n\tif (mqi_cas64(word, mqi_block_word(BLOCK_NEW, owner, gen), free)",
        "\tif (mqi_cas64(word, mqi_block_word(BLOCK_NEW, owner, gen), free)",
        "once-dying",
    ),
    Mutant(
        "what was doomed while it was repaired stays",
        "shm/block.c",
        " || mqi_cas64(word, mqi_block_word(BLOCK_DOOMED, owner, gen), free))",
        ")",
        "once-dying",
    ),
    Mutant(
        "nobody looks into the table that was",
        "shm/ids.c",
        "\tif (rc == MQSHM_OK && !(word & VOID)) rc = search_all(h, other(word), &s);\n\treturn rc;\n}\n\n/* What a block",
        "\treturn rc;\n}\n\n/* What a block",
        "once-at-the-turn",
    ),
    Mutant(
        "a turn of the tables goes unnoticed",
        "flow/unique.c",
        "if (mqi_ids_word(h) != word) return MQSHM_CLOSED;",
        "",
        "once-at-the-turn",
    ),
    Mutant(
        "an id can be found before its block leads to it",
        "shm/ids.c",
        "\tmqi_store_rel(&b->ids, reference(table, id->at)); /* before",
        "\t/* before",
        "once-dying",
    ),
    Mutant(
        "an entry can be its own sibling, once the tables have turned",
        "shm/ids.c",
        "\tif (!entry_of_block(h, sibling, block, gen)) sibling = 0; /* it",
        "\t/* it",
        "once-turner-dies",
    ),
    Mutant(
        "who attaches does not look whether the broker has ended",
        "flow/attach.c",
        "if (mqi_add64(&h->hdr->life, 1) & MQI_ENDED) {",
        "if (mqi_add64(&h->hdr->life, 1) == UINT64_MAX) {",
        "come-and-end",
    ),
    Mutant(
        "counted before its row can be seen",
        "flow/attach.c",
        "\tint rc = take_row(h);\n\tif (rc != MQSHM_OK) return rc;\n\tif (mqi_add64(&h->hdr->life, 1) & MQI_ENDED) {",
        "\tuint64_t life = mqi_add64(&h->hdr->life, 1);\n\tint rc = take_row(h);\n\tif (rc != MQSHM_OK) return rc;\n\tif (life & MQI_ENDED) {",
        "come-and-end",
    ),
]


def is_found(mutant: Mutant, where: Path, arguments: list[str]) -> str:
    text = (CSRC / mutant.file).read_text()
    if text.count(mutant.was) != 1:
        return "its text is not there any more"
    target = where / "csrc" / mutant.file
    target.write_text(text.replace(mutant.was, mutant.becomes))
    try:
        make = ["make", "-s", f"CSRC={where / 'csrc'}", f"BUILD={where / 'build'}", "CFLAGS=-O1"]
        built = subprocess.run(make, cwd=HERE, capture_output=True, text=True)
        if built.returncode:
            return f"it does not build\n{built.stderr}"
        explore = [str(where / "build" / "explore"), "--program", mutant.program, *arguments]
        result = subprocess.run(explore, capture_output=True, text=True, timeout=120)
        return f"found: {result.stdout.partition('FAILED')[2].strip()}" if result.returncode == 1 else "NOT FOUND"
    finally:
        target.write_text(text)


def main() -> int:
    arguments = [each for each in sys.argv[1:] if each.startswith("--")]
    names = [each for each in sys.argv[1:] if not each.startswith("--")]
    missed = 0
    with tempfile.TemporaryDirectory() as directory:
        where = Path(directory)
        shutil.copytree(CSRC, where / "csrc")
        for mutant in MUTANTS:
            if names and not any(name in mutant.name for name in names):
                continue
            said = is_found(mutant, where, arguments)
            missed += not said.startswith("found")
            print(f"{mutant.name}\n    {said.splitlines()[0]}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    os.environ.pop("MAKEFLAGS", None)
    sys.exit(main())
