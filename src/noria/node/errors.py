"""What stops a node, in one line each."""

from __future__ import annotations


class NodeError(Exception):
    """A node cannot start; the message says which value was wrong and what to do."""


class InvalidConfiguration(NodeError):
    """A value of a node's configuration is out of its bounds."""


class ChainMismatch(NodeError):
    """The chain in the data directory is not the one that was asked for."""
