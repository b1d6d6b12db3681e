"""What is searched: the models, their bounds, and their faults. What a flag means is in the head of its model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

MEMORY_MB = 6000  # of one search: more is `incomplete`


class Search(NamedTuple):
    model: str
    flags: str  # bounds
    fault: str = ""  # to be found; empty: it holds
    store: str = "exact"  # of the states: exact, hashed (72 bits of each are kept), bits (not exhaustive)
    seconds: int = 900  # longer is `incomplete`
    quick: bool = False  # of the short form

    @property
    def all_flags(self) -> list[str]:
        return self.flags.split() + ([f"BAD_{self.fault}"] if self.fault else [])


# Two producers, two consumers (a ring's, or one of each subscription), who repairs, a death at any step; or one stopped
# for ever. LONE and ONE leave out the second consumer or producer where more deaths, redeliveries or laps are to fit.
HOLD = [
    Search("ring", "M0=1 M1=1 DEATHS=1"),
    Search("ring", "M0=2 M1=1"),
    Search("ring", "M0=2 M1=0 DEATHS=1"),
    Search("ring", "M0=2 M1=1 LONE DEATHS=1"),
    Search("ring", "M0=1 M1=0 NACKS=1 DEATHS=1"),
    Search("ring", "M0=1 M1=0 NACKS=1 DEATHS=2 REAPERS=2 LONE"),
    Search("ring", "M0=1 M1=1 NACKS=1 DEATHS=1 LONE"),
    Search("ring", "M0=1 M1=1 LEASES=1 DEATHS=1 LONE"),
    Search("ring", "M0=1 M1=1 LEASES=1 THREADS"),
    Search("ring", "M0=1 M1=1 NACKS=1 STOPS=1 LONE"),
    Search("ring", "M0=1 M1=1 TTLS=1 LONE DEATHS=1"),
    Search("ring", "M0=2 M1=0 TTLS=1 LONE DEATHS=1"),
    Search("ring", "M0=1 M1=0 TTLS=1 DEATHS=2 REAPERS=2 LONE"),
    Search("fanout", "DEATHS=1"),
    Search("fanout", "TOPICS DEATHS=1"),
    Search("fanout", "DEATHS=1 LEASES=1"),
    Search("fanout", "DEATHS=1 LEASES=1 DROP"),
    Search("fanout", "DEATHS=1 MESSAGES=2 BLOCKS=1"),
    Search("fanout", "DEATHS=2 REAPERS=2 LEASES=1 ONE"),
    Search("fanout", "STOPS=1"),
    Search("wide", "DEATHS=1"),
    Search("wide", "DEATHS=1 SHIFT"),
    Search("wide", "DEATHS=1 WORDS=4 BITS=1"),
    Search("wide", "DEATHS=2 MESSAGES=1"),
    Search("wide", "STOPS=1"),
    Search("wait", "DEATHS=1"),
    Search("wait", "DEATHS=1 ONE BATCH MESSAGES=2"),
    Search("wait", "DEATHS=1 ONE LEAVE=1"),
    Search("wait", "DEATHS=1 ONE OTHER"),
    Search("wait", "DEATHS=1 ONE THREADS"),
    Search("wait", "STOPS=1"),
    Search("space", ""),
    Search("space", "S=1"),
    Search("space", "MESSAGES=1 DEATHS=1"),
    Search("space", "LONE DEATHS=1"),
    Search("space", "S=1 MESSAGES=1 RETURN DEATHS=1"),
    Search("space", "LONE STOPS=1"),
    Search("space", "S=1 MESSAGES=1 STOPS=1"),
    Search("close", "DEATHS=1 LEASES=1"),
    Search("close", "DEATHS=2 LEASES=1"),
    Search("close", "DEATHS=1 LIVES=3 MESSAGES=3"),
    Search("close", "STOPS=1 LEASES=1"),
    Search("grow", "DEATHS=1"),
    Search("grow", "DEATHS=1 AREAS=3"),
    Search("grow", "DEATHS=2 ROUNDS=2"),
    Search("grow", "STOPS=1"),
    Search("reuse", "LIVES=4 DEATHS=1"),
    Search("life", "DEATHS=1"),
    Search("life", "TIMES=2"),
    Search("commit", "DEATHS=1"),
    Search("commit", "LEASES=1"),
    Search("commit", "DEATHS=1 LEASES=1"),
    Search("commit", "ONE OUTS=2 DEATHS=1 LEASES=1"),
    Search("commit", "ONE DEATHS=2 REAPERS=2"),
    Search("commit", "ONE LEASES=2 STOPS=1"),
    Search("ids", "DEATHS=1 LOOK"),
    Search("ids", "PAIR DEATHS=1"),
    Search("ids", "DEATHS=2 REAPERS=2 ROUNDS=2"),
    Search("ids", "MESSAGES=2 LOAN ROUNDS=2"),
    Search("ids", "STOPS=1"),
    Search("ids", "TURNERS=1 EARLIER DEATHS=1 ROUNDS=1"),
    Search("ids", "TURNERS=2 TICKS=1 EARLIER DEATHS=1 ROUNDS=1"),
    Search("ids", "TURNERS=1 EARLIER PAIR ROUNDS=1"),
    Search("ids", "TURNERS=1 TICKS=2 ROUNDS=1"),
]

FAULTS = [
    Search("ring", "M0=1 M1=1 DEATHS=1 LONE", "NEWCLAIM"),
    Search("ring", "M0=1 M1=1 DEATHS=1 LONE", "PLACELATE"),
    Search("ring", "M0=2 M1=1", "PLACEFIRST"),
    Search("ring", "M0=1 M1=1 DEATHS=1", "TAILFIRST"),
    Search("ring", "LEASES=1 M0=1 M1=1 THREADS", "NOGEN"),
    Search("ring", "DEATHS=1", "NOCYCLE"),
    Search("ring", "DEATHS=1", "SKIPLOST"),
    Search("ring", "DEATHS=1", "LINKEDFREE"),
    Search("ring", "M0=1 M1=0 NACKS=1 DEATHS=1", "REQUEUE"),
    Search("ring", "NACKS=2 NOTICK M0=1 M1=1", "HINTLATE"),
    Search("ring", "M0=2 M1=1 TTLS=1 LONE", "TOMBFREE"),
    Search("ring", "M0=1 M1=1 TTLS=1 LONE NOTICK", "TOMBBLIND"),
    Search("ring", "M0=1 M1=1 TTLS=1 LONE", "TOMBPASS"),
    Search("ring", "M0=1 M1=1 TTLS=1 LONE", "TOMBLINK"),
    Search("fanout", "DEATHS=1", "COUNT"),
    Search("fanout", "DEATHS=1", "COMMITLATE"),
    Search("fanout", "DEATHS=1", "ACKFREE"),
    Search("fanout", "REAPERS=2 DEATHS=2 ONE MESSAGES=2", "BLINDFREE"),
    Search("fanout", "DEATHS=1", "NOROLL"),
    Search("fanout", "DEATHS=1", "UNLINKEDFREE"),
    Search("fanout", "TOPICS DEATHS=1", "NOGEN"),
    Search("fanout", "DEATHS=1", "PARTLY"),
    Search("close", "DEATHS=1", "NOBARRIER"),
    Search("close", "LEASES=1", "SETTLEBLIND"),
    Search("close", "DEATHS=1", "ONEBUMP"),
    Search("close", "DEATHS=1", "NOGRACE"),
    Search("close", "DEATHS=1", "ONEGRACE"),
    Search("close", "DEATHS=1", "NOLOCK"),
    Search("close", "DEATHS=1", "READYLATE"),
    Search("grow", "DEATHS=1", "NOGRANT"),
    Search("grow", "DEATHS=1", "NOCHANGES"),
    Search("grow", "DEATHS=1", "COUNTFIRST"),
    Search("grow", "DEATHS=1", "IGNORECLAIMS"),
    Search("grow", "STOPS=1", "OTHERSSTAY"),
    Search("reuse", "DEATHS=1", "NOROW"),
    Search("reuse", "DEATHS=1", "ROWFIRST"),
    Search("reuse", "DEATHS=1", "EARLY"),
    Search("reuse", "DEATHS=1", "SWEEPCLEARS"),
    Search("reuse", "DEATHS=1", "BLINDTAKE"),
    Search("space", "SETTLES=1 MESSAGES=1", "CLEARLATE"),
    Search("space", "DEATHS=1", "HINTONLY"),
    Search("space", "DEATHS=1", "LOOKFIRST"),
    Search("space", "SETTLES=1 MESSAGES=1", "HINTFIRST"),
    Search("space", "DEATHS=1", "NOLOOK"),
    Search("space", "RETURN S=1", "NORING"),
    Search("wait", "DEATHS=1", "RINGFIRST"),
    Search("wait", "DEATHS=1", "SEENLATE"),
    Search("wait", "DEATHS=1", "NOLOOK"),
    Search("wait", "DEATHS=1", "LOOKFIRST"),
    Search("wait", "ONE BATCH MESSAGES=3 BUSY", "NOCHAIN"),
    Search("wait", "DEATHS=1", "ONEBIT"),
    Search("wait", "DEATHS=1", "NOREPAIR"),
    Search("wait", "ONE THREADS BUSY LEAVE=1 MESSAGES=2", "WAKEONE"),
    Search("wait", "ONE OTHER LEAVE=1", "ONECOUNT"),
    Search("wait", "ONE THREADS BUSY LEAVE=1 MESSAGES=2", "CLEARALL"),
    Search("wide", "DEATHS=1", "OWNONLY"),
    Search("wide", "DEATHS=1 SHIFT", "NOGEN"),
    Search("wide", "DEATHS=1 SHIFT", "NOWORDGEN"),
    Search("wide", "DEATHS=1", "BLOCKFIRST"),
    Search("wide", "WORDS=4 BITS=1", "ONEWORD"),
    Search("wide", "REAPERS=2 DEATHS=1", "BLINDFREE"),
    Search("wide", "DEATHS=1", "NOROLL"),
    Search("life", "", "NOCOUNT"),
    Search("life", "", "COUNTFIRST"),
    Search("life", "", "NOSWAP"),
    Search("life", "", "NOLOCK"),
    Search("life", "", "ANYNAME"),
    Search("commit", "ONE LEASES=1", "NODOOM"),
    Search("commit", "ONE DEATHS=1", "UNDO"),
    Search("commit", "ONE DEATHS=1", "DONE"),
    Search("commit", "ONE DEATHS=1", "OVERFIRST"),
    Search("commit", "ONE DEATHS=1", "FORGETS"),
    Search("commit", "ONE LEASES=1", "ROWLATE"),
    Search("commit", "ONE DEATHS=1", "NOOVER"),
    Search("commit", "ONE LEASES=1", "GOON"),
    Search("commit", "ONE LEASES=2", "NOGEN"),
    Search("commit", "ONE LEASES=1", "STAYS"),
    Search("commit", "DEATHS=1 LEASES=1", "NEXTLIFE"),
    Search("ids", "", "NODOOM"),
    Search("ids", "", "LOOKFIRST"),
    Search("ids", "EARLIER", "NOOTHER"),
    Search("ids", "TURNERS=1 ROUNDS=1", "NOTICE"),
    Search("ids", "", "NOWITHDRAW"),
    Search("ids", "PAIR", "WITHDRAWLATE"),
    Search("ids", "DEATHS=1", "BLOCKLATE"),
    Search("ids", "", "STAYS"),
    Search("ids", "MESSAGES=2 LOAN ROUNDS=2", "REDEEM"),
    Search("ids", "TURNERS=1 EARLIER ROUNDS=1", "NOGRACE"),
    Search("ids", "TURNERS=1 TICKS=2 ROUNDS=1", "ONEGRACE"),
    Search("ids", "TURNERS=1 EARLIER ROUNDS=1", "NOVOID"),
    Search("ids", "TURNERS=1 ROUNDS=2", "TURNFIRST"),
    Search("ids", "TURNERS=1 EARLIER ROUNDS=2", "EARLYEND"),
    Search("ids", "TURNERS=1 TICKS=2 ROUNDS=1", "BEGANFIRST"),
]

LONG = HOLD + FAULTS

_SHORT_HOLD = [
    Search("ring", "M0=1 M1=1 DEATHS=1 LONE"),
    Search("ring", "M0=2 M1=1 LONE"),
    Search("fanout", "DEATHS=1"),
    Search("close", "DEATHS=1 LEASES=1"),
    Search("grow", "DEATHS=1"),
    Search("reuse", "DEATHS=1"),
    Search("space", "SETTLES=1 MESSAGES=1 DEATHS=1"),
    Search("space", "S=1"),
    Search("wait", ""),
    Search("wide", "DEATHS=1"),
    Search("life", ""),
    Search("commit", "ONE DEATHS=1 LEASES=1"),
    Search("ids", "DEATHS=1"),
    Search("ids", "TURNERS=1 EARLIER ROUNDS=1"),
]
_SHORT_FAULTS = {
    "ring": ("PLACELATE", "PLACEFIRST"),
    "fanout": ("COUNT", "NOROLL"),
    "close": ("NOGRACE", "SETTLEBLIND"),
    "grow": ("COUNTFIRST", "OTHERSSTAY"),
    "reuse": ("ROWFIRST", "EARLY"),
    "space": ("NOLOOK", "HINTFIRST"),
    "wait": ("LOOKFIRST", "NOCHAIN"),
    "wide": ("OWNONLY", "ONEWORD"),
    "life": ("NOCOUNT", "NOLOCK"),
    "commit": ("NODOOM", "NOGEN"),
    "ids": ("NOWITHDRAW", "NOGRACE"),
}
SHORT = [each._replace(quick=True) for each in _SHORT_HOLD]
SHORT += [each for each in FAULTS if each.fault in _SHORT_FAULTS[each.model]]


def without_search() -> list[str]:
    """Faults that a model knows and the long form does not look for."""
    known = {
        (path.stem, fault)
        for path in Path(__file__).parent.glob("*.pml")
        for fault in re.findall(r"BAD_([A-Z]+)", path.read_text())
    }
    return [f"{model} BAD_{fault}" for model, fault in sorted(known - {(each.model, each.fault) for each in FAULTS})]
