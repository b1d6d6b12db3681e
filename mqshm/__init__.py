"""mqshm: a crash-safe message broker in shared memory, for the processes of one machine."""

from mqshm.broker import Broker, connect
from mqshm.config import Config
from mqshm.errors import (
    AlreadySettled,
    BrokerClosed,
    BrokerExists,
    BrokerNotFound,
    DeadLetterDisabled,
    DuplicateMessage,
    ForkedHandle,
    GroupNotFound,
    InvalidConfig,
    InvalidMessage,
    InvalidTopic,
    LeaseLost,
    LimitExceeded,
    MemoryLimitExceeded,
    MessageExpired,
    MessageTooLarge,
    MQError,
    NoRoom,
    QueueFull,
    SegmentCorrupt,
    SubscriptionClosed,
    Timeout,
    TooManyPeers,
    TransactionCommitted,
    TransactionNotFound,
    TransactionRolledBack,
    TransactionTimeout,
    VersionMismatch,
)
from mqshm.loan import Loan
from mqshm.message import AckPolicy, Delivery, Message, Priority
from mqshm.observe import Operation
from mqshm.segment import destroy, list_brokers
from mqshm.stats import BrokerStats, PeerStats, SubscriptionStats, TopicStats
from mqshm.subscription import Subscription, wait
from mqshm.transaction import Transaction
from mqshm.upkeep import FsckReport, Peeked

__version__ = "0.1.0"

__all__ = [
    "AckPolicy",
    "AlreadySettled",
    "Broker",
    "BrokerClosed",
    "BrokerExists",
    "BrokerNotFound",
    "BrokerStats",
    "Config",
    "DeadLetterDisabled",
    "Delivery",
    "DuplicateMessage",
    "ForkedHandle",
    "FsckReport",
    "GroupNotFound",
    "InvalidConfig",
    "InvalidMessage",
    "InvalidTopic",
    "LeaseLost",
    "LimitExceeded",
    "Loan",
    "MQError",
    "MemoryLimitExceeded",
    "Message",
    "MessageExpired",
    "MessageTooLarge",
    "NoRoom",
    "Operation",
    "Peeked",
    "PeerStats",
    "Priority",
    "QueueFull",
    "SegmentCorrupt",
    "Subscription",
    "SubscriptionClosed",
    "SubscriptionStats",
    "Timeout",
    "TooManyPeers",
    "TopicStats",
    "Transaction",
    "TransactionCommitted",
    "TransactionNotFound",
    "TransactionRolledBack",
    "TransactionTimeout",
    "VersionMismatch",
    "connect",
    "destroy",
    "list_brokers",
    "wait",
]
