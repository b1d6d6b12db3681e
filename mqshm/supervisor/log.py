"""What the supervisor has to say: a line of JSON for each event, through the standard library's logging.

In the foreground it goes to stderr. One that a user's process started has nobody who reads its stderr, and writes to
the file that the environment's MQSHM_LOG names, appending; without it, nowhere.
"""

from __future__ import annotations

import json
import logging
import os
import time
from typing import Any

logger = logging.getLogger("mqshm.supervisor")


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "at": f"{at}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "pid": record.process,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def to(handler: logging.Handler) -> None:
    handler.setFormatter(_JsonLines())
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def to_stderr() -> None:
    to(logging.StreamHandler())


def to_file_of_environment() -> None:
    path = os.environ.get("MQSHM_LOG")
    to(logging.FileHandler(path) if path else logging.NullHandler())


def event(what: str, **fields: Any) -> None:
    logger.info(what, extra={"fields": fields})


def warning(what: str, **fields: Any) -> None:
    logger.warning(what, extra={"fields": fields})


def panic(what: str, **fields: Any) -> None:
    """Of an exception that is being handled, with where it came from."""
    logger.error(what, exc_info=True, extra={"fields": fields})
