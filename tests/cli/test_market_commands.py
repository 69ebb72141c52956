"""The market's commands over a small network of real processes, as people use them."""

import hashlib
import json
import os
import re
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from examples.render import render
from noria.execution.parameters import DEVNET
from noria.node.devnet.processes import running
from tests.cli.command import LIMIT_SECONDS, NORIA, assert_one_line_error, file_with, noria, noria_here, rpc
from tests.cli.market_network import User, running_network
from tests.client.runtime import python_runtime
from tests.examples.test_render import SMALL_FUEL, SMALL_SHA256
from tests.work.modules import ECHO

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SCRIPT = """
def main(x):
    print("saw", x)
    if x == "bad":
        raise ValueError("not this")
    return x * x
"""
ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
WAIT_SECONDS = 90
POLL_SECONDS = 0.2
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    python_runtime()
    home = tmp_path_factory.mktemp("home")
    with running_network(home / "network") as network:
        user = User(network, home)
        end = time.monotonic() + WAIT_SECONDS
        while not has_block(network.nodes[0].rpc_url):
            assert time.monotonic() < end, [network.log(node).read_text()[-2000:] for node in network.nodes]
            time.sleep(POLL_SECONDS)
        yield user
        assert all(running(network, node) is not None for node in network.nodes)


def has_block(url: str) -> bool:
    try:
        return int(rpc(url, "eth_blockNumber"), 16) > 0
    except OSError:
        return False


