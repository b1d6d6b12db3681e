"""The checker, on histories made by hand: a good one passes, and each thing that can go wrong is seen."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stress import checker
from tests.stress.history import Event
from tests.stress.ledger import NONE, REQUIRED, TIMEOUT

SECOND = 1_000_000_000
COUNTED = ("published", "delivered", "settled", "redelivered", "nacked", "rejected", "expired", "dropped")


class Story:
    """Histories, told in the order of time: each event comes a millisecond after the one before."""

    def __init__(self) -> None:
        self.logs: dict[str, list[Event]] = {"conductor": []}
        self.now = SECOND
        self.op = 0

    def __call__(self, who: str, kind: str, *values: Any) -> None:
        self.now += SECOND // 1000
        log = self.logs.setdefault(who, [["start", self.now, None, 1]])
        log.append([kind, self.now, *values])

    def later(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)

    def group(self, name: str = "g", patterns: tuple[str, ...] = ("a",), **options: Any) -> None:
        said = {"ack": REQUIRED, "overflow": "block", "max_attempts": 0, "ack_timeout": None, "patterns": patterns}
        self("conductor", "group", name, {**said, **options})

    def said(self, uid: str, topic: str = "a", ttl: Any = None, delay: Any = None, priority: int = 20) -> list[Any]:
        return [uid, topic, priority, 100, 7, 0, ttl, delay, None]

    def publish(self, uid: str, seq: int | None, who: str = "p", refused: bool = False, **options: Any) -> None:
        """Without a number: it does not return."""
        self.op += 1
        self(who, "publish", self.op, [self.said(uid, **options)])
        if refused:
            self(who, "refused", self.op, "QueueFull", [])
        elif seq is not None:
            self(who, "published", self.op, [seq])

    def receive(
        self, uid: str | None, seq: int, attempt: int = 1, who: str = "c", sub: str = "g", crc: int = 7,
        topic: str = "a", priority: int = 20,
    ) -> None:  # fmt: skip
        self(who, "receive", sub, 1)
        self(who, "received", sub, [[uid, seq, topic, priority, 100, crc, 0, attempt]])

    def settle(
        self, seq: int, attempt: int = 1, verb: str = "ack", who: str = "c", sub: str = "g", outcome: Any = "done",
        argument: Any = None,
    ) -> None:  # fmt: skip
        self.op += 1
        self(who, "settle", self.op, verb, sub, [[seq, attempt]], argument)
        if outcome is not None:
            self(who, "settled", self.op, outcome)

    def counters(self, sub: str = "g", **values: int) -> None:
        self("drain", "counters", sub, {**dict.fromkeys(COUNTED, 0), **values})

    def told(self) -> dict[str, list[Event]]:
        """With an orderly end of all that did not meet another."""
        ends = [["end", self.now + 1]]
        over = {event[2] for event in self.logs["conductor"] if event[0] == "kill"} | {"conductor"}
        return {who: log + ends * (who not in over and log[-1][0] != "error") for who, log in self.logs.items()}

    def kinds(self) -> list[str]:
        return [each.kind for each in checker.check(self.told())]


@pytest.fixture
def story() -> Story:
    made = Story()
    made.group()
    return made


def test_a_history_in_which_all_is_well_has_no_violation(story):
    story.group("h", ("a.#", "b.*"), ack=NONE)
    story.publish("p-1", 1)
    story.publish("p-2", 2)
    story.receive("p-1", 1)
    story.receive("p-2", 2)
    story.settle(1)
    story.settle(2, verb="nack")
    story.receive("p-2", 2, attempt=2, who="d")
    story.settle(2, attempt=2, who="d")
    story.receive("p-1", 1, sub="h", who="d")
    story.receive("p-2", 2, sub="h", who="d")
    story.counters(delivered=3, settled=2, nacked=1, redelivered=1, published=2)
    assert story.kinds() == []


def test_a_message_that_is_nowhere_is_lost(story):
    story.publish("p-1", 1)
    assert story.kinds() == ["loss"]


def test_a_message_that_was_received_and_never_settled_is_lost(story):
    story.publish("p-1", 1)
    story.receive("p-1", 1)
    story.settle(1, outcome="lost")
    assert story.kinds() == ["loss"]


def test_a_message_in_one_group_of_two_is_lost_in_the_other(story):
    story.group("h")
    story.publish("p-1", 1)
    story.receive("p-1", 1)
    story.settle(1)
    assert story.kinds() == ["loss"]


def test_a_settle_that_did_not_return_may_have_been_the_end(story):
    story.publish("p-1", 1)
    story.receive("p-1", 1)
    story.settle(1, outcome=None)
    assert story.kinds() == []


def test_a_receive_of_the_dead_may_have_taken_what_is_settled_at_once(story):
    story.group("n", ("b",), ack=NONE)
    story.publish("p-1", 1, topic="b")
    story.publish("p-2", 2, topic="b")
    story("c", "receive", "n", 1)
    assert story.kinds() == ["loss"]
    story("d", "receive", "n", 1)
    assert story.kinds() == []


def test_what_expired_must_have_been_counted(story):
    story.publish("p-1", 1, ttl=0.1)
    story.later(1.0)
    story.counters()
    assert story.kinds() == ["uncounted", "uncounted"]
    story.counters(expired=1)
    assert story.kinds() == []


def test_what_has_time_left_is_not_excused(story):
    story.publish("p-1", 1, ttl=100.0)
    story.counters(expired=1)
    assert "loss" in story.kinds()


@pytest.mark.parametrize("counted", [0, 1, 2])
def test_what_was_dropped_is_counted_exactly_where_nobody_died(story, counted):
    story.group("d", ("d",), overflow="drop_oldest")
    story.publish("p-1", 1, topic="d")
    story.counters("d", dropped=counted)
    assert ("uncounted" in story.kinds()) == (counted != 1)


def test_a_death_may_leave_one_drop_uncounted(story):
    story.group("d", ("d",), overflow="drop_oldest")
    story("conductor", "kill", "p")
    story.publish("p-1", 1, topic="d")
    story.counters("d")
    assert story.kinds() == []
    story.publish("p-2", 2, topic="d")
    assert story.kinds() == ["uncounted"]


@pytest.mark.parametrize("overflow, kinds", [("drop_lowest", []), ("drop_new", ["attempts"])])
def test_a_death_may_leave_what_was_to_be_dropped_with_an_attempt_more(story, overflow, kinds):
    story.group("d", ("d",), overflow=overflow)
    story.publish("p-1", 1, topic="d")
    story.publish("q-1", None, who="q", topic="d")
    story("conductor", "kill", "q")
    story.receive("p-1", 1, attempt=2, sub="d", topic="d")
    story.settle(1, attempt=2, sub="d")
    assert story.kinds() == kinds


def test_a_message_that_used_up_its_attempts_is_counted_as_rejected(story):
    story.group("s", ("s",), max_attempts=1)
    story.publish("p-1", 1, topic="s")
    story.receive("p-1", 1, sub="s", topic="s")
    story.settle(1, verb="nack", sub="s")
    story.counters("s", delivered=1, nacked=1, rejected=1)
    assert story.kinds() == []


def test_what_nobody_published_is_an_invention(story):
    story.receive("p-1", 1)
    assert story.kinds() == ["invention"]


@pytest.mark.parametrize("refused", [True, False])
def test_what_was_refused_must_not_come(story, refused):
    story.publish("p-1", None, refused=refused)
    story.receive("p-1", 1)
    story.settle(1)
    assert story.kinds() == (["refused"] if refused else [])


@pytest.mark.parametrize("changed", [{"crc": 8}, {"topic": "b"}])
def test_another_payload_or_topic_is_a_violation(story, changed):
    story.publish("p-1", 1)
    story.receive("p-1", 1, **changed)
    story.settle(1)
    assert story.kinds() == ["content"]


def test_a_payload_without_a_name_is_known_by_its_number(story):
    story.publish("p-1", 1)
    story.receive(None, 1)
    story.settle(1)
    assert story.kinds() == []


def test_what_does_not_match_must_not_come(story):
    story.publish("p-1", 1, topic="b")
    story.receive("p-1", 1, topic="b")
    story.settle(1)
    assert story.kinds() == ["pattern"]


def test_two_messages_must_not_have_one_number(story):
    story.publish("p-1", 1)
    story.receive("p-1", 1)
    story.settle(1)
    story.publish("p-2", 1)
    assert "number" in story.kinds()


def test_a_consumer_must_not_receive_in_another_order(story):
    story.publish("p-1", 1)
    story.publish("p-2", 2)
    story.receive("p-2", 2)
    story.receive("p-1", 1)
    story.settle(1)
    story.settle(2)
    assert story.kinds() == ["order"]


def test_no_consumer_may_begin_to_receive_what_comes_before_what_another_has(story):
    story.publish("p-1", 1)
    story.publish("p-2", 2)
    story.receive("p-2", 2, who="d")
    story.receive("p-1", 1)
    story.settle(1)
    story.settle(2, who="d")
    assert story.kinds() == ["order"]


def test_two_consumers_at_once_may_receive_in_any_order(story):
    story.publish("p-1", 1)
    story.publish("p-2", 2)
    story("c", "receive", "g", 1)
    story.receive("p-2", 2, who="d")
    story("c", "received", "g", [["p-1", 1, "a", 20, 100, 7, 0, 1]])
    story.settle(1)
    story.settle(2, who="d")
    assert story.kinds() == []


@pytest.mark.parametrize("first", ["low", "high"])
def test_what_waits_is_received_by_its_priority(story, first):
    story.publish("p-1", 1, priority=20)
    story.publish("p-2", 2, priority=30)
    order = [("p-1", 1, 20), ("p-2", 2, 30)]
    for uid, seq, priority in order if first == "low" else reversed(order):
        story.receive(uid, seq, priority=priority)
        story.settle(seq)
    assert story.kinds() == (["priority"] if first == "low" else [])


def test_what_came_while_a_receive_was_under_way_may_come_after_it(story):
    story.publish("p-1", 1, priority=20)
    story("c", "receive", "g", 1)
    story.publish("p-2", 2, priority=30)
    story("c", "received", "g", [["p-1", 1, "a", 20, 100, 7, 0, 1]])
    story.receive("p-2", 2, priority=30)
    story.settle(1)
    story.settle(2)
    assert story.kinds() == []


def test_an_attempt_must_not_come_twice(story):
    story.publish("p-1", 1)
    story.receive("p-1", 1)
    story.receive("p-1", 1, who="d")
    story.settle(1)
    assert set(story.kinds()) == {"twice"}


@pytest.mark.parametrize("outcome", ["done", "lost", None])
def test_what_is_acked_must_not_come_again(story, outcome):
    story("conductor", "kill", "c")
    story.publish("p-1", 1)
    story.receive("p-1", 1)
    story.settle(1, outcome=outcome)
    story.receive("p-1", 1, attempt=2, who="d")
    story.settle(1, attempt=2, who="d")
    assert story.kinds() == (["twice"] if outcome == "done" else [])


def test_one_attempt_is_settled_once(story):
    story.publish("p-1", 1)
    story.receive("p-1", 1)
    story.settle(1)
    story.settle(1, verb="reject")
    assert story.kinds() == ["twice"]


def test_what_is_settled_at_once_must_not_come_again(story):
    story.group("n", ("b",), ack=NONE)
    story.publish("p-1", 1, topic="b")
    story.receive("p-1", 1, sub="n", topic="b")
    story.receive("p-1", 1, attempt=2, sub="n", topic="b")
    assert story.kinds() == ["twice"]


def test_an_attempt_that_nobody_had_is_a_violation(story):
    story.publish("p-1", 1)
    story.receive("p-1", 1, attempt=2)
    story.settle(1, attempt=2)
    assert story.kinds() == ["attempts"]
    story("d", "receive", "g", 1)
    assert story.kinds() == []


@pytest.mark.parametrize("seconds", [0.2, 1.0])
def test_a_receive_that_outlasts_its_lease_may_have_had_an_attempt(story, seconds):
    story.group("t", ("t",), ack=TIMEOUT, ack_timeout=0.5)
    story.publish("p-1", 1, topic="t")
    story("d", "receive", "t", 1)
    story.later(seconds)
    story("d", "received", "t", [])
    story.receive("p-1", 1, attempt=2, sub="t", topic="t")
    story.settle(1, attempt=2, sub="t")
    assert story.kinds() == (["attempts"] if seconds < 0.5 else [])


def test_nothing_is_taken_from_the_living(story):
    story.publish("p-1", 1)
    story.receive("p-1", 1)
    story.receive("p-1", 1, attempt=2, who="d")
    story.settle(1, attempt=2, who="d")
    assert story.kinds() == ["taken"]


@pytest.mark.parametrize("who", ["killed", "leaving"])
def test_what_the_dead_held_comes_again(story, who):
    story.publish("p-1", 1)
    story.receive("p-1", 1)
    story(*(("conductor", "kill", "c") if who == "killed" else ("c", "leave")))
    story.receive("p-1", 1, attempt=2, who="d")
    story.settle(1, attempt=2, who="d")
    assert story.kinds() == []


def test_a_process_dies_when_it_is_killed_first(story):
    story.publish("p-1", 1)
    story.receive("p-1", 1)
    story("conductor", "kill", "c")
    story.receive("p-1", 1, attempt=2, who="d")
    story("conductor", "kill", "c")
    story.settle(1, attempt=2, who="d")
    assert story.kinds() == []


@pytest.mark.parametrize("seconds", [0.1, 1.0])
def test_a_lease_ends_when_it_says(story, seconds):
    story.group("t", ("t",), ack=TIMEOUT, ack_timeout=0.5)
    story.publish("p-1", 1, topic="t")
    story.receive("p-1", 1, sub="t", topic="t")
    story.later(seconds)
    story.receive("p-1", 1, attempt=2, sub="t", who="d", topic="t")
    story.settle(1, attempt=2, sub="t", who="d")
    assert story.kinds() == (["taken"] if seconds < 0.5 else [])


@pytest.mark.parametrize("extended", [True, False])
def test_an_extended_lease_lasts_longer(story, extended):
    story.group("t", ("t",), ack=TIMEOUT, ack_timeout=0.5)
    story.publish("p-1", 1, topic="t")
    story.receive("p-1", 1, sub="t", topic="t")
    story.settle(1, verb="extend", sub="t", argument=2.0, outcome="done" if extended else "lost")
    story.later(1.0)
    story.receive("p-1", 1, attempt=2, sub="t", who="d", topic="t")
    story.settle(1, attempt=2, sub="t", who="d")
    assert story.kinds() == (["taken"] if extended else [])


@pytest.mark.parametrize("seconds", [0.1, 1.0])
def test_a_delay_is_kept(story, seconds):
    story.publish("p-1", 1, delay=0.5)
    story.later(seconds)
    story.receive("p-1", 1)
    story.settle(1, verb="nack", argument=0.5)
    story.later(seconds)
    story.receive("p-1", 1, attempt=2)
    story.settle(1, attempt=2)
    assert story.kinds() == (["taken", "taken"] if seconds < 0.5 else [])


@pytest.mark.parametrize("both", [True, False])
def test_a_publish_that_did_not_return_is_in_all_groups_or_in_none(story, both):
    story.group("h")
    story.publish("p-1", None)
    story.receive("p-1", 1)
    story.settle(1)
    if both:
        story.receive("p-1", 1, sub="h")
        story.settle(1, sub="h")
    assert story.kinds() == ([] if both else ["together"])


@pytest.mark.parametrize("first", ["received", "lost"])
@pytest.mark.parametrize("second", ["received", "lost"])
@pytest.mark.parametrize("acked", ["gone", "again"])
def test_a_transaction_that_did_not_return_has_happened_or_not(story, first, second, acked):
    story.publish("p-1", 1)
    story.receive("p-1", 1)
    story("c", "publish", 99, [story.said("c-1"), story.said("c-2")])
    story("c", "settle", 98, "ack", "g", [[1, 1]], None)
    story("c", "transaction", 99, [98])
    story("conductor", "kill", "c")
    for uid, seq, fate in (("c-1", 2, first), ("c-2", 3, second)):
        if fate == "received":
            story.receive(uid, seq, who="d")
            story.settle(seq, who="d")
    if acked == "again":
        story.receive("p-1", 1, attempt=2, who="d")
        story.settle(1, attempt=2, who="d")
    whole = {(first, second, acked)} <= {("received", "received", "gone"), ("lost", "lost", "again")}
    assert bool(story.kinds()) != whole
    assert set(story.kinds()) <= {"together"}


def bury(story: Story, uid: str | None = "p-1", attempts: int = 1, reason: str = "no good", size: int = 100) -> None:
    story("drain", "dead", [uid, "a", 20, size, 7, 0], "g", attempts, reason)


def test_what_is_rejected_has_a_dead_letter(story):
    story.publish("p-1", 1)
    story.receive("p-1", 1)
    story.settle(1, verb="reject")
    bury(story)
    assert story.kinds() == []


@pytest.mark.parametrize("wrong", [{"uid": "p-2"}, {"attempts": 2}, {"size": 99}, {"reason": "max_attempts"}])
def test_a_dead_letter_of_something_else_is_a_violation(story, wrong):
    story.publish("p-1", 1)
    story.receive("p-1", 1)
    story.settle(1, verb="reject")
    bury(story, **wrong)
    assert set(story.kinds()) == {"dead"}


def test_nothing_dies_twice_or_after_an_ack(story):
    story.publish("p-1", 1)
    story.receive("p-1", 1)
    story.settle(1, verb="reject")
    bury(story)
    bury(story)
    assert story.kinds() == ["dead"]
    story.publish("p-2", 2)
    story.receive("p-2", 2)
    story.settle(2)
    bury(story, "p-2", reason="max_attempts")
    assert set(story.kinds()) == {"dead"}
    assert any("p-2" in each.text for each in checker.check(story.told()))


@pytest.mark.parametrize("buried", [True, False])
def test_what_used_up_its_attempts_has_a_dead_letter(buried):
    story = Story()
    story.group(max_attempts=1)
    story.publish("p-0", 7)
    story.receive("p-0", 7)
    story.settle(7, verb="reject")
    bury(story, "p-0")
    story.publish("p-1", 1)
    story.receive("p-1", 1)
    story.settle(1, verb="nack")
    if buried:
        bury(story, reason="max_attempts")
    assert story.kinds() == ([] if buried else ["dead"])


def test_a_view_stays_as_it_is(story):
    story.publish("p-1", 1)
    story.receive("p-1", 1)
    story.settle(1)
    story("c", "look", "g", 1, 1, 8)
    assert story.kinds() == ["view"]


def test_a_private_subscription_that_ended_in_the_middle_has_no_hole():
    story = Story()
    story("c", "subscribe", "c/1", {"patterns": ["a"], "ack": NONE, "overflow": "block", "max_attempts": 0,
                                    "ack_timeout": None})  # fmt: skip
    story("c", "subscribed", "c/1")
    for n in range(1, 5):
        story.publish(f"p-{n}", n)
    story.receive("p-1", 1, sub="c/1")
    story.receive("p-3", 3, sub="c/1")
    assert story.kinds() == ["loss"]  # 2, and not 4
    assert "p-2" in checker.check(story.told())[0].text


def test_an_unexpected_error_is_a_violation(story):
    story("c", "error", "KeyError")
    assert story.kinds() == ["error"]


def test_whoever_was_not_killed_says_that_it_ends(story):
    story("c", "receive", "g", 1)
    assert [each.kind for each in checker.check(story.logs)] == ["vanished"]


def test_counters_are_exact_where_nobody_died(story):
    story.publish("p-1", 1)
    story.receive("p-1", 1)
    story.settle(1)
    story.counters(delivered=2, settled=1)
    assert story.kinds() == ["uncounted"]


def test_a_report_has_all_that_happened_to_the_message(story):
    story.publish("p-1", 1)
    story.publish("p-2", 2)
    story.receive("p-1", 1)
    story.receive("p-2", 2)
    story.settle(2)
    story("conductor", "kill", "c")
    (violation,) = checker.check(story.told())
    assert [event[0] for _who, event in violation.history] == ["publish", "published", "received", "kill", "end"]
    assert "p-2" not in str(violation)


@pytest.mark.parametrize("size", [100, 3])
@pytest.mark.parametrize("letter", [True, False])
@pytest.mark.parametrize("killed", [True, False])
def test_a_last_attempt_may_have_died_with_its_receive(size, letter, killed):
    story = Story()
    story.group(max_attempts=2)
    said = story.said("p-1")
    said[3] = size
    story("p", "publish", 1, [said])
    story("p", "published", 1, [1])
    story("c", "receive", "g", 1)
    story("c", "received", "g", [["p-1" if size == 100 else None, 1, "a", 20, size, 7, 0, 1]])
    story.settle(1, verb="nack")
    if killed:
        story("d", "receive", "g", 1)
        story("conductor", "kill", "d")
    if letter:
        bury(story, "p-1" if size == 100 else None, reason="max_attempts", attempts=2, size=size)
    unexplained = "attempts" if size == 100 else "loss"  # a letter without a name may be of any
    expected = ["loss"] if not letter else [] if killed else [unexplained]
    assert story.kinds() == expected
