"""Units about which miners differ, and who is concerned."""

from __future__ import annotations

from noria.market.requester.units import UnitState


class Disputes:
    """A job's units whose claims differ, until one of them is found right."""

    def __init__(self) -> None:
        self._states: dict[UnitState, None] = {}

    def note(self, state: UnitState, *, is_disputed: bool) -> None:
        """Note whether a unit's claims differ."""
        if is_disputed:
            self._states[state] = None
        else:
            self._states.pop(state, None)

    def await_own_run(self, k: int) -> bool:
        """Tell whether a place has claimed what this machine is about to find out.

        Only this machine is waited for: where other miners decide, it may be the place's own word for which
        another dispute waits, and it must be able to give it.
        """
        return any(
            state.own_running and any(copy.k == k and copy.claim is not None for copy in state.copies)
            for state in self._states
        )
