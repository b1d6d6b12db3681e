"""Does a message cost more where much is there already: messages, topics, subscriptions? And what memory does it take?

One process puts in and takes out, so that nothing but the state of the broker differs. `pair` is one publish and one
receive, `publish` one publish (its messages are taken out off the clock), `overhead` the memory of a waiting message
beyond its 64 bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .harness import Cell, RunFailed, Sample, in_child, now
from .peers.base import Peer
from .peers.mqshm import destroy, new_name
from .report import Mark
from .shapes import payload

UNIT = "ns (overhead: bytes)"
PEERS = ["mqshm"]
DATA = payload(7, 64)
ROOM = 1024  # of a group, beyond what waits in it
OVERHEAD_MESSAGES = 1 << 20


def with_broker(measure: Callable[[Any], Sample]) -> Sample:
    """In a process and a broker of its own."""
    name = new_name()

    def work() -> Sample:
        import mqshm

        with mqshm.connect(name) as broker:
            return measure(broker)

    try:
        sample: Sample = in_child(work, 120.0)
        return sample
    finally:
        destroy(name)


def subscribe(broker: Any, pattern: str, group: str, room: int = ROOM) -> Any:
    """A group whose messages are settled when they are received: a group's own default would lease them."""
    import mqshm

    return broker.subscribe(pattern, group=group, ack=mqshm.AckPolicy.NONE, buffer_size=room)


def pairs(broker: Any, sub: Any, topics: list[str], count: int) -> Sample:
    """Publishes to the topics in turn, and receives after each."""
    publish, receive = broker.publish, sub.receive_nowait
    laps = max(1, count // len(topics))
    for topic in topics:  # what a topic's first message costs is another question
        publish(topic, DATA)
        receive()
    start = now()
    for _ in range(laps):
        for topic in topics:
            publish(topic, DATA)
            if receive() is None:
                raise RunFailed("a message is missing")
    spent = now() - start
    return Sample(spent / (laps * len(topics)), spent / 1e9)


def waiting(amount: int, count: int) -> Sample:
    def measure(broker: Any) -> Sample:
        sub = subscribe(broker, "flat", "g", amount + ROOM)
        for at in range(0, amount, 1000):
            broker.publish_batch("flat", [DATA] * min(1000, amount - at))
        return pairs(broker, sub, ["flat"], count)

    return with_broker(measure)


def topics(amount: int, count: int) -> Sample:
    def measure(broker: Any) -> Sample:
        sub = subscribe(broker, "flat.#", "g")
        return pairs(broker, sub, [f"flat.{number}" for number in range(amount)], count)

    return with_broker(measure)


def strangers(amount: int, count: int) -> Sample:
    """Subscriptions that do not match."""

    def measure(broker: Any) -> Sample:
        for number in range(amount):
            broker.create_group(f"other-{number}", f"other.{number}.*", buffer_size=16)
        sub = subscribe(broker, "flat", "g")
        return pairs(broker, sub, ["flat"], count)

    return with_broker(measure)


def matching(amount: int, count: int) -> Sample:
    """Subscriptions that all get the message."""
    lap = 500

    def measure(broker: Any) -> Sample:
        subs = [subscribe(broker, "flat", f"g-{number}") for number in range(amount)]
        publish, spent, laps = broker.publish, 0, max(2, count // lap // amount)
        for number in range(laps + 1):
            start = now()
            for _ in range(lap):
                publish("flat", DATA)
            if number:  # the first one warms up
                spent += now() - start
            for sub in subs:
                got = 0
                while got < lap:
                    got += len(sub.receive_batch(lap, timeout=1.0)) or _missing()
        return Sample(spent / (laps * lap), spent / 1e9)

    return with_broker(measure)


def _missing() -> int:
    raise RunFailed("a message is missing")


def overhead(count: int) -> Sample:
    def measure(broker: Any) -> Sample:
        before = broker.memory_usage
        broker.create_group("g", "flat", buffer_size=count)
        for _ in range(count // 1024):
            broker.publish_batch("flat", [DATA] * 1024)
        return Sample((broker.memory_usage - before) / count - len(DATA))

    return with_broker(measure)


def short(number: int) -> str:
    for scale, letter in ((10**6, " M"), (1000, " k")):
        if number >= scale:
            return f"{number // scale}{letter}"
    return str(number)


def cells(peers: list[Peer], quick: bool) -> list[Cell]:
    if not any(peer.name == "mqshm" for peer in peers):
        return []
    count = 50_000 if quick else 300_000
    swept: list[tuple[str, str, Callable[[int, int], Sample], tuple[int, ...]]] = [
        ("pair", "waiting", waiting, (10, 1000, 100_000) if quick else (10, 1000, 100_000, 10_000_000)),
        ("pair", "topics", topics, (10, 1000, 10_000)),
        ("pair", "others", strangers, (1, 100, 1000)),
        ("publish", "matching", matching, (1, 2, 8, 16, 64)),
    ]
    found = [
        Cell("mqshm", mode, f"{short(amount)} {word}", partial(run, amount), count, fixed=True)
        for mode, word, run, amounts in swept
        for amount in amounts
    ]
    found.append(Cell("mqshm", "overhead", "64 B", overhead, OVERHEAD_MESSAGES, fixed=True))
    return found


def _flat(text: str, many: str, few: str) -> Mark:
    return Mark(text, f"mqshm/pair/{many}", (f"mqshm/pair/{few}",), 1.1, at_least=False)


MARKS = [
    _flat("10 M messages waiting, beside 10", "10 M waiting", "10 waiting"),
    _flat("10 k topics, beside 10", "10 k topics", "10 topics"),
    _flat("1000 subscriptions that do not match, beside 1", "1 k others", "1 others"),
    Mark("memory of a message beyond its 64 B", "mqshm/overhead/64 B", (), 64.0, at_least=False, unit="bytes"),
]
