"""Long outputs of places: held in the store while a unit or a result needs them, and counted."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from noria.work.blob_errors import BlobMissing
from noria.work.blobs import BlobStore
from noria.work.ids import BlobId


@dataclass(slots=True)
class _Held:
    """Outputs of one place in one turn: how often each is needed and its length, and the bytes of all."""

    turn: int
    outputs: dict[BlobId, tuple[int, int]] = field(default_factory=dict)
    total: int = 0

    def add(self, output: BlobId, size: int) -> None:
        needed, _ = self.outputs.get(output, (0, size))
        self.total += 0 if needed else size
        self.outputs[output] = needed + 1, size

    def remove(self, output: BlobId) -> bool:
        """Tell whether nothing needs it any more."""
        needed, size = self.outputs.get(output, (0, 0))
        if needed > 1:
            self.outputs[output] = needed - 1, size
        elif needed:
            del self.outputs[output]
            self.total -= size
        return needed == 1


class Outputs:
    """Long outputs of one miner's places. Methods may be called from any thread; most write the disk.

    Units of a place may have the same output: it is held until the last of them has let it go. A place that
    was let go and is taken on again has a new turn: units of an earlier one may still be about to end, in
    other threads, and what they have to keep or to drop is nobody's.

    Parameters
    ----------
    store
        Where they are; it is not closed.
    """

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._places: dict[int, _Held] = {}
        self._turn = 0
        self._lock = threading.Lock()

    def total(self, place: int) -> int:
        """Return how many bytes of outputs a place has here. Looks at no disk."""
        held = self._places.get(place)
        return 0 if held is None else held.total

    def begin(self, place: int) -> int:
        """Begin a place's next turn, with nothing that the place had; return the turn. Looks at no disk."""
        with self._lock:
            self._turn += 1
            self._places[place] = _Held(self._turn)
            return self._turn

    def keep(self, place: int, turn: int, output: BlobId, data: bytes) -> None:
        """Hold the output of one more unit, unless the turn is over.

        Raises
        ------
        BlobStoreError
            Where it cannot be kept.
        """
        with self._lock:
            held = self._of(place, turn)
            if held is None:
                return
            held.add(output, len(data))
        try:
            self._store.put(data, holder=_holder(place))
        except BaseException:
            self.drop(place, turn, output)
            raise
        with self._lock:
            now = self._places.get(place)
            if now is not held and (now is None or output not in now.outputs):
                # The turn has ended meanwhile.
                self._store.unpin(output, _holder(place))

    def drop(self, place: int, turn: int, output: BlobId) -> None:
        """Let go of the output of one unit, unless the turn is over."""
        with self._lock:
            held = self._of(place, turn)
            if held is not None and held.remove(output):
                # With the lock held: whoever puts the same output next pins it again.
                self._store.unpin(output, _holder(place))

    def resume(self, place: int, turn: int, outputs: Iterable[tuple[BlobId, int]]) -> None:
        """Hold the outputs of these results, each with its length, and nothing else that the place had."""
        held = _Held(turn)
        for output, size in outputs:
            held.add(output, size)
        with self._lock:
            self._places[place] = held
            # Under a second name meanwhile, so that none of them is free for a moment.
            now, meanwhile = _holder(place), f"next-{_holder(place)}"
            for pinned, released in ((meanwhile, now), (now, meanwhile)):
                for output in held.outputs:
                    with suppress(BlobMissing):
                        self._store.pin(output, pinned)
                self._store.release(released)

    def release(self, place: int) -> None:
        """Let go of everything of a place, and end its turn."""
        with self._lock:
            self._places.pop(place, None)
            self._store.release(_holder(place))

    def _of(self, place: int, turn: int) -> _Held | None:
        held = self._places.get(place)
        return held if held is not None and held.turn == turn else None


def _holder(place: int) -> str:
    return f"output/{place}"
