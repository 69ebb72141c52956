"""``noria job run``: a script's function, or a program, on miners' machines, once for each input."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TextIO, TypeVar

import typer

from noria.cli.errors import BadArgument, CommandError, one_line
from noria.cli.help import examples
from noria.cli.node_access import NodeOption, money
from noria.cli.run_script import Answer

if TYPE_CHECKING:
    from noria.cli.run_map import Runner
    from noria.cli.units import Display
    from noria.client.executor_settings import JobOptions
    from noria.client.network_executor import Executor
    from noria.client.program_executor import ProgramExecutor
    from noria.market.requester.reasons import JobView
    from noria.work.ids import UnitId
    from noria.work.scripts import ScriptFunction

E = TypeVar("E", "Executor", "ProgramExecutor")

EXAMPLES: Final = examples(
    "noria job run script.py --map inputs.jsonl",
    "noria job run script.py --function simulate --map inputs.jsonl --output results.jsonl --budget '5 NOR'",
    "noria job run script.py --map - --confidence 0.999 --max-price '2 gwei' --receipts ./receipts",
    "noria job run program.wasm --input one.bin --input two.bin --output-dir results",
)
ROOM: Final = 512
"""Calls that wait or run at any time."""


def run(
    script: Annotated[
        Path, typer.Argument(help="A Python script, or a WebAssembly program (WASI command).", metavar="FILE")
    ],
    map_file: Annotated[
        str | None,
        typer.Option(
            "--map",
            "-m",
            metavar="FILE",
            help="Call the function once for each line of JSON: an array holds positional arguments, an "
            "object named ones, anything else is one argument. - is standard input.",
            show_default="one call without arguments",
        ),
    ] = None,
    function: Annotated[
        str, typer.Option("--function", "-f", metavar="NAME", help="Which function of the script to call.")
    ] = "main",
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE",
            help="What a program reads from stdin; - is our own. Several are several units.",
            show_default="nothing",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where the results go; without it, to standard output."
        ),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir",
            metavar="FOLDER",
            help="Where a program's outputs go, each in a file called like its input, with .out at its end.",
        ),
    ] = None,
    receipts: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep what proves each call there, for `noria receipt verify`."),
    ] = None,
    budget: Annotated[
        str, typer.Option(help="Most that all calls may cost; what is not used comes back.", metavar="AMOUNT")
    ] = "2 NOR",
    replicas: Annotated[
        int | None,
        typer.Option(min=1, max=8, help="Miners that run each call and must agree.", show_default="2"),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Least probability that a result is right: chooses replicas and own runs."
        ),
    ] = None,
    max_price: Annotated[
        str | None,
        typer.Option(
            help="Most that a miner may ask for a fuel.", metavar="AMOUNT", show_default="8 times the usual"
        ),
    ] = None,
    miners: Annotated[
        int | None, typer.Option(min=1, max=16, help="Miners to draw.", show_default="4, or replicas and 1")
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            min=1, help="Seconds from now after which anybody may end the job.", show_default="none"
        ),
    ] = None,
    fuel: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Most fuel for one call, like 2e9.",
            show_default="what wins miners blocks, then 1e12 for calls that need more",
        ),
    ] = None,
    node: NodeOption = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Tell costs at the end as one line of JSON on standard error.")
    ] = False,
) -> None:
    """Have miners call a script's function once for each line of input, or run a program once for each input.

    As `noria run script.py --map FILE` does on this machine, with the same results: each line of input gives
    one line of output, and with `--output` the same command goes on where it was interrupted. Each call runs
    on several miners, and its result counts if they agree. On a local network nothing need be set up.

    A program's outputs go where `noria run` would have them, its log and a line for each input to standard
    error. A program that the chain does not pin is brought to each miner.

    Ctrl-C ends the job: miners stop, and what is left of the budget comes back. `noria job explain` says why
    a job waits.

    **Exit codes**: 0 all is well; 1 it could not be done, or one of the lines or inputs failed; 2 the command
    line is wrong; 11 to 15 the only unit of a program did not end well, as with `noria run`; 130 interrupted.
    """
    from noria.cli.run import is_program, parse_fuel
    from noria.client.executor_settings import JobOptions
    from noria.market.requester.errors import BudgetSpent
    from noria.node.logs import configure_logging

    if confidence is not None and replicas is not None:
        raise BadArgument("--confidence chooses the replicas: leave out --replicas")
    limit = None if fuel is None else parse_fuel(fuel)
    wei = money(budget, "--budget")
    options = JobOptions(
        node=node,
        replicas=replicas,
        confidence=confidence,
        max_price=None if max_price is None else money(max_price, "--max-price"),
        miners=miners,
        deadline=deadline,
        fuel_limit=limit,
    )
    for_programs = is_program(script)
    _check_options(
        script,
        for_programs,
        [("--map", map_file is not None), ("--function", function != "main")],
        [("--input", bool(inputs)), ("--output-dir", output_dir is not None)],
    )
    if receipts is not None:
        receipts.mkdir(parents=True, exist_ok=True)
    # Standard output is for results; what matters to the user is told at the end.
    configure_logging("warning")
    warnings.showwarning = _tell
    views: list[JobView] = []
    try:
        if for_programs:
            _run_program(script, wei, options, inputs or [], output, output_dir, receipts, json_output, views)
        else:
            _run_script(script, wei, options, function, map_file, output, receipts, views)
    except BudgetSpent:
        again = "; it goes on where it stopped" if output is not None and not for_programs else ""
        raise CommandError(
            f"the budget of {budget} is used up: run the same command with a larger --budget{again}"
        ) from None
    finally:
        for view in views:
            print(json.dumps(costs(view)) if json_output else summary(view), file=sys.stderr)


def _check_options(
    target: Path, for_programs: bool, of_scripts: list[tuple[str, bool]], of_programs: list[tuple[str, bool]]
) -> None:
    kind, wrong = ("WebAssembly", of_scripts) if for_programs else ("a Python script", of_programs)
    for option, given in wrong:
        if given:
            other = "Python scripts" if for_programs else "WebAssembly programs"
            raise BadArgument(f"{option} is for {other}, and {target} is {kind}: leave it out")


def _run_script(
    script: Path,
    budget: int,
    options: JobOptions,
    function: str,
    map_file: str | None,
    output: Path | None,
    receipts: Path | None,
    views: list[JobView],
) -> None:
    from noria.cli.run_map import map_lines
    from noria.cli.run_script import read_function

    called = read_function(script, function)

    @contextmanager
    def opened() -> Iterator[Runner]:
        from noria.client.job_front import FUEL_LIMIT_LONG
        from noria.client.network_executor import Executor

        options["title"] = f"{script.name} {function}"[:100]
        with _ended(lambda: Executor(budget, progress=False, **options), views) as executor:
            limit = options.get("fuel_limit") or FUEL_LIMIT_LONG
            yield ExecutorRunner(executor, called, receipts, limit)

    map_lines(script.name, called, opened(), map_file, output)


def _run_program(
    program: Path,
    budget: int,
    options: JobOptions,
    inputs: list[str],
    output: Path | None,
    output_dir: Path | None,
    receipts: Path | None,
    as_json: bool,
    views: list[JobView],
) -> None:
    from noria.cli.job_program import run_inputs, tasks_of
    from noria.client.program_executor import ProgramExecutor

    tasks = tasks_of(inputs, output, output_dir)
    with _ended(lambda: ProgramExecutor(program, budget, progress=False, **options), views) as executor:
        run_inputs(executor, tasks, receipts, as_json=as_json)


@contextmanager
def _ended(make: Callable[[], E], views: list[JobView]) -> Iterator[E]:
    """Make an executor, end it in order, and keep what its job was."""
    from noria.client.local_network import NoNode

    try:
        executor = make()
    except ValueError as error:
        if isinstance(error, NoNode):
            raise
        raise BadArgument(f"--{str(error).replace('_', '-', 1)}") from None
    try:
        yield executor
    except BaseException:
        executor.shutdown(stop_running=True)
        raise
    else:
        executor.shutdown()
    finally:
        views.append(executor.job.view())


def _tell(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Tell a warning in one line: where in the code it arose says nothing to a user of a command."""
    print(f"warning: {one_line(str(message))}", file=sys.stderr)


