import os

import pytest

import mqshm
from mqshm import Config


def test_a_config_comes_back_as_it_was_given(name):
    config = Config(
        max_topics=5, max_subscribers=6, default_buffer_size=7, message_ttl=1.5, max_message_size=8,
        max_memory_usage=512 << 20, overflow="drop_new", default_ack_timeout=2.5, max_attempts=9, backoff=(0.25, 4.0),
        transaction_timeout=3.5, dead_letter_topic="dlq", dedup_window=4.5, health_check_interval=5.5,
        enable_metrics=False, enable_priority_queue=False, enable_trie_pattern=False, spin=1e-3,
    )  # fmt: skip
    with mqshm.connect(name, config=config) as broker:
        assert broker.config == config


def test_a_change_is_seen_by_every_connection(name):
    with mqshm.connect(name) as one, mqshm.connect(name) as two:
        changed = one.update_config(max_topics=100, message_ttl=60.0)
        assert changed == two.config
        assert two.config.max_topics == 100


def test_a_bad_change_changes_nothing(broker):
    before = broker.config
    for change in ({"max_topics": -1}, {"no_such": 1}, {"max_topics": 3, "overflow": "x"}):
        with pytest.raises(mqshm.InvalidConfig):
            broker.update_config(**change)
    assert broker.config == before


def test_what_another_process_changes_holds_here_at_once(broker, run):
    sub = broker.subscribe("a", group="g")
    broker.publish("a", b"x")
    with sub.receive_nowait() as before:
        assert before.expires_at is None
    changes = {
        "max_topics": 1, "max_message_size": 10, "message_ttl": 60.0, "max_subscribers": 1, "default_buffer_size": 3,
        "overflow": "reject", "max_attempts": 9, "default_ack_timeout": 7.5,
    }  # fmt: skip
    child = run(_update, broker.name, changes)
    child.join(20)
    assert child.exitcode == 0
    with pytest.raises(mqshm.LimitExceeded, match="max_topics"):
        broker.publish("b", b"x")
    with pytest.raises(mqshm.MessageTooLarge, match="max_message_size"):
        broker.publish("a", b"x" * 11)
    with pytest.raises(mqshm.LimitExceeded, match="max_subscribers"):
        broker.subscribe("a")
    broker.create_group("new", "b")
    assert (broker.stats().groups["new"].buffer_size, broker.stats().groups["new"].overflow) == (3, "reject")
    assert broker.stats().groups["g"].buffer_size == 1024
    broker.publish("a", b"x")
    message = sub.receive_nowait()
    assert message.expires_at == pytest.approx(message.published_at + 60, abs=1)
    message.ack()
    broker.update_config(max_memory_usage=broker.memory_usage)
    with pytest.raises(mqshm.MemoryLimitExceeded):
        broker.create_group("more", "c")


def _update(name, changes):
    with mqshm.connect(name) as broker:
        broker.update_config(**changes)


def test_changes_of_several_processes_at_once_are_all_made(broker, run):
    children = [run(_change, broker.name, field) for field in ("max_topics", "max_subscribers", "max_attempts")]
    for number in range(1, 101):
        broker.update_config(max_message_size=number)
    for child in children:
        child.join(20)
        assert child.exitcode == 0
    config = broker.config
    assert (config.max_topics, config.max_subscribers, config.max_attempts, config.max_message_size) == (100,) * 4


def _change(name, field):
    with mqshm.connect(name) as broker:
        for number in range(1, 101):
            broker.update_config(**{field: number})


def test_stats_count_what_happened(broker):
    group = broker.subscribe("a.*", group="g", backoff=(0, 0))
    broker.subscribe("a.b", group="other")
    private = broker.subscribe("#", buffer_size=77)
    broker.publish_batch("a.b", [b"xy"] * 3)
    broker.publish("c", b"")
    first = group.receive_nowait()
    first.ack()
    group.receive_nowait().nack()
    held = group.receive_nowait()
    stats = broker.stats()
    assert stats.name == broker.name
    assert (stats.topics["a.b"].published, stats.topics["a.b"].bytes, stats.topics["c"].published) == (3, 6, 1)
    g = stats.groups["g"]
    assert (g.patterns, g.pid, g.waiting, g.in_flight) == (("a.*",), None, 1, 1)
    assert (g.delivered, g.settled, g.nacked, g.redelivered) == (3, 1, 1, 1)
    assert stats.groups["other"].waiting == 3
    assert (stats.private[0].pid, stats.private[0].waiting, stats.private[0].buffer_size) == (os.getpid(), 4, 77)
    assert stats.peers[0].pid == os.getpid()
    assert stats.memory_usage == broker.memory_usage > 0
    held.ack()
    assert private.receive_nowait() is not None


