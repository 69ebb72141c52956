"""A network of real node processes with a market, its users' programs, and miners that lie."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from noria.client.leftovers import Leftover, close_leftovers
from noria.client.rpc_access import RpcAccess
from noria.client.wallet import Wallet, faucet, open_wallet
from noria.execution.spec import ChainSpec
from noria.market.contracts import Ended, JobState
from noria.market.requester.journal import JobJournal
from noria.node.devnet.layout import Network, NodeEntry
from noria.node.devnet.processes import kill_node, start_nodes, write_pid_file
from noria.primitives.types import Address, Wei
from tests.market.money import Money, check_money
from tests.node.networks import call, wait_for

SECONDS = 120.0
LONG_SECONDS = 300.0
"""Longest wait for anything."""


class Program:
    """A user's program that runs; it tells what happens line by line."""

    def __init__(self, user: User, task: dict[str, Any], node: NodeEntry) -> None:
        environment = {**os.environ, **user.environment, "NORIA_NODE": node.rpc_url}
        self.complaints = user.home / f"complaints-{time.monotonic_ns()}"
        self.told: list[dict[str, Any]] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        with self.complaints.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.market.client_process", json.dumps(task)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                process_group=0,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def until(
        self, what: str, check: Callable[[dict[str, Any]], bool], seconds: float = SECONDS
    ) -> dict[str, Any]:
        """Wait until it tells something."""
        end = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(
                    f"{what}: not told; last {self.told[-3:]}; {self.complaints.read_text()[-3000:]}"
                )
            self.told.append(json.loads(line))
            if check(self.told[-1]):
                return self.told[-1]

    def has_job(self) -> None:
        """Wait until its job is open."""
        self.until("a job is opened", lambda told: "job" in told)

    def reaches(self, state: str) -> None:
        """Wait until its job is in a state."""
        if all(told.get("state") != state for told in self.told):
            self.until(f"the job is {state}", lambda told: told.get("state") == state)

    def has_done(self, count: int) -> None:
        """Wait until so many calls have ended."""
        self.until(f"{count} calls are done", lambda told: told.get("done", 0) >= count)

    def finish(self, seconds: float = SECONDS) -> dict[str, Any]:
        """Wait for its end, which it comes to also if it holds its job; return what it told last."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        last = self.until("the program ends well", lambda told: "view" in told, seconds)
        assert self.process.wait(SECONDS) == 0, self.complaints.read_text()
        return last

    def interrupt(self) -> int:
        """Press Ctrl-C, and return how it ends."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(SECONDS)

    def kill(self) -> None:
        """End it without warning."""
        self.process.kill()
        self.process.wait()


class User:
    """Somebody with a wallet and a journal of jobs."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.home = home
        self.programs: list[Program] = []

    @property
    def environment(self) -> dict[str, str]:
        return {
            "NORIA_WALLET": str(self.home / "wallet"),
            "NORIA_JOBS": str(self.home / "jobs.sqlite"),
            "XDG_STATE_HOME": str(self.home / "state"),
        }

    @property
    def wallet(self) -> Wallet:
        return open_wallet(self.home / "wallet")

    def fund(self, node: NodeEntry, amount: int) -> int:
        """Give the user money; return the block that has it."""

        async def fund() -> int:
            async with RpcAccess(node.rpc_url) as access:
                return (await faucet(access, self.wallet.address, Wei(amount))).block_number

        return asyncio.run(fund())

    def start(self, node: NodeEntry, **task: Any) -> Program:
        self.programs.append(Program(self, task, node))
        return self.programs[-1]

    def journal(self) -> JobJournal:
        return JobJournal(self.home / "jobs.sqlite")

    def tidy(self, node: NodeEntry) -> list[Leftover]:
        """What the user's next program does about jobs that were left behind."""

        async def tidy() -> list[Leftover]:
            journal = self.journal()
            try:
                async with RpcAccess(node.rpc_url) as access:
                    return await close_leftovers(access, self.wallet, journal)
            finally:
                journal.close()

        return asyncio.run(tidy())


