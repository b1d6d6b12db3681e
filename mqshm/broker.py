"""The broker, as one process sees it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mqshm import _native, aio, deadletters, segment, starting, stats, upkeep
from mqshm._native import check, ffi, lib
from mqshm.config import Config, seconds
from mqshm.deadletters import DeadLetter, DeadLetterStats
from mqshm.errors import InvalidConfig, InvalidMessage, LeaseLost
from mqshm.health import HealthStatus, Thresholds
from mqshm.loan import Loan, size_of
from mqshm.message import AckPolicy, Delivery, Message, Priority, envelope
from mqshm.observe import Observer, Watch, topic_argument
from mqshm.publisher import Publisher
from mqshm.segment import Attachment
from mqshm.stats import BrokerStats
from mqshm.subscription import Options, Subscription, group_name
from mqshm.topics import validate_pattern, validate_topic
from mqshm.transaction import Transaction, Transactions, new_id
from mqshm.upkeep import FsckReport, Peeked

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Buffer, Self

    from mqshm.headers import Headers
    from mqshm.vitals import Vitals

_OBSERVED = ("publish", "publish_batch", "publish_async", "subscribe", "subscribe_batch", "create_group",
             "delete_group", "ack", "nack", "loan", "peek", "purge", "fsck", "stats", "health_check", "update_config",
             "begin", "commit", "rollback", "publish_to_dead_letter", "replay_dead_letters", "close")  # fmt: skip


def connect(
    name: str,
    *,
    create: bool = True,
    config: Config | None = None,
    supervisor: bool | None = None,
    observer: Observer | None = None,
    mode: int = 0o600,
) -> Broker:
    """Attaches to the broker of this name, which is made first where it is not there.

    `config` and `mode` (who may use it, as for a file) are for a broker that is made; one that is there keeps its own
    (`Broker.update_config` changes it). A supervisor process is started where none watches the broker, now and whenever
    this process finds none later; it ends when its last user has left, and a broker without a group ends with it. With
    `supervisor=False`, or MQSHM_SUPERVISOR=0 in the environment, this process starts none: what dead processes leave
    behind is repaired by those that use the broker. `observer` is called after each operation.
    """
    watched = starting.wanted(supervisor)
    if config is not None and not isinstance(config, Config):
        raise TypeError(f"config is a mqshm.Config, not {type(config).__name__}")
    if observer is not None and not callable(observer):
        raise TypeError(f"observer is a function that takes a mqshm.Operation, not {type(observer).__name__}")
    if isinstance(mode, bool) or not isinstance(mode, int):
        raise TypeError(f"mode is an int, as for a file, not {type(mode).__name__}")
    if not 0 <= mode <= 0o777:
        raise InvalidConfig(f"mode is 0 to 0o777, as for a file, not {oct(mode)}")
    _native.front()  # before anything is made that would have to be undone
    broker = Broker(name, segment.attach(name, create, config or Config(), mode), observer, watched)
    try:
        deadletters.ensure(broker, broker.config.dead_letter_topic)
        if watched:
            starting.ensure(broker._attachment, supervisor)
    except BaseException:
        broker.close()
        raise
    return broker


def _connect_again(name: str, watched: bool) -> Broker:
    return connect(name, create=False, supervisor=None if watched else False)


if TYPE_CHECKING:
    _Verbs = Publisher  # says what publish and publish_batch take
else:
    _Verbs = object


class Broker(_Verbs):
    """Made by `connect`; several may be made of one broker, and each may be used from any thread.

    Passed to another process it goes as its name and attaches there. Carried through a fork it attaches at its first
    use in the child.
    """

    def __init__(self, name: str, attachment: Attachment, observer: Observer | None, watched: bool) -> None:
        """Takes over one use of the attachment."""
        self.name = name
        self._watched = watched
        self._attachment = attachment
        self._observer = observer
        self._front_module = _native.front()
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._transactions = Transactions()
        self._vitals: Vitals | None = None
        publisher = Publisher(self._transactions)
        handle = int(ffi.cast("uintptr_t", attachment.handle))
        front = self._front_module.Front(handle, publisher.publish, publisher.publish_batch, attachment.reattach)
        publisher.front = weakref.proxy(front)  # which keeps the publisher, and is there when it calls it
        attachment.add(front)
        self._front = front
        self._publish_nowait = front.publish
        # The front's own methods: one call less on a message's path.
        self.publish = front.publish  # type: ignore[method-assign]
        self.publish_batch = front.publish_batch  # type: ignore[method-assign]
        self._watch = None if observer is None else Watch(observer, _count_panic(weakref.ref(front)))
        if self._watch is not None:
            for op in _OBSERVED:
                setattr(self, op, self._watch.observed(op, getattr(self, op), topic_argument))

    # -- receiving

    def subscribe(
        self,
        pattern: str,
        *,
        group: str | None = None,
        ack: AckPolicy | None = None,
        ack_timeout: float | None = None,
        buffer_size: int | None = None,
        overflow: str | None = None,
        max_attempts: int | None = None,
        backoff: tuple[float, float] | None = None,
        prefetch: int | None = None,
    ) -> Subscription:
        """Receives what is published from now on to topics that match the pattern.

        Without a group the subscription is private: it gets every message, and ends with its process. With a group the
        messages are shared among the group's members; the group is made where it is not there, and outlives them. Of a
        group that is there, options that are given must agree with its own.

        `ack` is AckPolicy.NONE for a private subscription and REQUIRED for a group, if not given. What is None besides
        is as in the broker's configuration; `prefetch` caps the messages that one consumer holds unsettled.
        """
        return self._subscribe(
            (pattern,), group, Options(ack, ack_timeout, buffer_size, overflow, max_attempts, backoff, prefetch)
        )

    def subscribe_batch(
        self,
        patterns: Iterable[str],
        *,
        group: str | None = None,
        ack: AckPolicy | None = None,
        ack_timeout: float | None = None,
        buffer_size: int | None = None,
        overflow: str | None = None,
        max_attempts: int | None = None,
        backoff: tuple[float, float] | None = None,
        prefetch: int | None = None,
    ) -> Subscription:
        """One subscription over several patterns: a message that matches more than one arrives once."""
        return self._subscribe(
            _pattern_names(patterns),
            group,
            Options(ack, ack_timeout, buffer_size, overflow, max_attempts, backoff, prefetch),
        )

    def create_group(
        self,
        group: str,
        patterns: str | Iterable[str],
        *,
        ack: AckPolicy | None = None,
        ack_timeout: float | None = None,
        buffer_size: int | None = None,
        overflow: str | None = None,
        max_attempts: int | None = None,
        backoff: tuple[float, float] | None = None,
        prefetch: int | None = None,
    ) -> None:
        """Makes a group ahead of its members, so that messages wait for the first. Nothing happens where it is there
        with the same patterns and options."""
        options = Options(ack, ack_timeout, buffer_size, overflow, max_attempts, backoff, prefetch)
        names = _pattern_names((patterns,) if isinstance(patterns, str) else patterns)
        with self._use() as handle:
            core, _policy = self._open_subscription(handle, group, names, options)
            lib.mqshm_sub_close(core)

    def delete_group(self, group: str) -> None:
        """Removes a group and its messages; its members' receives raise SubscriptionClosed."""
        name = group_name(group)
        with self._use() as handle:
            upkeep.check_found(lib.mqshm_sub_delete(handle, name, len(name)), group)

    def _subscribe(self, patterns: tuple[str, ...], group: str | None, options: Options) -> Subscription:
        with self._use() as handle:
            core, policy = self._open_subscription(handle, group, patterns, options)
            made = Subscription(
                self._attachment, self._front_module, self._front, core, patterns, group, policy, self._watch
            )
        with self._lock:
            self._subscriptions.add(made)
        return made

    def _open_subscription(
        self, handle: Any, group: str | None, patterns: tuple[str, ...], options: Options
    ) -> tuple[Any, AckPolicy]:
        """Makes it, or finds the group that is there and compares."""
        name = None if group is None else group_name(group)
        whole = options.with_defaults(_config(handle), shared=group is not None)
        wanted, _kept = whole.to_core(name, [validate_pattern(pattern) for pattern in patterns])
        out = ffi.new("mqshm_sub_t **")
        while True:
            code = lib.mqshm_sub_create(handle, wanted, out)
            if code == lib.MQSHM_OK:
                return out[0], AckPolicy(wanted.ack)
            if code != lib.MQSHM_EXISTS:
                check(code)
            assert name is not None  # only a group can be there already
            code = lib.mqshm_sub_open(handle, name, len(name), out)
            if code == lib.MQSHM_OK:
                break
            if code != lib.MQSHM_NOT_FOUND:  # that: deleted just now, so make it after all
                check(code)
        try:
            return out[0], _agreeing(handle, out[0], group, patterns, options)
        except BaseException:
            lib.mqshm_sub_close(out[0])
            raise

    # -- settling by id

    def ack(self, topic: str, message_id: str) -> None:
        """Acks the message of this id that this process holds; LeaseLost where it holds none."""
        with self._use() as handle:
            check(lib.mqshm_ack(_held(handle, topic, message_id)))

    def nack(self, topic: str, message_id: str) -> None:
        """Nacks the message of this id that this process holds: it is delivered again after the group's backoff."""
        with self._use() as handle:
            check(lib.mqshm_nack(_held(handle, topic, message_id), 0xFFFFFFFF))

    # -- publishing, besides publish and publish_batch

    async def publish_async(
        self, topic: str, data: Buffer | str | Message, *, timeout: float | None = None, **options: Any
    ) -> int:
        """As `publish`, for asyncio: the loop goes on while there is no room."""
        return await aio.publish_when_room(
            self._attachment,
            lambda: self._publish_nowait(topic, data, timeout=0, **options),
            validate_topic(topic),
            timeout,
        )

    def loan(
        self,
        topic: str,
        *,
        nbytes: int | None = None,
        shape: int | tuple[int, ...] | None = None,
        dtype: Any = "u1",
        id: str | None = None,
        priority: int = Priority.NORMAL,
        ttl: float | None = None,
        delay: float | None = None,
        headers: Headers | None = None,
        key: str | None = None,
        ack_timeout: float | None = None,
        timeout: float | None = None,
    ) -> Loan:
        """Memory to write a payload into where it will be read. `with broker.loan(...) as loan:` publishes it at the
        end of the block, or gives it back on an exception. The options are those of `publish`."""
        made = envelope(id, priority, ttl, delay, headers, key, ack_timeout)
        size = size_of(nbytes, shape, dtype)
        self._check_open()
        loan = Loan(self._attachment, validate_topic(topic), size, made, dtype, shape, _native.timeout_ns(timeout))
        if self._watch is not None:
            publish = self._watch.observed("publish", loan.publish, lambda _args, _result: topic)
            loan.publish = publish  # type: ignore[method-assign]
        return loan

    # -- transactions

    def transaction(self, timeout: float | None = None) -> Transaction:
        """Messages to publish and to ack as one: `with broker.transaction() as tx:` commits at the end of the block,
        or rolls back on an exception. `timeout` is how many seconds it may take (None: the configuration's
        transaction_timeout, where 0 is no limit); then it is rolled back."""
        return self.begin(new_id(), timeout)

    def begin(self, tx: str, timeout: float | None = None) -> Transaction:
        """The same by an id: `publish(..., tx=id)`, then `commit(id)` or `rollback(id)`, by this Broker object."""
        if not isinstance(tx, str) or not tx:
            raise InvalidMessage(f"a transaction's id is a str that is not empty, not {tx!r}")
        limit = (self.config.transaction_timeout or None) if timeout is None else seconds("timeout", timeout)
        self._check_open()
        return self._transactions.add(Transaction(self._attachment, self._front, tx, limit))

    def commit(self, tx: str) -> Sequence[int]:
        """Commits the transaction of this id and returns its messages' sequence numbers: see `Transaction.commit`."""
        return self._transactions.get(tx).commit()

    def rollback(self, tx: str) -> None:
        """Rolls the transaction of this id back: nothing of it has happened."""
        self._transactions.get(tx).rollback()

    # -- dead letters

    def publish_to_dead_letter(self, topic: str, message: Delivery | Message | Buffer | str, reason: str) -> None:
        """Gives a message up, for this reason: one that was received here is acked in the same step; another is
        published as a dead letter of `topic`. DeadLetterDisabled where there is no dead_letter_topic."""
        deadletters.publish(self, topic, message, reason)

    def dead_letter_stats(self) -> DeadLetterStats:
        return deadletters.stats(self)

    def dead_letters(self, limit: int = 100, *, max_bytes: int = 1 << 16) -> list[DeadLetter]:
        """Copies of dead letters, in no certain order; nothing is taken."""
        return deadletters.browse(self, limit, max_bytes)

    def replay_dead_letters(self, limit: int | None = None, topic: str | None = None) -> int:
        """Puts dead letters (None: all that wait now; those of one topic) back on the topic where each was published,
        for all that receive from it, and returns how many those were. Each is in one place or the other, whoever dies.
        One that dies again has `dead.replays` among its headers, and says so as a dead letter."""
        return deadletters.replay(self, limit, topic)

    # -- looking, and upkeep

    @property
    def config(self) -> Config:
        with self._use() as handle:
            return _config(handle)

    def update_config(self, **changes: Any) -> Config:
        """Changes fields of the configuration for every process, and returns what it is now. All of the change is
        checked before any of it is made, and what others change meanwhile stays. What a subscription took from the
        configuration when it was created stays as it was."""
        was = ffi.new("mqshm_config *")
        if changes.get("dead_letter_topic") is not None:
            deadletters.ensure(
                self, self.config.replace(**changes).dead_letter_topic
            )  # there is a place from the start
        with self._use() as handle:
            while True:
                check(lib.mqshm_config_get(handle, was))
                changed = _native.config_from_core(was).replace(**changes)
                code = lib.mqshm_config_swap(handle, was, _native.config_to_core(changed))
                if code != lib.MQSHM_EXISTS:  # that: another process was faster, so look again
                    check(code)
                    return changed

    @property
    def memory_usage(self) -> int:
        """Bytes of memory that the broker takes now."""
        out = ffi.new("uint64_t *")
        with self._use() as handle:
            check(lib.mqshm_memory_used(handle, out))
        return int(out[0])

    def stats(self) -> BrokerStats:
        """What was counted so far, per topic, group and private subscription, and who is attached."""
        with self._use() as handle:
            return stats.snapshot(self.name, handle)

    def health_check(self, thresholds: Thresholds | None = None) -> HealthStatus:
        """How the broker is, with the reasons where it is not healthy: see `mqshm.HealthStatus`. Cheap enough for each
        second; rates are since the look before, so the first has none."""
        from mqshm.vitals import Vitals  # psutil is for those who look

        with self._use() as handle:
            if self._vitals is None:
                self._vitals = Vitals(self.name)
            return self._vitals.look(handle, self._attachment.descriptors[0], thresholds or Thresholds())

    def peek(self, group: str, limit: int = 10, *, max_bytes: int = 1 << 16) -> list[Peeked]:
        """Copies of messages that wait in a group, in no certain order; nothing is taken."""
        group_name(group)
        with self._use() as handle:
            return list(upkeep.peek(handle, group, limit, max_bytes))

    def purge(self, group: str) -> int:
        """Removes what waits in a group and returns how many messages that were. Those in flight stay."""
        name = group_name(group)
        with self._use() as handle:
            return upkeep.purge(handle, group, name)

    def fsck(self, *, repair: bool = False) -> FsckReport:
        """Accounts for every slot, payload and ring cell; repairs what is wrong where asked to."""
        with self._use() as handle:
            return upkeep.fsck(handle, repair)

    # -- ending

    @property
    def closed(self) -> bool:
        return bool(self._front.closed)

    def close(self) -> None:
        """Leaves the broker: private subscriptions end, unsettled messages are delivered again. Idempotent.

        Views of messages and loans stay readable; the process is counted as attached until the last is gone.
        """
        with self._lock:
            subscriptions = list(self._subscriptions)
        for subscription in subscriptions:
            subscription.close()
        self._attachment.leave(self._front)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> Any:
        if self._observer is not None:
            raise TypeError(
                "a Broker with an observer stays in its process: connect in the child, with an observer there"
            )
        return _connect_again, (self.name, self._watched)

    def __repr__(self) -> str:
        return f"<Broker {self.name!r}{' closed' if self.closed else ''}>"

    def _check_open(self) -> None:
        if self.closed:
            _native.raise_result(_native.BROKER_CLOSED)

    def _use(self) -> Any:
        self._check_open()
        return self._attachment.use()


