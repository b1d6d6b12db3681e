import pickle
import queue

import pytest

from mqshm import errors

ALL = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.MQError)]

NAMED = [
    "InvalidTopic",
    "InvalidMessage",
    "InvalidConfig",
    "BrokerNotFound",
    "BrokerClosed",
    "BrokerExists",
    "QueueFull",
    "MemoryLimitExceeded",
    "MessageTooLarge",
    "MessageExpired",
    "LeaseLost",
    "AlreadySettled",
    "TransactionNotFound",
    "TransactionTimeout",
    "TransactionCommitted",
    "TransactionRolledBack",
    "DeadLetterDisabled",
    "DuplicateMessage",
    "SegmentCorrupt",
    "VersionMismatch",
    "ForkedHandle",
    "TooManyPeers",
    "Timeout",
]


@pytest.mark.parametrize("name", NAMED)
def test_every_documented_error_is_there_and_public(name):
    import mqshm

    assert issubclass(getattr(mqshm, name), mqshm.MQError)
    assert name in mqshm.__all__


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (errors.InvalidTopic, ValueError),
        (errors.InvalidMessage, ValueError),
        (errors.InvalidConfig, ValueError),
        (errors.QueueFull, queue.Full),
        (errors.MemoryLimitExceeded, MemoryError),
        (errors.Timeout, TimeoutError),
    ],
)
def test_errors_are_also_what_python_calls_them(kind, also):
    assert issubclass(kind, also)


@pytest.mark.parametrize("kind", ALL)
def test_errors_cross_processes(kind):
    back = pickle.loads(pickle.dumps(kind("why")))
    assert type(back) is kind
    assert str(back) == "why"


@pytest.mark.parametrize("kind", ALL)
def test_every_error_says_what_it_means(kind):
    assert kind.__doc__
