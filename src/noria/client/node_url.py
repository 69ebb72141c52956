"""The address of a node's RPC, as users write it."""

from __future__ import annotations

from typing import Final
from urllib.parse import SplitResult, urlsplit

DEFAULT_URL: Final = "http://127.0.0.1:8545"
MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
"""Longest answer that is read from a node."""
WAIT_SECONDS: Final = 30.0
"""Longest wait for an answer."""
_SOCKETS: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


class InvalidUrl(ValueError):
    """Not the URL of a node."""


def parse_url(url: str, schemes: tuple[str, ...] = ("http", "https")) -> SplitResult:
    """Take a URL apart.

    Raises
    ------
    InvalidUrl
        Where it is none of these schemes, or has no host.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in schemes and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidUrl(f"{url!r} is not a URL like {DEFAULT_URL}")
    return parts


def socket_url(url: str) -> str:
    """Return where a node's WebSocket is: with the same host and port as its HTTP.

    Raises
    ------
    InvalidUrl
        As `parse_url`.
    """
    parts = parse_url(url, tuple(_SOCKETS))
    return parts._replace(scheme=_SOCKETS[parts.scheme], path=parts.path or "/").geturl()


def read_quantity(value: object, what: str) -> int:
    """Read a ``0x`` quantity of at most 256 bits that a node sent.

    Raises
    ------
    ValueError
        Where it is none.
    """
    try:
        if not isinstance(value, str) or not value.startswith("0x") or len(value) > 66:
            raise ValueError
        return int(value, 16)
    except ValueError:
        raise ValueError(f"the node's answer to {what} is not a quantity: {value!r:.80}") from None
