"""What can go wrong with a chain beside what the engine reports."""

from __future__ import annotations


class ChainStopped(Exception):
    """The chain has been stopped, or is about to be."""

    def __init__(self) -> None:
        super().__init__("the chain has been stopped")


class InvalidTimestamp(ValueError):
    """A block time that the chain cannot take; the message names it and what is allowed."""


class TransactionNotMined(TimeoutError):
    """A transaction was not mined within the time; the message names both."""
