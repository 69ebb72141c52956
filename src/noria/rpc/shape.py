"""How large a JSON text becomes when it is parsed, found without parsing it.

Depth: the parser stops at Python's recursion limit. But libraries raise that limit for the whole process, and
then deep nesting ends the process instead. Number: ``[1,1,1,...`` takes two bytes a value on the wire and a
hundred in memory. So both are bounded here.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Final

MAX_DEPTH: Final = 1_000
MAX_VALUES: Final = 250_000
HARMLESS: Final = 10_000
"""Brackets that may all be opened within each other without exhausting any thread's stack."""

_STRINGS_AND_OTHERS: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[^"\[\]{}]++', re.DOTALL)
_STEP: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def has_too_many_values(text: bytes | str) -> bool:
    """Tell whether the text may hold more than about `MAX_VALUES` values; quick, counts in strings too."""
    commas = text.count(",") if isinstance(text, str) else text.count(b",")
    return commas + _brackets(text) > MAX_VALUES


def is_simple(text: bytes | str) -> bool:
    """Tell whether the text has too few brackets to be deep; quick, and true of nearly all requests."""
    return _brackets(text) <= HARMLESS


def _brackets(text: bytes | str) -> int:
    if isinstance(text, str):
        return text.count("[") + text.count("{")
    return text.count(b"[") + text.count(b"{")


def is_deep(text: bytes | str) -> bool:
    """Tell whether brackets outside of strings are nested beyond `MAX_DEPTH`; takes its time."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    brackets = _STRINGS_AND_OTHERS.sub(b"", data)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > MAX_DEPTH
