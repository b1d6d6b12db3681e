"""A loan: a payload that is written where it will be read, without a copy."""

from __future__ import annotations

import math
import os
import time
from operator import index
from typing import TYPE_CHECKING, Any

from mqshm._native import check, ffi, lib, raise_result, reason
from mqshm.errors import AlreadySettled, ForkedHandle, InvalidMessage
from mqshm.message import Envelope
from mqshm.segment import Attachment

if TYPE_CHECKING:
    from types import TracebackType

    import numpy
    from typing_extensions import Self

_ROOM = 2048
"""Bytes behind the payload for the numbers of the envelope and for the receivers, of which there may be thousands."""


class Loan:
    """Memory of the broker, lent for writing: published when the block is left, given back on an exception.

    `view` and `array` must not be written to any more once it is published: its receivers read the same memory.
    """

    view: memoryview
    """The payload to be, writable, zeroed or not."""
    seq: int | None
    """Sequence number, once it is published."""

    def __init__(
        self, attachment: Attachment, topic: bytes, nbytes: int, envelope: Envelope, dtype: Any, shape: Any,
        timeout_ns: int,
    ) -> None:  # fmt: skip
        self._attachment = attachment
        self._envelope = envelope
        self._dtype, self._shape = dtype, shape
        self._timeout_ns = timeout_ns
        self._open = False
        self._loan = ffi.new("mqshm_loan *")
        self.seq = None
        texts = sum(len(text) for text in (envelope.id, envelope.headers, envelope.key) if text)
        with attachment.use() as handle:
            self._topic = ffi.new("mqshm_topic_t **")
            check(lib.mqshm_topic_open(handle, topic, len(topic), self._topic))
            self._until_room(handle, nbytes, lambda: lib.mqshm_loan_take(handle, nbytes, _ROOM + 4 * texts, self._loan))
            self._open = True
            self._pid = attachment.pid
        # The views keep the mapping for as long as they live, whatever becomes of loan and Broker.
        attachment.hold()
        anchor = ffi.gc(self._loan.data, lambda _pointer: attachment.release())
        self.view = memoryview(ffi.buffer(anchor, nbytes))

    @property
    def array(self) -> numpy.ndarray[Any, Any]:
        """The payload to be as a numpy array of the loan's dtype and shape."""
        import numpy

        made = numpy.frombuffer(self.view, dtype=self._dtype)
        return made if self._shape is None else made.reshape(self._shape)

    def publish(self) -> int:
        """Publishes it now and returns its sequence number. Where there is no room it waits, as Broker.publish does;
        where that fails the loan stays, to be published again or given back."""
        self._checked()
        core = ffi.new("mqshm_envelope *")
        kept = self._envelope.fill(core)
        seq = ffi.new("uint64_t *")
        with self._attachment.use() as handle:
            self._until_room(
                handle, len(self.view), lambda: lib.mqshm_loan_publish(handle, self._topic[0], self._loan, core, seq)
            )
        kept.clear()
        self._open = False
        self.seq = seq[0]
        return int(seq[0])

    def discard(self) -> None:
        """Gives the memory back unpublished."""
        self._checked()
        with self._attachment.use() as handle:
            self._open = False
            check(lib.mqshm_loan_return(handle, self._loan))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._open:
            return
        if kind is not None:
            self.discard()
            return
        try:
            self.publish()
        except BaseException:
            if self._open:
                self.discard()
            raise

    def __reduce__(self) -> Any:
        raise TypeError("a Loan stays in its process: take one where it is written")

    def __del__(self) -> None:
        if getattr(self, "_open", False) and self._pid == os.getpid() and self._attachment.handle is not None:
            self.discard()

    def _checked(self) -> None:
        if self._pid != os.getpid():
            raise ForkedHandle("the loan belongs to the parent process: take one in the child")
        if not self._open:
            raise AlreadySettled("the loan was published or given back before")

    def _until_room(self, handle: Any, nbytes: int, attempt: Any) -> None:
        ends = None if self._timeout_ns < 0 else time.monotonic_ns() + self._timeout_ns
        while (code := attempt()) != lib.MQSHM_OK:
            if code not in (lib.MQSHM_FULL, lib.MQSHM_NO_MEMORY):
                check(code)
            why = reason()
            left = -1 if ends is None else ends - time.monotonic_ns()
            if ends is not None and left <= 0:
                raise_result(code, why)
            waited = lib.mqshm_wait_room(handle, self._topic[0], nbytes, left)
            if waited not in (lib.MQSHM_OK, lib.MQSHM_TIMEOUT, lib.MQSHM_INTERRUPTED):
                raise_result(waited, why)


def size_of(nbytes: int | None, shape: Any, dtype: Any) -> int:
    """Bytes of a loan by its two ways of saying so."""
    if (nbytes is None) == (shape is None):
        raise TypeError("a loan needs nbytes or shape, and not both")
    if nbytes is None:
        import numpy

        try:
            dimensions = [index(each) for each in (shape if isinstance(shape, (tuple, list)) else (shape,))]
        except TypeError:
            raise TypeError(f"shape is an int or a tuple of ints, not {shape!r}") from None
        if any(each < 1 for each in dimensions):
            raise InvalidMessage(f"a loan's shape has no dimension under 1: not {shape!r}")
        kind = numpy.dtype(dtype)
        if kind.hasobject:
            raise TypeError("dtype is of numbers or bytes: other processes cannot follow references to objects")
        nbytes = math.prod(dimensions) * kind.itemsize
    if isinstance(nbytes, bool) or not isinstance(nbytes, int):
        raise TypeError(f"nbytes is an int, not {type(nbytes).__name__}")
    if not 0 < nbytes < 1 << 32:
        raise InvalidMessage(f"a loan is 1 to {(1 << 32) - 1} bytes, not {nbytes}")
    return nbytes
