"""Functions of every kind, captured here and called in a plain interpreter elsewhere."""

import ast
import collections
import contextlib
import functools
import itertools
import json
import logging
import math
import operator
import os.path
import random
import re
import string
import types
import xml.etree.ElementTree
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import lru_cache, partial, reduce
from random import randint
from typing import Any

import pytest

from noria.work.functions import capture
from tests.work.functions_project import shapes, units
from tests.work.functions_project.pkg import deep
from tests.work.functions_project.shapes import Colour, Pair, Point, Size, Stack
from tests.work.functions_project.units import is_even
from tests.work.guest_process import Guest, install

LIMIT = 3
OPERATIONS = {"add": operator.add, "twice": lambda x: 2 * x, "neg": operator.neg, "mine": units.scaled}
WORD = re.compile(r"(\w)\w*", re.IGNORECASE)
LOG = logging.getLogger("here")
GENERATOR = random.Random(7)
FIRST = operator.itemgetter(0)
BOUND = ", ".join
ALIAS = units.scaled
counter = 0


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Guest:
    return install(tmp_path_factory.mktemp("guest"))


def plain(a: int, b: int = 2, *rest: int, c: int, d: int = 4, **more: int) -> tuple[object, ...]:
    return (a, b, rest, c, d, more)


def default_of(values: tuple[int, ...] = tuple(range(LIMIT)), *, names: dict[str, int] = {"a": 1}) -> object:  # noqa: B006
    return values, names


def uses_constants() -> object:
    return LIMIT, ALIAS(1), string.digits, math.tau


def uses_modules() -> object:
    root = xml.etree.ElementTree.fromstring("<a><b/></a>")
    return json.dumps({"tag": root[0].tag}), os.path.normpath("a//b"), collections.OrderedDict(a=1)


def uses_names_from_modules() -> object:
    return (
        Counter("aab"),
        reduce(operator.add, [1, 2, 3]),
        list(deque([1, 2], 1)),
        date(2024, 1, 31) + timedelta(1),
    )


def uses_siblings() -> object:
    return units.scaled(LIMIT), units.TABLE, is_even(10), deep.spoken(), deep.lately()


def imports_inside() -> object:
    import statistics
    from fractions import Fraction as F

    import tests.work.functions_project.units as u
    from tests.work.functions_project.pkg.other import answer

    return statistics.mean([F(1, 2), F(1, 3)]), u.scaled(1), answer()


def imports_if_it_can() -> object:
    try:
        import no_such_package  # type: ignore[import-not-found]
    except ImportError:
        return "without"
    return no_such_package


def factorial(n: int) -> int:
    return 1 if n < 2 else n * factorial(n - 1)


def counts_up() -> int:
    global counter
    counter += 1
    return counter


def looks_up(name: str, *values: Any) -> object:
    return OPERATIONS[name](*values)  # type: ignore[operator]


def prints(x: object) -> None:
    print("seen", x)
    LOG.warning("careful with %s", x)


def searches(text: str) -> object:
    return WORD.findall(text), FIRST([4]), BOUND(["a", "b"])


def draws() -> object:
    return GENERATOR.random()


def nested(n: int) -> list[int]:
    def inner(k: int) -> int:
        def innermost() -> int:
            return k + n

        return innermost()

    class Local:
        value = n

        def get(self) -> int:
            return self.value

    return [inner(k) for k in range(n)] + [Local().get()]


def makes_generators(n: int) -> list[int]:
    def numbers() -> Iterator[int]:
        yield from range(n)

    return list(itertools.chain(numbers(), (x * x for x in numbers())))


def comprehends(rows: list[list[int]]) -> object:
    return (
        [[cell * LIMIT for cell in row] for row in rows],
        dict.fromkeys("ab", units.FACTOR),
        {c * 2 for c in "aab"},
    )


def walrus(values: list[int]) -> object:
    match values:
        case [first, *rest] if (total := sum(rest)) > LIMIT:
            return first, total
        case _:
            return f"{values!r:>10}"


def adder(k: int) -> Callable[[int], int]:
    def add(x: int, /, *, times: int = k) -> int:
        return x + k * times

    return add


def counting() -> tuple[Callable[[], int], Callable[[], int]]:
    n = 0

    def up() -> int:
        nonlocal n
        n += 1
        return n

    def get() -> int:
        return n

    return up, get


UP, GET = counting()


def shares_a_cell() -> tuple[int, int, int]:
    return UP(), UP(), GET()


def self_reference(limit: int) -> Callable[[int], int]:
    def down(n: int) -> int:
        return n if n <= limit else down(n - 1)

    return down


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return ["before", function(*args), LIMIT]

    return wrapper


