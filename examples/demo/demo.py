"""The main job from beginning to end, on this machine: work, results, money, and a block earned by that work.

    python -m examples.demo.demo --output build/noria.png

Starts a network of four miners, each a process with its own keys and store; lets a separate process render a
picture on them; waits until the chain has paid, and until a block that shows a unit of this very job is
final; and runs that unit again. Ends with an error if any of that does not happen in time.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console

from examples.where import stop_on_errors
from noria.cli.endpoint import Endpoint
from noria.market.contract_events import PAID_TOPIC, job_topic
from noria.primitives.amounts import format_amount

NODES: Final = 4
UNITS_OF_GENESIS: Final = 8
"""Units that each miner runs before the chain begins: some, so that its first blocks show work too."""
PAID_SECONDS: Final = 90.0
BLOCK_SECONDS: Final = 180.0
POLL_SECONDS: Final = 0.5

console = Console(highlight=False, soft_wrap=True)


class DemoFailed(Exception):
    """What was promised did not happen; the message says what."""


def heading(text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")


def noria(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as anybody would; what it says goes to the terminal."""
    return subprocess.run([sys.executable, "-m", "noria.cli.main", *arguments], check=True, text=True)


def wait_for(what: Callable[[], str], found: Callable[[], Any], limit_seconds: float) -> Any:
    """Ask again and again until there is something; say meanwhile what is waited for."""
    end = time.monotonic() + limit_seconds
    said = ""
    with console.status("") as status:
        while True:
            result = found()
            if result is not None:
                return result
            words = what()
            status.update(words)
            if not console.is_terminal and words != said:
                console.print(words)
            said = words
            if time.monotonic() > end:
                raise DemoFailed(f"after {limit_seconds:.0f} s: {words}")
            time.sleep(POLL_SECONDS)


class Watch:
    """What the chain says of one job."""

    def __init__(self, node: Endpoint, job: int) -> None:
        self.node, self.job = node, job
        self._height = 0

    def paid(self) -> int:
        """Return the wei that the chain has paid for the job's batches."""
        topics = ["0x" + PAID_TOPIC.hex(), "0x" + job_topic(self.job).hex()]
        found = self.node.call(
            "eth_getLogs", {"fromBlock": "earliest", "toBlock": "latest", "topics": topics}
        )
        # A batch's price is the last word of what is logged.
        return sum(int(log["data"][-64:], 16) for log in found)

    def first_block(self) -> dict[str, Any] | None:
        """Return the first block whose certificate is a unit of the job."""
        head = self.node.call("noria_status")["headHeight"]
        while self._height < head:
            self._height += 1
            found = self.node.call("noria_getCertificate", hex(self._height))
            certificate = found["certificate"]
            if certificate is not None and int(certificate["receipt"]["job"]) == self.job:
                return {"height": self._height, **found}
        return None


def show_report(report: dict[str, Any], output: Path) -> None:
    """Print what was done, by whom, for how much, and what speaks for its being right."""
    console.print(f"job {report['job']}  {'miner':<42} {'units':>5} {'fuel':>15}  earned")
    for row in report["miners"]:
        earned = format_amount(int(row["wei"]))
        console.print(f"       {row['miner']} {row['units']:>5,} {row['fuel']:>15,}  {earned}")
    console.print(f"picture     {output}")
    console.print(f"cost        {format_amount(int(report['spent_wei']))}; what is left comes back")
    console.print(
        f"verified    {report['agreed']:,} of {report['units']:,} tiles came sealed from two drawn miners"
        f" each and agree; {report['own']:,} of them this machine rendered again"
    )


def run(folder: Path, output: Path) -> None:
    began = time.monotonic()
    heading(f"A network of {NODES} miners, each a process of its own")
    up = ("network", "up", "--nodes", str(NODES), "--units", str(UNITS_OF_GENESIS), "--dir", str(folder))
    noria(*up, "--until", "blocks")
    node = Endpoint(_first_node(folder))

    heading("A job: a picture, rendered in tiles by drawn miners")
    report_file, receipt = folder / "report.json", output.with_suffix(".receipt.json")
    client = (
        "--node",
        str(folder),
        "--output",
        str(output),
        "--report",
        str(report_file),
        "--receipt",
        str(receipt),
    )
    subprocess.run([sys.executable, "-m", "examples.demo.client", *client], check=True)
    report = msgspec.json.decode(report_file.read_bytes())
    show_report(report, output)

    heading("One tile's receipt, checked without any node")
    noria("receipt", "verify", str(receipt))

    heading("The chain pays")
    watch = Watch(node, report["job"])
    spent = int(report["spent_wei"])
    wait_for(
        lambda: f"paid so far: {format_amount(watch.paid())} of {format_amount(spent)}",
        lambda: True if watch.paid() == spent else None,
        PAID_SECONDS,
    )
    console.print(f"all {format_amount(spent)} are paid, {spent} wei to the last one")

    heading("A block earned by this job")
    block = wait_for(
        lambda: (
            f"block {watch._height}: paid work counts from the second epoch after its credit on;"
            f" it is epoch {node.call('noria_epoch')}"
        ),
        watch.first_block,
        BLOCK_SECONDS,
    )
    certificate = block["certificate"]["receipt"]
    console.print(
        f"block {block['height']} of {block['proposer']} shows"
        f" unit {certificate['unit']} of job {report['job']}"
    )
    wait_for(
        lambda: f"not final yet: epoch {node.call('noria_finality')['finalised']['epoch']} is",
        lambda: node.call("noria_getBlock", hex(block["height"]))["final"] or None,
        BLOCK_SECONDS,
    )
    if (
        int(node.call("noria_getCertificate", hex(block["height"]))["certificate"]["receipt"]["job"])
        != report["job"]
    ):
        raise DemoFailed(f"block {block['height']} has been replaced by another: run the demonstration again")
    console.print("it is final; here is its work, run again:")
    noria("chain", "verify", "--dir", str(folder), "--block", str(block["height"]))
    console.print(f"\nAll of it took {time.monotonic() - began:.0f} s. The picture is {output}.")


def _first_node(folder: Path) -> str:
    network = msgspec.json.decode((folder / "network.json").read_bytes())
    return f"http://127.0.0.1:{network['nodes'][0]['rpc_port']}"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=Path("noria.png"))
    parser.add_argument("--dir", type=Path, default=Path("demo-network"), help="folder for the network")
    parser.add_argument("--keep", action="store_true", help="leave the network running")
    chosen = parser.parse_args(arguments)
    if (chosen.dir / "network.json").exists():
        noria("network", "down", "--dir", str(chosen.dir), "--remove")
    elif chosen.dir.exists():
        shutil.rmtree(chosen.dir)
    try:
        run(chosen.dir, chosen.output)
    finally:
        if not chosen.keep and (chosen.dir / "network.json").exists():
            noria("network", "down", "--dir", str(chosen.dir))


if __name__ == "__main__":
    with stop_on_errors(DemoFailed, subprocess.CalledProcessError):
        main(sys.argv[1:])
