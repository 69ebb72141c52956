"""A job as its owner sees it: where it stands, and why."""

from __future__ import annotations

from collections.abc import Callable

from noria.market.requester.reasons import Explanation, JobView, explain


class JobHandle:
    """The job behind an `Executor`; any thread may ask it.

    Parameters
    ----------
    look
        Returns the job's snapshot of now.
    """

    def __init__(self, look: Callable[[], JobView]) -> None:
        self._look = look

    @property
    def id(self) -> int | None:
        """Number of the job on its chain; None until it is open."""
        return self._look().job

    @property
    def state(self) -> str:
        """``new``, ``opening``, ``assigning``, ``running``, ``closing``, ``closed`` or ``failed``."""
        return self._look().state

    def view(self) -> JobView:
        """Return everything that is known: money, places, units."""
        return self._look()

    def explain(self) -> Explanation:
        """Return why the job is where it is, for people: print it."""
        return explain(self._look())

    def __repr__(self) -> str:
        view = self._look()
        return f"<job {'not open' if view.job is None else view.job}, {view.state}>"