def times(n: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def repeated(*args: Any) -> Any:
            return [function(*args) for _ in range(n)]

        return repeated

    return decorate


@logged
@times(2)
def decorated(x: int) -> int:
    return x + LIMIT


@lru_cache(maxsize=None)  # noqa: UP033
def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@contextlib.contextmanager
def opened(name: str) -> Iterator[str]:
    yield f"<{name}>"


def uses_a_context() -> str:
    with opened("x") as value:
        return value


def uses_classes() -> object:
    point = Point(1).moved(2)
    pixel = shapes.Pixel(1.0, colour=Colour.GREEN.other(), alpha=3)
    return point, pixel, Point.unit(), Point.at(3).length, Pair(1), Size(5), Stack[int]().push(4).items


def uses_inheritance() -> object:
    return shapes.Derived().hello(), shapes.Base.registry, shapes.Derived.Inner().next()


def raises_own(n: int) -> None:
    raise shapes.OutOfRange(n, LIMIT)


async def coroutine() -> None: ...


@pytest.mark.parametrize(
    ("function", "positional", "named"),
    [
        (plain, (1,), {"c": 3}),
        (plain, (1, 5, 6, 7), {"c": 3, "d": 5, "e": 9}),
        (default_of, (), {}),
        (uses_constants, (), {}),
        (uses_modules, (), {}),
        (uses_names_from_modules, (), {}),
        (uses_siblings, (), {}),
        (imports_inside, (), {}),
        (imports_if_it_can, (), {}),
        (factorial, (20,), {}),
        (looks_up, ("add", 1, 2), {}),
        (looks_up, ("twice", 4), {}),
        (looks_up, ("mine", 4), {}),
        (searches, ("Hello big world",), {}),
        (nested, (3,), {}),
        (makes_generators, (4,), {}),
        (comprehends, ([[1], [2, 3]],), {}),
        (walrus, ([1, 2, 3],), {}),
        (walrus, ([1],), {}),
        (adder(5), (1,), {}),
        (adder(5), (1,), {"times": 2}),
        (self_reference(3), (8,), {}),
        (decorated, (1,), {}),
        (fibonacci, (50,), {}),
        (uses_a_context, (), {}),
        (uses_classes, (), {}),
        (uses_inheritance, (), {}),
        (is_even, (7,), {}),
        (deep.lately, (), {}),
        (partial(plain, 1, c=9), (2,), {"d": 0}),
        (partial(plain, c=3), (1,), {}),
        (lambda x, y=LIMIT: x * y + LIMIT, (2,), {}),
        (Point.moved, (Point(1), 1.0), {}),
        (Point(2).moved, (1.0,), {}),
        (Point.unit, (), {}),
        (Point.at, (4,), {}),
        (Point, (4,), {"y": 2}),
        (Colour, ("r",), {}),
        (shapes.Colour.RED.other, (), {}),
        (len, ("abc",), {}),
        (math.hypot, (3, 4), {}),
        ("-".join, (["a", "b"],), {}),
        (str.upper, ("a",), {}),
        (json.loads, ('{"a": [1, null]}',), {}),
        (dict, (), {"a": 1}),
        (operator.methodcaller("split", sep=","), ("a,b",), {}),
        (Counter, ("aab",), {}),
    ],
)
def test_a_function_gives_there_what_it_gives_here(
    guest: Guest, function: Callable[..., Any], positional: tuple[Any, ...], named: dict[str, Any]
) -> None:
    there = guest.call(function, *positional, **named)
    here = function(*positional, **named)
    assert there == here
    assert type(there) is type(here)


# Lambdas whose place must be told apart by more than their line.
SEVERAL = [lambda x: x + 1, lambda x: x + 2, (lambda k: lambda x: x + k)(3)]  # fmt: skip
SPREAD = (  # noqa: E731
    lambda x, y=(
        1,
        2,
    ): (x, y)
)  # fmt: skip


@pytest.mark.parametrize("index", range(3))
def test_lambdas_on_one_line_are_told_apart(guest: Guest, index: int) -> None:
    assert guest.call(SEVERAL[index], 10) == 11 + index


def test_a_lambda_over_several_lines(guest: Guest) -> None:
    assert guest.call(SPREAD, 10) == (10, (1, 2))


def test_instances_of_the_users_classes_come_and_go(guest: Guest) -> None:
    point = Point(1.5, label="here")
    value = {"p": point, Colour.RED: [Pair(1, "x"), Size(1, 2)], "f": shapes.Access.READ | shapes.Access.RUN}
    back = guest.call(
        lambda given: {**given, "level": shapes.Level.HIGH, "moved": replace(given["p"], x=2)}, value
    )
    assert back == {**value, "level": shapes.Level.HIGH, "moved": Point(2, 0.0, "here")}
    assert type(back["p"]) is Point
    assert type(back["level"]) is shapes.Level
    assert type(back[Colour.RED][1]) is Size


def test_classes_that_only_the_arguments_name_come_along(guest: Guest) -> None:
    assert guest.call(lambda given: given, [Point(1), Colour.GREEN]) == [Point(1), Colour.GREEN]
    assert guest.call(lambda given: (given.x, given.label), Point(1)) == (1, "Origin")


def test_functions_can_be_arguments(guest: Guest) -> None:
    apply = lambda f, *values: f(*values)  # noqa: E731
    assert guest.call(apply, adder(3), 4) == 13
    assert guest.call(apply, operator.add, 4, 5) == 9
    assert guest.call(apply, Point, 4).x == 4
    captured = capture(apply)
    calls = [captured.call((function, 3)) for function in (adder(1), adder(2))]
    assert [guest.outcome(call) for call in calls] == [4, 7]


def test_two_closures_share_a_variable(guest: Guest) -> None:
    assert guest.call(shares_a_cell) == (1, 2, 2)
    assert GET() == 0


def test_data_is_copied_when_it_is_captured(guest: Guest) -> None:
    captured = capture(counts_up)
    globals()["counter"] = 41
    try:
        assert guest.outcome(captured.call()) == 1
        assert guest.call(counts_up) == 42
        assert counter == 41
    finally:
        globals()["counter"] = 0
    assert guest.call(units.touch) == 1
    assert guest.call(units.touch) == 1
    assert units.state == {"calls": 0}


def test_a_generator_of_random_numbers_goes_on_where_it_stood(guest: Guest) -> None:
    state = GENERATOR.getstate()
    there = guest.call(draws)
    assert GENERATOR.getstate() == state
    assert there == draws()
    GENERATOR.setstate(state)


def test_the_modules_own_random_numbers_are_fresh(guest: Guest) -> None:
    assert guest.call(lambda: [randint(1, 9), random.random()]) != guest.call(
        lambda: [randint(1, 9), random.random()]
    )


def test_print_and_logging_go_to_the_log(guest: Guest) -> None:
    done = guest.run(capture(prints).call(("ünï",)).archive)
    assert done.log == "seen ünï\ncareful with ünï\n"
    assert guest.call(prints, 1) is None


@pytest.mark.parametrize("x", [-1, 5])
def test_functions_of_a_test_runner_that_rewrites_assertions_travel(guest: Guest, x: int) -> None:
    def checked(value: int) -> int:
        assert value > 0, "not positive"
        return value

    if x > 0:
        assert guest.call(checked, x) == x
    else:
        with pytest.raises(AssertionError, match="not positive"):
            guest.call(checked, x)


@dataclass
class Callable_:
    k: int

    def __call__(self, x: int) -> int:
        return self.k + x


class Model:
    def __init__(self, weights: list[float]) -> None:
        self.weights = weights
        self.seen = 0

    def predict(self, values: list[float]) -> float:
        self.seen += 1
        return sum(w * v for w, v in zip(self.weights, values, strict=True)) + LIMIT

    def counted(self) -> "Model":
        self.seen += 1
        return self


def test_a_method_of_an_instance_of_an_ordinary_class(guest: Guest) -> None:
    model = Model([1.0, 2.0])
    assert guest.call(model.predict, [3.0, 4.0]) == 14.0
    back = guest.call(model.counted)
    assert type(back) is Model
    assert vars(back) == {"weights": [1.0, 2.0], "seen": 1}
    assert model.seen == 0


class Odd:
    key = lambda self, k=3: k  # noqa: E731

    def name_of_class(self) -> Callable[[], str]:
        def inner() -> str:
            return __class__.__name__  # type: ignore[name-defined, no-any-return]

        return inner

    def name_of_parent(self) -> Callable[[], str]:
        return lambda: super(Odd, self).__repr__()[:1]


def test_methods_under_other_names_and_functions_within_methods(guest: Guest) -> None:
    odd = Odd()
    assert guest.call(odd.key) == 3
    assert guest.call(odd.name_of_class()) == "Odd"
    assert guest.call(odd.name_of_parent()) == "<"


def test_an_instance_that_can_be_called(guest: Guest) -> None:
    assert guest.call(Callable_(3), 4) == 7


def test_a_module_is_an_argument_by_name(guest: Guest) -> None:
    assert guest.call(lambda module: module.sqrt(9), math) == 3


def notebook(*cells: str) -> dict[str, Any]:
    """Run cells as IPython does: each a file of its own that only `linecache` knows, all in one namespace."""
    import linecache
    import sys

    module = types.ModuleType("notebook_session")
    sys.modules["notebook_session"] = module
    for number, text in enumerate(cells):
        name = f"<ipython-input-{number}-{abs(hash(text)) % 10**12:012x}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        waiting = eval(compile(text, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), vars(module))
        if waiting is not None:
            with contextlib.suppress(StopIteration):
                waiting.send(None)
    return vars(module)


def test_functions_and_classes_of_notebook_cells_travel(guest: Guest) -> None:
    names = notebook(
        "import math\nfrom dataclasses import dataclass\nK = 3\n",
        "@dataclass\nclass Old:\n    a: int\n",
        "@dataclass\nclass Data:\n    a: int\n\n    def root(self):\n        return math.sqrt(self.a) + K\n",
        "def helper(d):\n    return d.root()\n",
        "def work(a):\n    return helper(Data(a)), Old(a)\n",
        "def fails():\n\n    return 1 / 0\n",
        "def beside(x):\n    return x\n\nif K < 0:\n    await beside\n",
    )
    assert guest.call(names["beside"], 5) == 5
    assert guest.call(names["work"], 16) == (7.0, names["Old"](16))
    with pytest.raises(ZeroDivisionError) as caught:
        guest.call(names["fails"])
    assert 'File "<cell 1>", line 3, in fails\n    return 1 / 0' in str(caught.value.__cause__)
