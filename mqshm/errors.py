"""What can go wrong. Every error says whose fault it is and what to do; all of them are `MQError`."""

from __future__ import annotations

import queue
from collections.abc import Sequence


class MQError(Exception):
    """Base of all errors of mqshm.

    Where a batch met it, `sequence_numbers` are those of its messages that are in; what follows them is not.
    """

    sequence_numbers: Sequence[int] = ()


class InvalidTopic(MQError, ValueError):
    """The topic or pattern is not one: see `mqshm.topics` for the rules."""


class InvalidMessage(MQError, ValueError):
    """A payload, id, key, header or option of a message is not acceptable."""


class InvalidConfig(MQError, ValueError):
    """A configuration field, or an option of a subscription, is not acceptable."""


class BrokerNotFound(MQError):
    """No broker has this name on this machine, and it was not to be created."""


class BrokerExists(MQError):
    """A broker of this name is there already."""


class BrokerClosed(MQError):
    """The Broker object was closed; connect again."""


class SubscriptionClosed(MQError):
    """The subscription was closed here, or its group was deleted."""


class GroupNotFound(MQError, LookupError):
    """The broker has no group of this name."""


class NoRoom(MQError):
    """Base of what a publish can meet when it is not to wait, or has waited long enough."""


class QueueFull(NoRoom, queue.Full):
    """A subscription that matches the topic holds as many messages as its buffer_size."""


class MemoryLimitExceeded(NoRoom, MemoryError):
    """The broker's max_memory_usage is reached, or /dev/shm is full."""


class MessageTooLarge(MQError):
    """The message is larger than the broker's max_message_size, or than any slot."""


class MessageExpired(MQError):
    """The message's time to live is over."""


class LeaseLost(MQError):
    """The message is not this consumer's any more: its lease ended and it was, or will be, delivered again."""


class AlreadySettled(MQError):
    """The message was acked, nacked or rejected before."""


class TransactionNotFound(MQError):
    """No transaction of this id is under way."""


class TransactionTimeout(MQError):
    """The transaction took longer than its timeout and was rolled back."""


class TransactionCommitted(MQError):
    """The transaction was committed before."""


class TransactionRolledBack(MQError):
    """The transaction was rolled back before."""


class DeadLetterDisabled(MQError):
    """The broker has no dead_letter_topic."""


class DuplicateMessage(MQError):
    """A message of this id was published within the broker's dedup_window."""


class SegmentCorrupt(MQError):
    """The broker's shared memory holds what no mqshm wrote."""


class VersionMismatch(MQError):
    """The shared memory, or the compiled core, is of another version of mqshm."""


class ForkedHandle(MQError):
    """A lease, a loan or a private subscription of the parent process was used in a forked child."""


class LimitExceeded(MQError):
    """As many topics or subscriptions as the configuration, or the segment, allows."""


class TooManyPeers(LimitExceeded):
    """As many processes as a broker can have are attached to it."""


class Timeout(MQError, TimeoutError):
    """It took too long, where there is nothing to return for that."""
