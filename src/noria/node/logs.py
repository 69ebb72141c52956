"""The node's log: one line per event, on standard error, for people or for machines."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

import structlog

LEVELS: Final = ("debug", "info", "warning", "error")
_SECRETS: Final = (
    "private_key",
    "secret",
    "password",
    "passphrase",
    "mnemonic",
    "seed",
    "token",
    "authorization",
)
_LONGEST: Final = 500
"""Characters of one value. What comes from outside cannot flood the log."""


def configure_logging(level: str = "info", *, json: bool = False, stream: TextIO | None = None) -> None:
    """Send the log of this process to a stream.

    Parameters
    ----------
    level
        The least level that is shown: ``"debug"``, ``"info"``, ``"warning"`` or ``"error"``.
    json
        One JSON object per line instead of text.
    stream
        By default standard error.

    Raises
    ------
    ValueError
        There is no such level.
    """
    if level not in LEVELS:
        raise ValueError(f"log level {level!r} is not one of {', '.join(LEVELS)}")
    target = stream or sys.stderr
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(
            colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            presentable,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(target),
        cache_logger_on_first_use=False,
    )


def presentable(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide secrets, show bytes in hexadecimal, and cut what is too long or could rewrite a terminal."""
    for key, value in event.items():
        if any(secret in key.lower() for secret in _SECRETS):
            event[key] = "(hidden)"
        elif isinstance(value, bytes | bytearray):
            event[key] = "0x" + value[: _LONGEST // 2].hex()
        elif isinstance(value, str) and key != "exception":
            cut = value if len(value) <= _LONGEST else value[:_LONGEST] + "…"
            event[key] = "".join(char if char.isprintable() else "?" for char in cut)
    return event