class Market:
    """A network, its users, and what they have paid."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.network, self.folder = network, folder
        self.spec = ChainSpec.from_json(network.spec.read_bytes())
        self.users: list[User] = []
        self.others: set[Address] = set()
        """Further accounts that have had money."""

    def user(self) -> User:
        self.users.append(User(self.folder / f"user-{len(self.users)}"))
        return self.users[-1]

    def money(self, node: NodeEntry | None = None) -> Money:
        """Add everything up."""
        wallets = {user.wallet.address for user in self.users if (user.home / "wallet").exists()}
        url = (node or self.network.nodes[0]).rpc_url
        return asyncio.run(check_money(url, self.spec, wallets | self.others))

    def wait_money(
        self,
        what: str,
        check: Callable[[Money], bool],
        node: NodeEntry | None = None,
        seconds: float = SECONDS,
    ) -> Money:
        """Wait until the chain is somewhere; all adds up at each look."""
        end = time.monotonic() + seconds
        while True:
            money = self.money(node)
            if check(money):
                return money
            assert time.monotonic() < end, f"{what}: not within {seconds:g} s; {summary(money)}"
            time.sleep(0.5)

    def job_of(self, user: User) -> int:
        """The number of a user's last job."""
        return self.money().jobs[user.wallet.address]

    def earned(self, job: int, nodes: list[NodeEntry] | None = None) -> int:
        """What miners say that a job's released receipts are worth, wei."""
        total = 0
        for node in nodes or self.network.nodes:
            for place in call(node, "noria_earnings", 1_000)["jobs"]:
                total += int(place["earnedWei"]) if place["job"] == job else 0
        return total

    def was_taken_back(self, job: int) -> bool:
        """Tell whether a reorganisation has drawn a job's miners anew, or has taken several blocks back.

        What was released at a place that is gone stays unpaid; and commits of a job that had been ended may
        come too late.
        """
        told = "".join(self.network.log(node).read_text() for node in self.network.nodes)
        drawn_anew = rf'"job": {job}, "k": \d+, "event": "place_taken_back"'
        return re.search(rf'{drawn_anew}|"depth": ([2-9]|\d\d)', told) is not None

    def start_liar(self, node: NodeEntry, lie: str) -> None:
        """Start a node whose miner lies; it is stopped like any other."""
        command = [
            sys.executable, "-m", "tests.market.liar_process", lie,
            "node", "--config", str(self.network.config(node)),
        ]  # fmt: skip
        log = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        pid = os.posix_spawn(
            sys.executable, command, os.environ, setsid=True,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.network.log(node)), log, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
        )  # fmt: skip
        write_pid_file(self.network.pid_file(node), pid)

    def restart(self, node: NodeEntry, *, lie: str | None = None) -> None:
        """Kill a node and start it again."""
        kill_node(self.network, node)
        if lie is None:
            start_nodes(self.network, [node])
        else:
            self.start_liar(node, lie)

    def answers(self, node: NodeEntry, peers: int) -> None:
        """Wait until a node is back among the others."""

        def back() -> bool:
            return bool(len(call(node, "noria_peers")) >= peers and call(node, "noria_market") is not None)

        wait_for(f"{node.name} is back", back, SECONDS)

    def are_level(self) -> None:
        """Wait until each node is among the others and has the blocks that the first one has now."""
        first, *rest = self.network.nodes
        for node in rest:
            self.answers(node, len(rest))
        height = int(call(first, "eth_blockNumber"), 16)
        for node in rest:
            wait_for(
                f"{node.name} has block {height}",
                partial(has_blocks, node, height),
                SECONDS,
            )


def summary(money: Money) -> str:
    """Return where all jobs stand, for people."""
    jobs = [
        f"job {job}: {state.name}, {money.put_in[job]} wei in, {money.committed[job]} committed, "
        f"{money.paid[job]} paid"
        for job, state in money.states.items()
    ]
    return f"block {money.block}: " + "; ".join(jobs)


def has_blocks(node: NodeEntry, count: int = 3) -> bool:
    return int(call(node, "eth_blockNumber"), 16) >= count


@contextmanager
def market_of(network: Network, folder: Path) -> Iterator[Market]:
    """A market on a network that runs; its users' programs are ended."""
    market = Market(network, folder)
    for node in network.nodes:
        wait_for(f"{node.name} has blocks", partial(has_blocks, node), SECONDS)
        market.answers(node, min(3, len(network.nodes) - 1))
    try:
        yield market
    finally:
        for user in market.users:
            for program in user.programs:
                if program.process.poll() is None:
                    program.kill()
                program._reader.join(5)
                for pipe in (program.process.stdin, program.process.stdout):
                    if pipe is not None:
                        pipe.close()


def all_end(market: Market, jobs: list[int]) -> Money:
    """Jobs are paid back, and everything that miners released for them was paid.

    What was released at a place that was drawn on a branch that is gone stays in the ledgers, unpaid.
    """
    node = market.network.nodes[0]

    def over(money: Money) -> bool:
        for user in market.users:
            if (user.home / "wallet").exists():
                user.tidy(node)
        return all(
            money.states[job] is JobState.ENDED and money.paid[job] == money.committed[job] for job in jobs
        )

    money = market.wait_money(f"jobs {jobs} are over", over, seconds=LONG_SECONDS)
    for job in jobs:
        assert len(money.of(Ended, job)) == 1
        earned = market.earned(job)
        assert earned == money.paid[job] or (earned > money.paid[job] and market.was_taken_back(job))
    return money
