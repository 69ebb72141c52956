"""What replicas say together: whether they agree, and if not, who lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from noria.market.requester.units import Copy, Key


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which answer is taken.

    Attributes
    ----------
    key
        The answer; None while that is open.
    right, wrong
        Copies that gave it, and those that gave another one.
    is_disputed
        Whether there were different answers.
    """

    key: Key | None
    right: tuple[Copy, ...]
    wrong: tuple[Copy, ...]
    is_disputed: bool


def judge(copies: Sequence[Copy], required: int, truth: Key | None = None) -> Verdict:
    """Compare the claims of a unit's copies.

    Parameters
    ----------
    copies
        Those that count; without a claim they say nothing yet.
    required
        Claims that must agree.
    truth
        What an own run gave, which decides.

    Returns
    -------
    Verdict
        With a key if an own run was made, if enough copies agree and none differs, or if after a dispute one
        answer has more voices than all others together and at least two.
    """
    voices: dict[Key, list[Copy]] = {}
    for copy in copies:
        if copy.claim is not None:
            voices.setdefault(copy.claim.key, []).append(copy)
    is_disputed = len(voices) > 1
    if truth is not None:
        right = voices.pop(truth, [])
        return Verdict(truth, tuple(right), _all(voices), bool(voices))
    if not voices:
        return Verdict(None, (), (), False)
    best = max(voices, key=lambda key: len(voices[key]))
    right = voices.pop(best)
    others = _all(voices)
    enough = len(right) >= max(2, len(others) + 1) if is_disputed else len(right) >= required
    if not enough or len(right) < min(required, 2):
        return Verdict(None, (), (), is_disputed)
    return Verdict(best, tuple(right), others, is_disputed)


def _all(voices: dict[Key, list[Copy]]) -> tuple[Copy, ...]:
    return tuple(copy for copies in voices.values() for copy in copies)
