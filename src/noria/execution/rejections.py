"""Why a transaction is not accepted, in the words that Ethereum tools know."""

from __future__ import annotations

from dataclasses import dataclass


class RejectedTransaction(Exception):
    """A transaction that was not accepted, or that left the mempool without being mined.

    Attributes
    ----------
    kind
        A stable word. Those of `noria._core.InvalidTransaction` and: ``"already-known"``,
        ``"replacement-underpriced"``, ``"underpriced"``, ``"pool-full"``, ``"account-limit"``,
        ``"oversized"``; for a transaction that had been accepted also ``"replaced"``, ``"evicted"``,
        ``"expired"``, ``"superseded"``.
    message
        One line that begins with geth's words for the same case and names the values.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        """Return the message."""
        return self.message


@dataclass(frozen=True, slots=True)
class Departure:
    """A transaction that left the mempool without being mined, and why (kinds: `RejectedTransaction`)."""

    hash: bytes
    kind: str
    message: str