class ExecutorRunner:
    """Runs calls on miners' machines.

    Parameters
    ----------
    executor
        Who finds them, checks and pays.
    called
        The function.
    receipts
        Folder for what proves the calls, if that is wanted.
    fuel
        Most fuel that a call may burn.
    """

    def __init__(self, executor: Executor, called: ScriptFunction, receipts: Path | None, fuel: int) -> None:
        from noria.market.requester.errors import NoAgreement, NoMachine, UnitRefused

        self._executor, self._called, self._receipts, self._fuel = executor, called, receipts, fuel
        self._names: dict[Future[Answer], str] = {}
        self.room = ROOM
        self.failures = (NoAgreement, NoMachine, UnitRefused)

    def name(self, archive: bytes) -> UnitId:
        """Return the name that the unit has with the highest limit: the one that `noria run` gives it."""
        from noria.work.ids import blob_id, unit_id

        return unit_id(self._executor.program, blob_id(archive), self._fuel)

    def start(self, archive: bytes) -> Future[Answer]:
        """Queue the unit."""
        from noria.cli.run_script import conclude

        future = self._executor.submit_archive(self._called.name, archive, conclude, self._called.part)
        self._names[future] = self.name(archive).hex()
        return future

    def report(self, answer: Answer, future: Future[Answer]) -> dict[str, Any]:
        """Say what is the same on every machine, and who ran it for what price."""
        from noria.cli.run_script import described
        from noria.client.network_futures import NetworkFuture
        from noria.primitives.addresses import checksum_address

        assert isinstance(future, NetworkFuture)
        receipt = future.receipt
        if self._receipts is not None:
            receipt.save(self._receipts / f"{receipt.unit_id.hex()}.json")
        return described(answer, future.fuel, self._names.pop(future)) | {
            "cost_wei": str(future.cost),
            "miners": [checksum_address(miner) for miner in receipt.miners],
        }

    def show(self, display: Display, done: int, note: str) -> None:
        """Show how far the job is."""
        view = self._executor.job.view()
        ready = sum(place.state == "ready" for place in view.places)
        stage = view.state if view.state != "running" else f"{ready} miners"
        display.update(done, note, stage)


def costs(view: JobView) -> dict[str, Any]:
    """Say in plain values what a job has cost."""
    return {
        "job": view.job,
        "state": view.state,
        "units": view.units,
        "done": view.done,
        "failed": view.failed,
        "fuel": view.fuel,
        "spent_wei": view.spent,
        "budget_wei": view.budget,
        "miners": [
            {"miner": place.miner, "units": place.done, "fuel": place.fuel, "earned_wei": place.earned}
            for place in view.places
        ],
    }


def summary(view: JobView) -> str:
    """Say in one line what a job has cost."""
    from noria.cli.mine_report import count_of, short_money
    from noria.market.requester.errors import OPENING_MAY_COME

    if view.job is None:
        is_opening = view.state == "opening"
        return OPENING_MAY_COME if is_opening else "no job was opened, and nothing was spent"
    worked = sum(place.done > 0 for place in view.places)
    return (
        f"job {view.job} is {view.state}: {count_of(view.done, 'unit')} by {count_of(worked, 'miner')}, "
        f"{view.fuel:,} fuel, {short_money(int(view.spent))} of {short_money(int(view.budget))} spent"
    )
