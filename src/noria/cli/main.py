"""Entry point of ``noria``."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from noria.cli import (
    account,
    chain,
    config,
    dev,
    doctor,
    evm,
    job,
    mine,
    miner,
    network,
    node,
    price,
    program,
    receipt,
    run,
    runtime,
    send,
    wallet,
)
from noria.cli.errors import EXIT_FAILURE, EXIT_INTERRUPTED, describe, report
from noria.cli.help import examples

app = typer.Typer(
    name="noria",
    help="Noria: a blockchain whose blocks are earned by running other people's programs.",
    epilog=examples("noria dev", "noria doctor", "noria dev --help"),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
)
app.command("dev", epilog=dev.EXAMPLES)(dev.dev)
app.command("node", epilog=node.EXAMPLES)(node.node)
app.add_typer(network.app, name="network")
app.command("mine", epilog=mine.EXAMPLES)(mine.mine)
app.add_typer(miner.app, name="miner")
app.add_typer(chain.app, name="chain")
app.add_typer(config.app, name="config")
app.add_typer(account.app, name="account")
app.command("send", epilog=send.EXAMPLES)(send.send)
app.command("run", epilog=run.EXAMPLES)(run.run)
app.add_typer(job.app, name="job")
app.add_typer(program.app, name="program")
app.command("price", epilog=price.EXAMPLES)(price.price)
app.add_typer(wallet.app, name="wallet")
app.add_typer(receipt.app, name="receipt")
app.command("doctor", epilog=doctor.EXAMPLES)(doctor.doctor)
app.add_typer(evm.app, name="evm")
app.add_typer(runtime.app, name="runtime")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"noria {version('noria')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Noria: a blockchain whose blocks are earned by running other people's programs."""


def main() -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    try:
        outcome = app(args=arguments, prog_name="noria", standalone_mode=False)
        sys.stdout.flush()
    except Abort:
        print("error: aborted", file=sys.stderr)
        return EXIT_FAILURE
    except TyperException as error:
        print(f"error: {_usage(error)}", file=sys.stderr)
        return int(getattr(error, "exit_code", EXIT_FAILURE))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`noria … | head`): nothing more can or need be said to it.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - for the interpreter's own last flush
        return EXIT_FAILURE
    except Exception as error:
        report(error)
        return int(getattr(error, "exit_code", EXIT_FAILURE))
    return outcome if isinstance(outcome, int) else 0


def _usage(error: TyperException) -> str:
    formatted = getattr(error, "format_message", None)
    message = str(formatted()) if callable(formatted) else describe(error)
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "") or "noria"
    return f"{' '.join(message.split())} (see `{path} --help`)"


if __name__ == "__main__":
    main()