def _count_panic(front: weakref.ref[Any]) -> Callable[[], None]:
    """By reference: what an observer is kept by must not keep the broker open."""

    def count() -> None:
        here = front()
        if here is not None:
            here.trouble(lib.MQSHM_TROUBLE_PANIC)

    return count


def _pattern_names(patterns: Iterable[str]) -> tuple[str, ...]:
    if isinstance(patterns, str):
        raise TypeError("patterns are a list of str; for one pattern there is subscribe")
    if isinstance(patterns, (bytes, bytearray)) or not isinstance(patterns, Iterable):
        raise TypeError(f"patterns are a list of str, not {type(patterns).__name__}")
    names = tuple(patterns)
    for name in names:
        validate_pattern(name)
    names = tuple(dict.fromkeys(names))
    if not names:
        raise InvalidConfig("a subscription needs at least one pattern")
    return names


def _config(handle: Any) -> Config:
    out = ffi.new("mqshm_config *")
    check(lib.mqshm_config_get(handle, out))
    return _native.config_from_core(out)


def _agreeing(handle: Any, core: Any, group: str | None, patterns: Sequence[str], options: Options) -> AckPolicy:
    """The policy of a group that was there; InvalidConfig where it is not what its new member asks for."""
    out = ffi.new("mqshm_sub_options *")
    check(lib.mqshm_sub_options_get(core, out))
    for field, wanted in options.core_fields().items():
        if getattr(out, field) != wanted:
            raise InvalidConfig(
                f"group {group!r} is there already with {field} {getattr(out, field)}, not {wanted}: leave the option "
                "out to take the group as it is, or delete_group it first"
            )
    found = stats.find_row(handle, group or "")
    if found is not None and found[1] is not None and set(found[1]) != set(patterns):
        raise InvalidConfig(
            f"group {group!r} is there already with the patterns {', '.join(found[1])}, not {', '.join(patterns)}: "
            "use those, or delete_group it first"
        )
    return AckPolicy(out.ack)


def _held(handle: Any, topic: str, message_id: str) -> Any:
    name = validate_topic(topic)
    if not isinstance(message_id, str):
        raise TypeError(f"message_id is a str, not {type(message_id).__name__}")
    raw = message_id.encode(errors="surrogateescape")
    out = ffi.new("mqshm_delivery *")
    code = lib.mqshm_find_held(handle, name, len(name), raw, len(raw), out)
    if code == lib.MQSHM_NOT_FOUND:
        raise LeaseLost(
            f"this process holds no message {message_id!r} of topic {topic!r}: it was settled, or its lease ended"
        )
    check(code)
    return out