@pytest.fixture
def run(user: User, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs commands of the user in this process, and keeps what they would change of it."""
    monkeypatch.setattr("noria.node.logs.configure_logging", lambda *_, **__: None)
    for name, value in user.environment.items():
        monkeypatch.setenv(name, value)

    def run_here(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            return noria_here(capsys, *arguments)

    return run_here


def told(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def test_a_wallet_is_made_filled_and_never_overwritten(run: Run) -> None:
    made = told(run("wallet", "address", "--json"))
    assert told(run("wallet", "balance", "--json"))["address"] == made["address"]
    before = int(told(run("wallet", "balance", "--json"))["wei"])
    given = told(run("wallet", "faucet", "--amount", "5 NOR", "--json"))
    assert int(given["wei"]) == before + 5 * 10**18
    assert run("wallet", "address").stdout.strip() == made["address"]
    assert_one_line_error(run("wallet", "new"), 1, "has a wallet already", made["address"])
    assert_one_line_error(run("wallet", "faucet", "--amount", "5"), 2, "--amount", "needs one of the units")
    assert_one_line_error(run("wallet", "faucet", "--amount", "99999999 NOR"), 1, "no development account")
    assert_one_line_error(run("wallet", "balance", "me"), 2, "ADDRESS")


def test_prices_are_the_registrys_and_the_miners_own(run: Run) -> None:
    found = told(run("price", "--json", "--fuel", "1e12", "--replicas", "2"))
    assert [miner["wei_per_fuel"] for miner in found["miners"]] == [found["floor"]["wei_per_fuel"]] * 2
    assert [(miner["workers"], miner["problem"]) for miner in found["miners"]] == [(1, "")] * 2
    assert found["cost"]["wei"] == str(2 * 10**12 * int(found["median"]["wei_per_fuel"]))
    table = run("price", "--no-ask").stdout
    assert len(ADDRESS.findall(table)) == 2
    assert "NOR per 10⁹ fuel" in table
    assert_one_line_error(run("price", "--fuel", "x"), 2, "whole number")


def test_programs_are_published_and_listed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "program.wasm"
    module.write_bytes(
        bytes.fromhex("0061736d0100000001040160000003020100070a01065f737461727400000a040102000b")
    )
    run("wallet", "faucet", "--amount", "1 NOR")
    made = told(run("program", "publish", module, "--royalty", "7 wei", "--note", "mine\x1b[2J", "--json"))
    assert (made["royalty_wei"], made["action"]) == ("7", "published")
    again = told(run("program", "publish", module, "--royalty", "8 wei", "--json"))
    assert again["action"] == "has a new royalty"
    rows = {row["program"]: row for row in told(run("program", "list", "--json"))["programs"]}
    assert rows[made["program"]]["royalty_wei"] == "8"
    assert sum(row["pinned"] for row in rows.values()) == 2
    listed = run("program", "list").stdout
    assert "8 wei per fuel" in listed
    assert "\x1b" not in listed
    runtime = python_runtime()
    assert_one_line_error(run("program", "publish", runtime.path), 1, "pinned by the chain")
    text = file_with(tmp_path / "text.wasm", "(module)")
    assert_one_line_error(run("program", "publish", text), 1, "refused by every miner")
    assert_one_line_error(run("program", "publish", module, "--note", "x" * 1025), 2, "1025 bytes")
    monkeypatch.setenv("NORIA_WALLET", str(tmp_path / "stranger"))
    assert_one_line_error(run("program", "publish", module), 1, "published by", "already")


def test_a_job_gives_what_this_machine_gives(user: User, run: Run, tmp_path: Path) -> None:
    script = file_with(tmp_path / "script.py", SCRIPT)
    lines = file_with(tmp_path / "in.jsonl", '1\n2\nno json\n[3]\n{"x": 4}\n"bad"\n')
    out, kept = tmp_path / "out.jsonl", tmp_path / "receipts"
    # In a process of its own: `job cancel` asks those that live to end their jobs themselves.
    arguments: list[str | Path] = ["--map", lines, "--output", out, "--receipts", kept]
    done = noria("job", "run", script, *arguments, environment=user.environment)
    assert_one_line_error(done, 1, "2 of 6 lines failed")
    assert done.stdout == ""
    assert "job 1 is" in done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    here = run("run", script, "--map", lines, "--output", tmp_path / "here.jsonl")
    assert here.returncode == 1
    own = [json.loads(line) for line in (tmp_path / "here.jsonl").read_text().splitlines()]
    assert [{name: row.get(name) for name in ("line", "result", "error", "unit", "log")} for row in rows] == [
        {name: row.get(name) for name in ("line", "result", "error", "unit", "log")} for row in own
    ]
    assert all(len(row["miners"]) == 2 and int(row["cost_wei"]) > 0 for row in rows if "fuel" in row)
    # It goes on where it stopped: nothing is left to do, and no job is opened.
    again = run("job", "run", script, "--map", lines, "--output", out)
    assert "no job was opened" in again.stderr
    assert "6 done before" in again.stderr

    receipts = sorted(kept.iterdir())
    assert len(receipts) == 5
    checked = run("receipt", "verify", *receipts)
    assert checked.returncode == 0, checked
    assert checked.stdout.count(": holds") == 5

    [job] = told(run("job", "list", "--json"))["jobs"]
    assert (job["job"], job["units"], job["done"]) == (1, 5, 5)
    assert job["state"] in ("closing", "closed")
    shown = told(run("job", "show", "1", "--json"))
    assert shown["chain"]["state"] in ("closing", "ended")
    assert sum(place["units"] for place in shown["places"]) == 10
    assert "saw bad" in run("job", "logs").stdout
    assert len(run("job", "receipts").stdout.splitlines()) == 10
    assert "Job 1 is" in run("job", "explain").stdout
    ended = run("job", "cancel")
    assert ended.returncode == 0, ended
    assert told(run("job", "show", "--json"))["chain"]["state"] == "ended"


def test_a_program_runs_on_miners_as_it_does_here(user: User, run: Run, tmp_path: Path) -> None:
    program = tmp_path / "echo.wasm"
    program.write_bytes(ECHO)
    one, two = file_with(tmp_path / "one", "to be"), file_with(tmp_path / "two", "or not to be")
    told(run("program", "publish", program, "--royalty", "5000 wei", "--json"))
    priced = told(run("price", "--no-ask", "--json", "--fuel", "1e12", "--program", program))
    assert priced["royalty_wei"] == "5000"
    assert int(priced["cost"]["wei"]) == 2 * 10**12 * (5000 + int(priced["median"]["wei_per_fuel"]))
    results, kept = tmp_path / "results", tmp_path / "kept"
    options: list[str | Path] = ["--output-dir", results, "--receipts", kept, "--json"]
    done = run("job", "run", program, "-i", one, "-i", two, *options)
    assert done.returncode == 0, done
    assert "does not pin program echo.wasm" in done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    here = told(run("run", program, "--input", one, "--fuel", str(DEVNET.unit_fuel_max), "--json"))
    shared = ("status", "ending", "fuel", "unit", "output_id", "log")
    assert [rows[0][name] for name in shared] == [here[name] for name in shared]
    assert [(results / f"{name}.out").read_text() for name in ("one", "two")] == ["to be", "or not to be"]
    price = 5000 + int(priced["median"]["wei_per_fuel"])
    assert [int(row["cost_wei"]) for row in rows] == [2 * row["fuel"] * price for row in rows]
    assert run("receipt", "verify", *sorted(kept.iterdir())).stdout.count(": holds") == 2
    program.write_bytes(ECHO[:-7])
    assert_one_line_error(run("job", "run", program, "-i", one), 1, "invalid module")


def test_the_path_tracer_renders_on_miners(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.png"
    options = ["--width", "64", "--height", "36", "--samples", "4", "--output", str(path)]
    # Its program is pinned: no warning, whose kinds are errors here.
    render.main(options)
    assert f"{SMALL_FUEL:,} fuel" in capsys.readouterr().out
    with Image.open(path) as image:
        assert hashlib.sha256(image.tobytes()).hexdigest() == SMALL_SHA256


def test_a_job_that_nobody_takes_is_explained_and_ended(user: User, run: Run, tmp_path: Path) -> None:
    script = file_with(tmp_path / "script.py", SCRIPT)
    lines = file_with(tmp_path / "in.jsonl", "1\n")
    with command(user, "job", "run", script, "--map", lines, "--max-price", "1 wei") as process:
        end = time.monotonic() + WAIT_SECONDS
        reasons: list[str] = []
        while "no-miner" not in reasons:
            assert time.monotonic() < end, reasons
            time.sleep(POLL_SECONDS)
            # There is no job at all until the command has opened its own.
            explained = run("job", "explain", "--json")
            reasons = [] if explained.returncode else [each["name"] for each in told(explained)["reasons"]]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 130, (out, err)
    assert "interrupted: 0 lines done" in err
    assert told(run("job", "list", "--json"))["jobs"][0]["state"] == "closed"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--budget", "1000000 NOR"], 1, "send it money"),
        (["--budget", "0 NOR"], 2, "above 0"),
        (["--budget", "1 wei"], 1, "used up: run the same command with a larger --budget"),
        (["--node", "http://127.0.0.1:1"], 1, "no node answers"),
        (["--node", "/nowhere"], 1, "neither a URL"),
    ],
)
def test_what_cannot_be_ordered(
    run: Run, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    script = file_with(tmp_path / "script.py", SCRIPT)
    lines = file_with(tmp_path / "in.jsonl", "1\n2\n")
    assert_one_line_error(run("job", "run", script, "--map", lines, *arguments), code, words)


def test_mining_with_one_command_and_as_the_same_miner_again(user: User, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "miner"
    options: list[str | Path] = ["--dir", folder, "--network", user.network.folder, "--cores", "1", "--json"]
    with command(user, "mine", *options) as process:
        events = events_until(process, "registered")
        address = events[0]["address"]
        assert events[0]["new"] is True
        assert [event["event"] for event in events] == [
            "miner", "network", "node", *waits(events), "synced", "faucet", "sending", "registered",
        ]  # fmt: skip
        assert_one_line_error(run("mine", *options), 1, "is mined in by process")
        ledger = told(run("miner", "earnings", "--dir", folder, "--json"))
        assert (ledger["totals"]["paidWei"], ledger["jobs"]) == ("0", [])
        assert address in run("price", "--no-ask").stdout
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 0, err
    assert json.loads(rest.splitlines()[-1])["event"] == "ended"
    assert_one_line_error(run("miner", "earnings", "--dir", folder), 2, "no miner runs in")

    # Without saying which network: the folder knows, though none is in sight.
    with command(user, "mine", "--dir", folder, "--ask", "2 gwei", "--json") as process:
        # Terms change once an epoch, and perhaps it has registered in this one.
        events = events_until(process, "terms")
        assert (events[0]["address"], events[0]["new"]) == (address, False)
        assert events[-1]["ask_price_wei"] == str(2 * 10**9)
        names = [event["event"] for event in events]
        assert "registered" in names or events_until(process, "registered")
        assert "faucet" not in names
        left = told(run("miner", "exit", "--dir", folder, "--json"))
        assert (left["address"], left["paid_out"]) == (address, False)
        assert left["unbonding_wei"] == str(DEVNET.bond_min_wei)
        assert "can be withdrawn from epoch" in left["text"]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--budget", "much"], 2, "--budget"),
        (["--fuel", "-1"], 2, "--fuel"),
        (["--max-price", "1"], 2, "--max-price"),
        (["--function", "nothing"], 1, "no function 'nothing'"),
        (["--confidence", "0.9", "--replicas", "2"], 2, "leave out --replicas"),
    ],
)
def test_what_is_no_job(run: Run, tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    script = file_with(tmp_path / "script.py", SCRIPT)
    assert_one_line_error(run("job", "run", script, *arguments), code, words)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--ask", "1"], 2, "--ask"),
        (["--capacity", "much"], 2, "--capacity"),
        (["--capacity", "8e28"], 2, "from 1 to 79228162514264337593543950335"),
        (["--listen", "here"], 2, "--listen"),
        (["--bootstrap", "/ip4/127.0.0.1/tcp/1"], 2, "leave out --spec and --bootstrap"),
    ],
)
def test_what_no_miner_can_be(
    user: User, run: Run, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    done = run("mine", "--dir", tmp_path / "miner", "--network", user.network.folder, *arguments)
    assert_one_line_error(done, code, words)


def test_what_a_bond_does_not_cover(user: User, tmp_path: Path) -> None:
    cases = [(["--capacity", "1e18"], "needs a bond of"), (["--bond", "1 NOR"], "below this chain's least")]
    with ExitStack() as stack:
        # Each has a node to start: both at once.
        processes = [
            stack.enter_context(
                command(user, "mine", "--dir", tmp_path / words, "--network", user.network.folder, *arguments)
            )
            for arguments, words in cases
        ]
        for process, (arguments, words) in zip(processes, cases, strict=True):
            out, err = process.communicate(timeout=LIMIT_SECONDS)
            done = subprocess.CompletedProcess(arguments, process.returncode, out, err)
            assert_one_line_error(done, 2, words)


def test_where_there_is_no_network_that_is_said(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_one_line_error(run("mine", "--dir", tmp_path / "m"), 1, "no network runs on this machine")
    assert_one_line_error(run("mine", "--dir", tmp_path / "m", "--network", tmp_path), 1, "holds no network")
    assert_one_line_error(run("miner", "exit", "--dir", tmp_path / "none"), 2, "holds no miner")


# ---------------------------------------------------------------- processes


def waits(events: list[dict[str, Any]]) -> list[str]:
    """What was waited for before the node was where its peers are; that depends on the moment."""
    return [event["event"] for event in events if event["event"] in ("genesis", "peers", "sync")]


@contextmanager
def command(user: User, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*NORIA, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **user.environment},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def events_until(process: subprocess.Popen[str], last: str) -> list[dict[str, Any]]:
    assert process.stdout is not None
    # Reading waits without a limit of its own; a process that hangs is ended, which ends the reading.
    watchdog = threading.Timer(WAIT_SECONDS, process.kill)
    watchdog.start()
    events: list[dict[str, Any]] = []
    try:
        for line in process.stdout:
            events.append(json.loads(line))
            if events[-1]["event"] == last:
                return events
    finally:
        watchdog.cancel()
    raise AssertionError(f"{last} did not come: {events}, {process.communicate()}")
