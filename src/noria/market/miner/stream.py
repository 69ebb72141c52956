"""The work protocol, answered: what a requester says about its places, and what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from noria.market.access import ChainAccessError
from noria.market.contracts import JobState
from noria.market.messages import (
    PIECE_BYTES_MAX,
    VERSION,
    Allow,
    Ask,
    BlobPart,
    Collect,
    Hello,
    MalformedWorkMessage,
    Order,
    Ordered,
    Piece,
    Put,
    Quote,
    Read,
    Refused,
    Stored,
    Unit,
    Welcome,
    WorkAnswer,
    decode_request,
    encode_message,
)
from noria.market.miner import admission
from noria.market.miner import entries as book
from noria.market.miner.admission import Declined
from noria.market.miner.deliveries import Deliveries
from noria.market.miner.journal import Journal, JournalError
from noria.market.miner.places import Live, Places
from noria.market.miner.session import UNRELEASED_MAX, WINDOW, Session
from noria.market.miner.terms import MarketChain, mark_of
from noria.market.miner.units import Signing
from noria.market.typed_data import Domain
from noria.network.peers import PeerId
from noria.network.transport import Request, TransportProtocol
from noria.primitives.types import Hash32
from noria.work.blob_errors import BlobStoreError
from noria.work.ids import BlobId, ProgramId

HELLOS_MAX: Final = 16
"""Hellos that are looked at at once: they are what a stranger can cause."""
AGAIN_SECONDS: Final = 2.0
"""After which what was told and not taken is told again."""
GATHER_SECONDS: Final = 0.004
"""How long further results are waited for where answers follow each other closely."""
MALFORMED: Final = -5.0
"""What a message that is none costs its sender."""


class WorkStream:
    """Answers requests of the work protocol; `answer` is the transport's handler.

    Parameters
    ----------
    chain
        The market's contracts.
    transport
        Told of peers that send what is no message.
    places, deliveries, journal
        What requests are about.
    signing, domain
        Who this miner is, on which chain.
    clock
        Unix seconds.

    Attributes
    ----------
    ask_price
        What this miner asks, wei per fuel; None where it is not registered.
    """

    def __init__(
        self,
        chain: MarketChain,
        transport: TransportProtocol,
        places: Places,
        deliveries: Deliveries,
        journal: Journal,
        *,
        signing: Signing,
        domain: Domain,
        clock: Callable[[], float],
    ) -> None:
        self._chain, self._transport, self._places = chain, transport, places
        self._deliveries, self._journal = deliveries, journal
        self._signing, self._domain, self._clock = signing, domain, clock
        self._hellos = asyncio.Semaphore(HELLOS_MAX)
        self._greeting = asyncio.Lock()
        self._stopped = False
        self.ask_price: int | None = None

    async def stop(self) -> None:
        """Answer nothing more."""
        self._stopped = True

    # ------------------------------------------------------------ requests

    async def answer(self, request: Request) -> bytes:
        """Answer one request of a peer.

        Raises
        ------
        Declined
            Where it is refused; the message begins with the reason's name.
        """
        if self._stopped:
            raise Declined("not-mining", "this miner stops")
        try:
            message = decode_request(request.data)
        except MalformedWorkMessage as error:
            self._transport.score(request.peer, MALFORMED, "a malformed work message")
            raise Declined("malformed", str(error)) from None
        try:
            match message:
                case Ask():
                    answer: WorkAnswer = self._quote()
                case Hello():
                    answer = await self._hello(message, request.peer)
                case Put():
                    live = self._spoken_for(request.peer, message.job, message.k)
                    answer = await self._put(message, live)
                case Order():
                    live = self._spoken_for(request.peer, message.job, message.k)
                    answer = await self._order(message, live)
                case Collect():
                    live = self._spoken_for(request.peer, message.job, message.k)
                    answer = await self._collect(message, live)
                case Read():
                    live = self._spoken_for(request.peer, message.job, message.k)
                    answer = await self._read(message, live)
        except ChainAccessError as error:
            raise Declined("busy", f"this node's chain cannot be asked: {error}") from None
        except JournalError as error:
            self._places.fail(error)
            raise Declined("busy", "this miner cannot write its journal") from None
        return encode_message(answer)

    async def _put(self, put: Put, live: Live) -> Stored:
        record = live.session.record
        if put.kind == "program" and put.blob != record.program:
            raise Declined("malformed", f"job {record.job}'s program is another one: {record.program.hex()}")
        return await self._deliveries.put(record.id, put, self._places.programs())

    def _quote(self) -> Quote:
        return Quote(
            version=VERSION,
            miner=self._signing.key.address,
            ask_price=str(self.ask_price or 0),
            workers=self._places.shop.workers,
            running=self._places.shop.running,
            queued=self._places.shop.queued,
        )

    def _spoken_for(self, peer: PeerId, job: int, k: int) -> Live:
        live = self._places.at(job, k)
        if live is None or live.session.peer != peer:
            raise Declined("no-session", f"say hello for place {k} of job {job} first")
        if not live.session.is_here:
            raise Declined("unknown-job", f"job {job} is not on this node's chain at present")
        if live.settler.finished:
            raise Declined("closed", f"job {job} is over")
        if self._places.problem:
            raise Declined("busy", self._places.problem)
        return live

    async def _hello(self, hello: Hello, peer: PeerId) -> Welcome:
        admission.check_version(hello)
        if self._hellos.locked():
            raise Declined("busy", "too many say hello at once")
        async with self._hellos, self._greeting:
            job = await self._chain.job(hello.job)
            found = None if job is None else await self._chain.place(hello.job, hello.k)
            place = admission.check_place(job, found, self._signing.key.address, hello.job, hello.k)
            assert job is not None
            admission.check_hello(self._domain, job, hello, peer)
            live = self._places.at(hello.job, hello.k)
            if live is None or live.session.record.mark != mark_of(job, place):
                admission.check_running(job, int(self._clock()))
                live = await self._places.admit(Hash32(hello.program), job, place)
            elif job.state is JobState.ENDED or live.settler.finished:
                raise Declined("closed", f"job {hello.job} is over")
        session = live.session
        session.is_here, session.job, session.place = True, job, place
        session.greet(peer)
        return Welcome(
            version=VERSION,
            miner=self._signing.key.address,
            workers=self._places.shop.workers,
            window=WINDOW,
            next_index=session.record.next_index,
            earned=str(session.told_earned),
            committed=str(session.place.committed),
            known=session.known(),
        )

    # ------------------------------------------------------------ orders

    async def _order(self, order: Order, live: Live) -> Ordered:
        session = live.session
        self._raise_allow(live, order.allow)
        if order.units:
            session.flush = False
        refused = await self._check_program(session, order.units)
        if not refused:
            sizes = await self._sizes(session.record.id, order.units)
            for unit in order.units:
                found = admission.check_blobs(unit, sizes) or session.order(unit)
                if found is not None:
                    refused.append(found)
        self._places.release(session)
        self._places.shop.fill()
        return Ordered(refused)

    async def _check_program(self, session: Session, units: Sequence[Unit]) -> list[Refused]:
        program = ProgramId(Hash32(session.record.program))
        problem = self._deliveries.refused(program)
        if not problem and await asyncio.to_thread(self._deliveries.program, program) is None:
            problem = "its module is not here: put it first"
        if not problem:
            return []
        return [Refused(unit.number, "program", problem[:500]) for unit in units]

    async def _sizes(self, place: int, units: Sequence[Unit]) -> dict[bytes, int]:
        """Return how long the blobs are that are here; they are held for the place."""
        wanted = {part.blob for unit in units for part in unit.parts if isinstance(part, BlobPart)}
        found = {blob: await self._deliveries.hold(place, blob) for blob in wanted}
        return {blob: size for blob, size in found.items() if size is not None}

    def _raise_allow(self, live: Live, allow: Allow | None) -> None:
        if allow is None:
            return
        session = live.session
        held = admission.check_allow(self._domain, session.job, session.record.k, allow, session.allow)
        if held is None:
            return
        record = session.record
        record.allow_total, record.allow_signature = held.total, held.signature
        # Receipts that rely on it are written after it.
        self._journal.write_soon(book.keep_allow(record.id, held.total, held.signature))

    # ------------------------------------------------------------ results

    async def _collect(self, collect: Collect, live: Live) -> WorkAnswer:
        session = live.session
        self._raise_allow(live, collect.allow)
        if indices := session.take(collect.taken):
            self._journal.write_soon(*(book.take(session.record.id, index) for index in indices))
        session.open(collect.open)
        for unit in session.cancel(collect.cancel):
            self._places.shop.stop(unit)
        self._places.release(session)
        self._places.shop.fill()
        if collect.approvals and await live.settler.approve(collect.approvals):
            live.wake.set()
        if collect.flush:
            session.flush = True
            live.wake.set()
        is_latest = await session.wait_for_news(collect.wait_milliseconds / 1000, AGAIN_SECONDS)
        if not is_latest:
            return session.collected(empty=True)
        loop = asyncio.get_running_loop()
        if collect.wait_milliseconds and loop.time() - live.answered_seconds < 2 * GATHER_SECONDS:
            await asyncio.sleep(GATHER_SECONDS)
        live.answered_seconds = loop.time()
        session.note = self._note(session)
        return session.collected()

    def _note(self, session: Session) -> str:
        if session.results:
            return ""
        if session.running:
            return self._places.shop.note()
        if session.queued and session.abandoned >= UNRELEASED_MAX:
            return (
                f"{session.abandoned} units were taken back after they had begun: others wait for some time"
            )
        return ""

    async def _read(self, read: Read, live: Live) -> Piece:
        untaken = live.session.results.get(read.number)
        if untaken is None:
            raise Declined("malformed", f"unit {read.number} has no result here that is not taken")
        result = untaken.result
        output = result.output
        if output is None:
            try:
                output = await self._deliveries.output(BlobId(Hash32(result.output_id)))
            except BlobStoreError as error:
                raise Declined("busy", f"the output cannot be read: {type(error).__name__}") from None
        return Piece(output[read.offset : read.offset + PIECE_BYTES_MAX])
