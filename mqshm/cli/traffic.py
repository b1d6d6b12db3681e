"""pub, sub: messages from and to the shell."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

from mqshm import AckPolicy, Broker, Delivery, Message, Priority, Subscription, connect
from mqshm.cli import output

_CHUNK = 256


def add_verbs(verbs: Any) -> None:
    verb = verbs.add_parser("pub", help="publish an argument, or what stands on stdin")
    verb.add_argument("name")
    verb.add_argument("topic")
    verb.add_argument("data", nargs="?", default="-", help="the payload; - (as without it) reads stdin")
    verb.add_argument("--priority", type=_priority, default=Priority.NORMAL, help="lowest, low, normal, high, highest")
    verb.add_argument("--ttl", type=output.seconds, metavar="SECONDS", help="not delivered any more after this long")
    verb.add_argument("--count", type=output.count, default=1, help="publish it this many times")
    verb.add_argument("--lines", action="store_true", help="each line of stdin is a message")
    verb.add_argument(
        "--timeout", type=output.seconds, metavar="SECONDS", help="wait this long for room, if there is none"
    )
    verb.set_defaults(run=pub)

    verb = verbs.add_parser("sub", help="print what arrives, a line for each message")
    verb.add_argument("name")
    verb.add_argument("pattern")
    verb.add_argument("--group", help="share the messages with the group's other members")
    verb.add_argument("--ack", action="store_true", help="ack each message once it is printed")
    verb.add_argument("--count", type=output.count, help="end after this many messages")
    verb.add_argument("--timeout", type=output.seconds, metavar="SECONDS", help="end when nothing came for this long")
    output.add_json(verb)
    verb.set_defaults(run=sub)


def _priority(text: str) -> Priority:
    try:
        return Priority(int(text)) if text.isdecimal() else Priority[text.upper()]
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is none of lowest, low, normal, high, highest, 0, 10, 20, 30, 40"
        ) from None


def pub(chosen: argparse.Namespace) -> None:
    if chosen.lines and chosen.data != "-":
        raise ValueError("--lines reads stdin: leave DATA out")
    if (chosen.lines or chosen.data == "-") and sys.stdin is None:
        raise ValueError("stdin is closed: give DATA as an argument")
    with connect(chosen.name) as broker:
        messages = _messages(chosen)
        while chunk := list(islice(messages, _CHUNK)):
            broker.publish_batch(chosen.topic, chunk, timeout=chosen.timeout)


def _messages(chosen: argparse.Namespace) -> Iterator[Message]:
    payloads: Iterator[bytes]
    if chosen.lines:
        payloads = (line.rstrip(b"\n") for line in sys.stdin.buffer)
    elif chosen.data == "-":
        payloads = iter((sys.stdin.buffer.read(),))
    else:
        payloads = iter((chosen.data.encode(errors="surrogateescape"),))
    for data in payloads:
        for _ in range(chosen.count):
            yield Message(data, priority=chosen.priority, ttl=chosen.ttl)


def sub(chosen: argparse.Namespace) -> None:
    with connect(chosen.name) as broker, _subscribe(broker, chosen) as subscription:
        left = chosen.count
        while left is None or left > 0:
            message = subscription.receive(timeout=chosen.timeout)
            if message is None:
                return
            _print(message, chosen.json)
            message.ack()
            if left is not None:
                left -= 1


def _subscribe(broker: Broker, chosen: argparse.Namespace) -> Subscription:
    """Without --ack a message is done with when it is received."""
    if chosen.group and chosen.group in broker.stats().groups:
        return broker.subscribe(chosen.pattern, group=chosen.group)  # whatever policy it was made with
    return broker.subscribe(
        chosen.pattern, group=chosen.group, ack=AckPolicy.REQUIRED if chosen.ack else AckPolicy.NONE
    )


def _print(message: Delivery, as_json: bool) -> None:
    if as_json:
        output.as_json(
            {
                "topic": message.topic,
                "data": message.data,
                "seq": message.seq,
                "id": message.id,
                "key": message.key,
                "priority": int(message.priority),
                "headers": message.headers,
                "published_at": message.published_at,
                "expires_at": message.expires_at,
                "attempt": message.attempt,
            },
            indent=None,
        )
    else:
        output.payload(message.data)
        sys.stdout.flush()