def test_a_group_is_counted_from_its_creation_on(broker):
    sub = broker.subscribe("a", group="one")
    broker.publish_batch("a", [b"x"] * 9)
    sub.receive_nowait().ack()
    broker.delete_group("one")
    broker.create_group("two", "a")
    two = broker.stats().groups["two"]
    assert (two.published, two.delivered, two.settled, two.dropped) == (0, 0, 0, 0)
    broker.publish("a", b"x")
    assert broker.stats().groups["two"].published == 1


def test_a_fresh_broker_is_small(broker):
    assert broker.memory_usage < 2 << 20


def test_peek_takes_nothing(broker):
    sub = broker.subscribe("a", group="g")
    broker.publish("a", b"x" * 1000, id="one", headers={"h": 1}, priority=30)
    broker.publish("a", b"y", key="k")
    for _ in range(2):
        found = {each.data: each for each in broker.peek("g")}
        assert set(found) == {b"x" * 1000, b"y"}
        assert (found[b"x" * 1000].id, found[b"x" * 1000].headers, int(found[b"x" * 1000].priority)) == (
            "one",
            {"h": 1},
            30,
        )
        assert found[b"y"].key == "k"
    assert {(len(each.data), each.size) for each in broker.peek("g", max_bytes=10)} == {(10, 1000), (1, 1)}
    assert len(broker.peek("g", limit=1)) == 1
    assert len(sub.receive_batch(9, timeout=0)) == 2
    with pytest.raises(mqshm.GroupNotFound):
        broker.peek("none")


def test_purge_removes_what_waits(broker):
    sub = broker.subscribe("a", group="g")
    broker.publish_batch("a", [b"x"] * 10)
    held = sub.receive_nowait()
    assert broker.purge("g") == 9
    assert sub.receive_nowait() is None
    held.ack()
    with pytest.raises(mqshm.GroupNotFound):
        broker.purge("none")


def test_fsck_finds_nothing_in_a_broker_at_work(broker):
    sub = broker.subscribe("a", group="g", buffer_size=300)
    broker.publish_batch("a", [b"x" * 200] * 100)
    held = sub.receive_batch(10)
    report = broker.fsck()
    assert report.clean
    assert report.slots_used == 100
    assert report.peers_live == 1
    assert sub.ack_batch(held) == 10


def test_without_the_priority_queue_messages_come_in_the_order_of_publishing(broker):
    sub = broker.subscribe("a")
    broker.update_config(enable_priority_queue=False)
    for number, priority in enumerate((mqshm.Priority.LOW, mqshm.Priority.HIGHEST, mqshm.Priority.NORMAL)):
        broker.publish("a", bytes([number]), priority=priority)
    assert [message.data for message in sub.receive_batch(9)] == [b"\0", b"\1", b"\2"]
    broker.update_config(enable_priority_queue=True)
    broker.publish("a", b"low", priority=mqshm.Priority.LOW)
    broker.publish("a", b"high", priority=mqshm.Priority.HIGH)
    assert [message.data for message in sub.receive_batch(9)] == [b"high", b"low"]


def test_without_metrics_nothing_is_counted(broker):
    sub = broker.subscribe("a")
    broker.publish("a", b"1")
    broker.update_config(enable_metrics=False)
    broker.publish("a", b"2")
    assert len(sub.receive_batch(9)) == 2
    assert broker.stats().topics["a"].published == 1
    broker.update_config(enable_metrics=True)
    broker.publish("a", b"3")
    assert broker.stats().topics["a"].published == 2
