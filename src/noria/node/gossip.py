"""Between a chain and its peers: what comes is judged before it goes on; what this node says goes out.

Protocol 8.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from noria.chain.chain_service import ChainService
from noria.chain.findings import Finding
from noria.chain.hearsay import Hearsay
from noria.consensus.validity import Accepted, Rejected
from noria.execution.rejections import RejectedTransaction
from noria.network.errors import TransportError
from noria.network.topics import Topics
from noria.network.transport import Message, TransportProtocol, Verdict
from noria.primitives.background import BackgroundTasks
from noria.primitives.line_budget import LineBudget
from noria.primitives.subscriptions import SubscriptionClosed

HEARD_MAX: Final = 32_768
"""Transactions of others that are remembered, so that they are not sent out again as one's own."""
FORGED: Final = frozenset(
    {"encoding", "signature", "chain-id", "blob-unsupported", "type-unsupported", "oversized"}
)
"""What nobody should have passed on; all else may be right for the sender's head."""
SENDING_MAX: Final = 1_024
"""Messages of one's own that are on their way out."""

_log = structlog.get_logger(__name__)


class Gossip:
    """Joins a chain to the topics of its network: it is the `noria.chain.hearsay.Mouth` of the chain.

    Parameters
    ----------
    transport
        The network.
    topics
        The chain's.
    chain, hearsay
        Who judges what comes.

    Attributes
    ----------
    counts
        Messages since the start, by topic and what was found of them.
    """

    def __init__(
        self, transport: TransportProtocol, topics: Topics, chain: ChainService, hearsay: Hearsay
    ) -> None:
        self._transport, self._topics = transport, topics
        self._chain, self._hearsay = chain, hearsay
        self._heard: OrderedDict[bytes, None] = OrderedDict()
        self._tasks = BackgroundTasks("gossip")
        self._lines = LineBudget()
        self.counts: Counter[tuple[str, str]] = Counter()

    def start(self) -> None:
        """Take part in the chain's topics."""
        topics, subscribe = self._topics, self._transport.subscribe
        self._hearsay.mouth = self
        subscribe(topics.blocks, self._judging(self._chain.judge))
        subscribe(topics.votes, self._judging(self._hearsay.judge_vote))
        subscribe(topics.evidence, self._judging(self._hearsay.judge_evidence))
        subscribe(topics.alarms, self._judging(self._hearsay.judge_alarm))
        subscribe(topics.transactions, self._transaction)
        self._tasks.spawn(self._own_transactions())

    async def stop(self) -> None:
        """Leave the topics."""
        topics = self._topics
        for topic in (topics.blocks, topics.votes, topics.evidence, topics.alarms, topics.transactions):
            try:
                self._transport.unsubscribe(topic)
            except TransportError as error:
                _log.info("topic_not_left", topic=topic, reason=str(error))
        await self._tasks.stop()

    # ------------------------------------------------------------ what comes

    def _judging(
        self, judge: Callable[[bytes, str], Awaitable[Finding]]
    ) -> Callable[[Message], Awaitable[Verdict]]:
        async def validator(message: Message) -> Verdict:
            finding = await judge(message.data, message.source)
            self.counts[message.topic, type(finding).__name__.lower()] += 1
            if isinstance(finding, Rejected):
                self._tell(message, finding.kind, finding.message)
            return verdict(finding)

        return validator

    async def _transaction(self, message: Message) -> Verdict:
        (outcome,) = await self._chain.execution.submit([message.data])
        if isinstance(outcome, RejectedTransaction):
            self.counts[message.topic, outcome.kind] += 1
            if outcome.kind not in FORGED:
                return Verdict.IGNORE
            self._tell(message, outcome.kind, outcome.message)
            return Verdict.REJECT
        self.counts[message.topic, "accepted"] += 1
        self._heard[outcome] = None
        while len(self._heard) > HEARD_MAX:
            self._heard.popitem(last=False)
        return Verdict.ACCEPT

    def _tell(self, message: Message, kind: str, reason: str) -> None:
        """Say what was wrong with a message; who is said to have signed it is in the reason."""
        left_out = self._lines.take(f"{message.topic} {kind}", asyncio.get_running_loop().time())
        if left_out is not None:
            _log.warning(
                "message_rejected",
                topic=message.topic,
                peer=message.source,
                kind=kind,
                reason=reason,
                left_out=left_out,
            )

    # ------------------------------------------------------------ what this node says

    def say_block(self, data: bytes) -> None:
        """Send a block with its input."""
        self._say(self._topics.blocks, data)

    def say_vote(self, data: bytes) -> None:
        """Send a vote."""
        self._say(self._topics.votes, data)

    def say_evidence(self, data: bytes) -> None:
        """Send one piece of evidence, in a list of one."""
        self._say(self._topics.evidence, data)

    def say_alarm(self, data: bytes) -> None:
        """Send an alarm."""
        self._say(self._topics.alarms, data)

    async def _own_transactions(self) -> None:
        while True:
            async with self._chain.execution.events.subscribe_pending() as pending:
                try:
                    async for event in pending:
                        # What came by gossip is marked as heard once it has been judged.
                        await asyncio.sleep(0)
                        for transaction in event.transactions:
                            if transaction.hash not in self._heard:
                                self._say(self._topics.transactions, transaction.raw)
                except SubscriptionClosed as closed:
                    if closed.reason != "slow-subscriber":
                        return
                    _log.warning("transactions_not_sent", reason=str(closed))
                else:
                    return

    def _say(self, topic: str, data: bytes) -> None:
        if len(self._tasks) >= SENDING_MAX:
            _log.warning("message_not_sent", topic=topic, reason="too many are on their way")
            return
        self._tasks.spawn(self._publish(topic, data))

    async def _publish(self, topic: str, data: bytes) -> None:
        try:
            heard = await self._transport.publish(topic, data)
            self.counts[topic, "sent" if heard else "unheard"] += 1
        except TransportError as error:
            _log.warning("message_not_sent", topic=topic, reason=str(error))


def verdict(finding: Finding) -> Verdict:
    """Say what a finding means for who sent the message, and whether it goes on."""
    if isinstance(finding, Accepted):
        return Verdict.ACCEPT
    return Verdict.REJECT if isinstance(finding, Rejected) else Verdict.IGNORE
