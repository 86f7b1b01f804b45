"""No secret in what the libraries say: every log record and every traceback is cleaned before anybody sees it.

The broker wants the token in the query of a hub's address, and addresses are what libraries like to log. So the
libraries that handle requests are kept above DEBUG, and, since nobody can know what the next version of one logs, each
record is cleaned when it is made, for whatever handler, and each uncaught error when it is printed.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

LOGGERS = ("httpx", "httpcore", "websockets", "trio-websocket", "hypercorn", "wsproto")
"""Whose loggers stay at INFO at least: below it they show requests."""

_PATTERNS = (
    re.compile(r"(?i)(access_token=|authorization['\"]?[,:=\s]+(?:b?['\"])?(?:bearer\s+)?|bearer\s+)[^\s&'\"\\,;)\]]+"),
    re.compile(r"(?i)((?:api_?key|token|password)\\?['\"]?\s*[:=]\s*\\?['\"])[^'\"\\]+"),
    re.compile(r"()eyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"),
)


def redact(text: str) -> str:
    """Return ``text`` with three stars for every token and key in it, as far as a form gives them away."""
    for pattern in _PATTERNS:
        text = pattern.sub(r"\1***", text)
    return text


def install() -> None:
    """Clean log records and printed errors from now on, in this process. A second call changes nothing."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.INFO))
    make = logging.getLogRecordFactory()
    if not isinstance(make, _Cleaning):
        logging.setLogRecordFactory(_Cleaning(make))
        sys.excepthook = _print_clean


class _Cleaning:
    """Makes log records of which message and traceback are clean."""

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *arguments: Any, **named: Any) -> logging.LogRecord:
        record = self._make(*arguments, **named)
        try:
            said = record.getMessage()
        except Exception:  # noqa: BLE001  a library's faulty message is logging's to report, without its arguments
            said, record.msg = "", "a message that does not fit its arguments"
        if (clean := redact(said)) != said or not said:
            record.msg, record.args = clean or record.msg, ()
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = redact("".join(traceback.format_exception(record.exc_info[1])).rstrip("\n"))
        return record


def _print_clean(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))
