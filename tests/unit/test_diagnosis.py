import dataclasses

import pytest

from mqshm.config import Config
from mqshm.diagnosis import MAX_SUBSCRIPTIONS, OfLate, judged
from mqshm.health import (
    TROUBLES,
    HealthStatus,
    MachineHealth,
    ProcessHealth,
    QueueHealth,
    Rates,
    Thresholds,
    Trouble,
)

GIB = 1 << 30
MACHINE = MachineHealth(2, (0.1, 0.1, 0.1), 16 * GIB, 8 * GIB, 8 * GIB, 4 * GIB)
PROCESS = ProcessHealth(7, "shop", "user", "sleeping", 1.0, 0, 0, 0.0, 1 << 20, 1, 5)
QUEUE = QueueHealth(
    group="g", patterns=("a",), pid=None, overflow="block", buffer_size=100, consumers=1, publishers_waiting=0,
    waiting=0, waiting_by_priority={}, oldest=None, oldest_by_priority={}, in_flight=0, delayed=0, used=0,
    estimated=False, published=0, delivered=0, settled=0, redelivered=0, nacked=0, rejected=0, expired=0, dropped=0,
    rates=None,
)  # fmt: skip
WELL = HealthStatus(
    name="shop", checked_at=1000.0, uptime=5.0, supervisor=None, unwatched=False, topics=3, subscriptions=1,
    waiting=0, in_flight=0, delayed=0, dead_letters=0, published=9, published_bytes=9, memory_usage=1 << 20,
    memory_counted=1 << 20, memory_limit=GIB, memory_high=False, publishers_waiting=0, rates=None,
    troubles={kind: Trouble(0, None, None) for kind in TROUBLES}, groups={"g": QUEUE}, private=(),
    processes=(PROCESS,), machine=MACHINE, damage="",
)  # fmt: skip


def found(config=None, late=None, **changes):
    late = late or OfLate({}, {})
    return judged(dataclasses.replace(WELL, **changes), config or Config(), late, Thresholds())


def with_queue(**changes):
    return found(groups={"g": dataclasses.replace(QUEUE, **changes)})


def with_process(**changes):
    return found(processes=(dataclasses.replace(PROCESS, **changes),))


def with_machine(**changes):
    return found(machine=dataclasses.replace(MACHINE, **changes))


def with_trouble(kind, ago):
    return found(troubles={**WELL.troubles, kind: Trouble(3, WELL.checked_at - ago, 7)})


RATES = Rates(1.0, 100.0, 100.0, 90.0, 0.0, 0.0, 0.0, 0.0)


def test_all_well_is_healthy_without_reasons():
    assert (found().status, found().reasons) == ("healthy", ())


@pytest.mark.parametrize(
    ("seen", "code", "severity"),
    [
        (found(damage="the rings of subscription 3"), "damaged", "unhealthy"),
        (found(publishers_waiting=2), "memory_exhausted", "unhealthy"),
        (found(memory_high=True), "memory_high", "degraded"),
        (with_machine(shm_free=GIB // 2), "shm_low", "degraded"),
        (with_machine(shm_free=GIB // 8), "shm_full", "unhealthy"),
        (with_machine(memory_available=GIB // 2), "machine_memory_low", "degraded"),
        (with_queue(used=100), "queue_full", "degraded"),
        (with_queue(used=95, publishers_waiting=1), "queue_full", "degraded"),
        (with_queue(used=100, consumers=0), "queue_full", "unhealthy"),
        (with_queue(waiting=1, oldest=61.0, consumers=0), "no_consumers", "degraded"),
        (with_queue(waiting=1, oldest=301.0), "backlog_old", "degraded"),
        (with_queue(rates=dataclasses.replace(RATES, redelivered=11.0)), "redelivered", "degraded"),
        (found(late=OfLate({QUEUE.title: 1}, {})), "given_up", "degraded"),
        (found(late=OfLate({}, {QUEUE.title: 1})), "dropped", "degraded"),
        (with_trouble("memory", 60), "errors", "degraded"),
        (with_trouble("corrupt", 0), "errors", "degraded"),
        (with_trouble("other", 0), "errors", "degraded"),
        (with_trouble("lease_lost", 0), "leases_lost", "degraded"),
        (with_trouble("panic", 0), "panics", "degraded"),
        (found(unwatched=True), "unwatched", "degraded"),
        (with_process(state="dead"), "process_dead", "degraded"),
        (with_process(state="stopped", leases=1), "process_stopped", "degraded"),
        (with_process(state="stopped", role="supervisor"), "supervisor_stopped", "degraded"),
        (found(Config(max_topics=3)), "limit_near", "degraded"),
        (found(subscriptions=MAX_SUBSCRIPTIONS - 5), "limit_near", "degraded"),
        (found(processes=(PROCESS,) * 460), "limit_near", "degraded"),
    ],
)
def test_each_fault_is_a_reason_with_something_to_do(seen, code, severity):
    assert (seen.status, [reason.code for reason in seen.reasons]) == (severity, [code])
    assert seen.reasons[0].severity == severity
    assert seen.reasons[0].text
    assert seen.reasons[0].advice


@pytest.mark.parametrize(
    "seen",
    [
        with_machine(shm_free=GIB),
        with_machine(memory_available=GIB),
        with_queue(used=99),
        with_queue(used=80, publishers_waiting=1),
        with_queue(used=100, overflow="drop_oldest"),
        with_queue(used=100, overflow="drop_new", consumers=0),
        with_queue(waiting=1, oldest=59.0, consumers=0),
        with_queue(waiting=1, oldest=299.0),
        with_queue(waiting=0, oldest=None, consumers=0),
        with_queue(group="dead-letters", waiting=1, oldest=1e6, consumers=0),
        with_queue(rates=dataclasses.replace(RATES, redelivered=9.0)),
        with_queue(rates=dataclasses.replace(RATES, redelivered=5.0, delivered=10.0)),
        with_trouble("full", 0),
        with_trouble("panic", 62),
        with_process(state="stopped"),
        found(Config(max_topics=4)),
    ],
)
def test_what_is_not_so_bad_is_none(seen):
    assert (seen.status, seen.reasons) == ("healthy", ())


def test_the_worst_comes_first():
    seen = found(memory_high=True, damage="x")
    assert [reason.code for reason in seen.reasons] == ["damaged", "memory_high"]
    assert seen.status == "unhealthy"


def test_of_many_of_a_kind_ten_are_told_and_the_rest_counted():
    full = {f"g{n}": dataclasses.replace(QUEUE, group=f"g{n}", used=100) for n in range(25)}
    reasons = found(groups=full).reasons
    assert len(reasons) == 11
    assert (reasons[-1].subject, reasons[-1].text) == (None, "the same of 15 more")


def test_every_code_is_in_the_operations_guide():
    import re
    from pathlib import Path

    from mqshm import diagnosis

    source = Path(diagnosis.__file__).read_text()
    told = set(re.findall(r'Reason\(\s*"(\w+)"', source)) | set(re.findall(r'"(shm_\w+)", (?:UN|DE)', source))
    told |= {code for code, _, _ in diagnosis._OF_LATE.values()}
    guide = Path(__file__).parents[2].joinpath("docs", "operations.md").read_text()
    assert told >= {"damaged", "shm_full", "shm_low", "queue_full", "panics", "limit_near"}
    assert [code for code in sorted(told) if f"`{code}`" not in guide] == []
