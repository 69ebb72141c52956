"""Help texts that every command shares."""

from __future__ import annotations


def examples(*commands: str) -> str:
    """Return the closing part of a command's help: command lines to try."""
    return "**Examples**\n\n" + "\n\n".join(f"- `{command}`" for command in commands)
