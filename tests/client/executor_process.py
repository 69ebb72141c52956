"""Scripts of a user, run as programs: ``python -m tests.client.executor_process TASK``."""

import sys
from concurrent.futures import Future
from typing import Any

from noria import LocalExecutor


def say(*words: object) -> None:
    # In one piece: threads of the pool say something, too.
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def forever() -> None:
    while True:
        pass


def double(number: int) -> int:
    print("this belongs to the log")
    return 2 * number


def waits(executor: LocalExecutor) -> None:
    """Wait for something that does not end, within the context."""
    with executor:
        futures = [executor.submit(forever) for _ in range(5)]
        quick = executor.map(double, range(3))
        while len(executor._pool.process_ids()) < 2:
            pass
        say(*executor._pool.process_ids())
        futures[0].result()
        say(*quick)


def waits_outside(executor: LocalExecutor) -> None:
    """The same without a context."""
    futures = [executor.submit(forever) for _ in range(5)]
    while len(executor._pool.process_ids()) < 2:
        pass
    say(*executor._pool.process_ids())
    futures[0].result()


def ends(executor: LocalExecutor) -> None:
    """End while calls wait."""

    def tell(future: Future[Any]) -> None:
        say(future.result())

    for number in range(5):
        executor.submit(double, number).add_done_callback(tell)
    executor.map(double, range(100, 140))


def late(executor: LocalExecutor) -> None:
    """Ask for more when the interpreter is about to end."""
    import atexit

    def more() -> None:
        try:
            executor.submit(double, 1)
        except RuntimeError as error:
            say(error)

    atexit.register(more)
    executor.submit(double, 1).result()
    executor.shutdown()


if __name__ == "__main__":
    tasks = {"waits": waits, "waits_outside": waits_outside, "ends": ends, "late": late}
    tasks[sys.argv[1]](LocalExecutor(2))
