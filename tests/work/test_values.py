import collections
import datetime
import enum
import gc
import inspect
import math
import struct
import sys
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.work import values
from noria.work.values import MalformedValue, UnencodableValue, decode, encode, named
from tests.growth import Stopwatch, least_seconds


@dataclass(frozen=True)
class Point:
    x: Any
    y: Any = 0

    @cached_property
    def sum(self) -> Any:
        return self.x + self.y


@dataclass
class Open:
    items: list[Any] = field(default_factory=list)


class Pair(NamedTuple):
    left: Any
    right: Any


class Colour(enum.Enum):
    RED = 1
    ALSO_RED = 1
    BLUE = 2


class Access(enum.Flag):
    READ = 1
    WRITE = 2


HOUR = datetime.timedelta(hours=1)
CLASSES = named(Point, Open, Pair, Colour, Access)


def same(one: Any, other: Any) -> bool:
    """Equality down to types, order and the bits of floats."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return struct.pack("<d", one) == struct.pack("<d", other)
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, list | tuple | collections.deque):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, Point):
        return same(vars(one)["x"], vars(other)["x"]) and same(one.y, other.y)
    return bool(one == other)


hashable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec=None))
    | st.binary(),
    lambda inner: (
        st.tuples(inner, inner)
        | st.frozensets(inner, max_size=4)
        | st.builds(Point, inner, inner)
        | st.builds(Pair, inner, inner)
    ),
    max_leaves=6,
)
anything = st.recursive(
    hashable
    | st.floats()
    | st.complex_numbers()
    | st.binary().map(bytearray)
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.datetimes(timezones=st.sampled_from([None, datetime.UTC]))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.sampled_from([Colour.RED, Colour.BLUE, Access.READ, Access.READ | Access.WRITE, Access(0), ...])
    | st.lists(st.integers(-(2**70), 2**70))
    | st.lists(st.floats())
    | st.builds(range, st.integers(), st.integers(), st.integers(1)),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(hashable, inner, max_size=4)
        | st.sets(hashable, max_size=5)
        | st.builds(Point, inner, inner)
        | st.builds(Pair, inner, inner)
        | st.lists(inner, max_size=3).map(collections.deque)
        | st.dictionaries(hashable, inner, max_size=3).map(collections.OrderedDict)
    ),
    max_leaves=12,
)


@given(anything)
def test_every_value_comes_back_as_it_was(value: Any) -> None:
    data = encode(value, classes=CLASSES)
    back = decode(data, classes=CLASSES)
    assert same(back, value)
    assert encode(back, classes=CLASSES) == data


@given(st.sets(hashable), st.randoms())
def test_the_order_in_which_a_set_was_filled_does_not_show(value: set[Any], order: Any) -> None:
    shuffled = list(value)
    order.shuffle(shuffled)
    assert encode(set(shuffled), classes=CLASSES) == encode(value, classes=CLASSES)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        -math.nan,
        struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_DEAD_BEEF))[0],
        math.inf,
        -0.0,
        5e-324,
        [0.0, -0.0, math.nan],
        complex(-0.0, math.nan),
    ],
)
def test_floats_keep_every_bit(value: Any) -> None:
    assert same(decode(encode(value)), value)


@pytest.mark.parametrize(
    "value",
    [
        {1: "a", "1": "b", 1.5: "c", (1, 2): "d", None: "e", b"1": "f"},
        {"b": 1, "a": 2},
        [True, 1, 1.0],
        (),
        [[]],
        {frozenset({1, 2}), frozenset()},
        2**10_000,
        -(2**63),
        [2**63 - 1, -(2**63)],
        [2**63],
        "\ud800 lone",
        slice(1, None, 2),
        ...,
        collections.Counter("abracadabra"),
        collections.defaultdict(list, {"a": [1]}),
        collections.deque([1, 2], maxlen=3),
        datetime.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=datetime.timezone(-3 * HOUR, "X"), fold=1),
        Decimal("-0E-10"),
        Decimal("NaN123"),
        Fraction(-7, 3),
        uuid.UUID(int=5),
    ],
)  # fmt: skip
def test_particular_values(value: Any) -> None:
    back = decode(encode(value))
    assert repr(back) == repr(value)
    assert same(list(back), list(value)) if isinstance(value, dict) else type(back) is type(value)


def test_lists_of_numbers_are_packed_as_narrowly_as_they_can_be() -> None:
    sizes = [len(encode([bound] * 1000)) for bound in (127, 128, 2**15, 2**31, 2**63)]
    assert sizes[:4] == [1006, 2006, 4006, 8006]
    assert sizes[4] > 10_000
    assert len(encode([0.5] * 1000)) == 8006


def test_a_dataclass_comes_back_without_its_constructor() -> None:
    point = Point(1, [2])
    back = decode(encode(point, classes=CLASSES), classes=CLASSES)
    assert back == point
    assert type(back) is Point
    assert decode(encode(Point(1, 2).sum and Point(1, 2), classes=CLASSES), classes=CLASSES).sum == 3


def test_a_value_that_is_used_twice_becomes_two() -> None:
    shared = [1]
    back = decode(encode([shared, shared]))
    assert back == [[1], [1]]
    assert back[0] is not back[1]


class MyInt(int):
    pass


class Plain:
    pass


class Ordinary:
    def __init__(self, x: Any) -> None:
        self.x = x
        self.later: Any = None


class Slotted:
    __slots__ = ("x",)


def test_an_instance_of_an_ordinary_class_comes_back_without_its_constructor() -> None:
    classes = named(Ordinary)
    value = Ordinary([1, {"k": Ordinary(None)}])
    value.later = (1, 2)
    data = encode(value, classes=classes)
    back = decode(data, classes=classes)
    assert type(back) is Ordinary
    assert (back.x[0], back.later, type(back.x[1]["k"])) == (1, (1, 2), Ordinary)
    assert encode(back, classes=classes) == data
    with pytest.raises(UnencodableValue, match=r"value\.x\[1\]\.x cannot be encoded"):
        encode(Ordinary([1, Ordinary(len)]), classes=classes)


def cycle() -> Any:
    value: dict[str, Any] = {"x": [1, 2]}
    value["x"].append({"back": value})
    return value


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "wrap",
    [
        lambda value: [value],
        lambda value: (value,),
        lambda value: {1: value},
        lambda value: {"x": (value,)},
        lambda value: frozenset([value]),
        lambda value: Point(value),
        lambda value: Pair(value, 1),
        lambda value: collections.deque([value]),
    ],
)
def test_values_as_deep_as_allowed_need_no_more_stack_than_there_is(wrap: Any) -> None:
    value: Any = "x"
    for _ in range(99):
        value = wrap(value)
    data = encode(value, classes=CLASSES)
    assert decode(data, classes=CLASSES) == value


def at_depth(frames: int, action: Any) -> Any:
    return action() if not frames else at_depth(frames - 1, action)


def test_what_is_left_of_the_stack_is_a_limit_with_a_name() -> None:
    data = encode(deep(190))
    frames = sys.getrecursionlimit() - len(inspect.stack(0)) - 120
    with pytest.raises(MalformedValue, match="nested too deeply"):
        at_depth(frames, lambda: decode(data))
    with pytest.raises(UnencodableValue, match="nested too deeply"):
        at_depth(frames, lambda: encode(deep(190)))


def unset() -> Any:
    value = Open()
    del value.items
    return value


def extra() -> Any:
    value = Open()
    value.more = 1  # type: ignore[attr-defined]
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"x": [0, 1, 2, Slotted()]}, "value['x'][3] cannot be encoded: values of type"),
        ([Plain()], "value[0] cannot be encoded: the class Plain is not among those that travel"),
        ([(x for x in "a")], "value[0] cannot be encoded: values of type generator do not travel; turn"),
        ({1: {"a": memoryview(b"")}}, "value[1]['a'] cannot be encoded: values of type memoryview"),
        (Point(1, Open([object()])), "value.y.items[0] cannot be encoded: values of type object"),
        ({object}, "cannot be encoded: values of type type do not travel"),
        (MyInt(3), "MyInt is a subclass of int; pass int(value)"),
        (cycle(), "value['x'][2]['back'] cannot be encoded: the value contains itself"),
        (deep(201), "nested deeper than 200 levels; flatten the value"),
        (2 ** (8 << 20), "an integer of 1048577 bytes; at most 1048576 are allowed"),
        ({math.nan, float("nan")}, "a set with several NaN"),
        (unset(), "value cannot be encoded: field 'items' of Open was never set"),
        (extra(), "attribute 'more' of Open is not one of its fields; make it a field"),
        (len, "values of type builtin_function_or_method do not travel"),
        (collections.defaultdict(lambda: 1), "a defaultdict whose default is made by something other"),
        (Fraction(1, 1 << (8 << 14)), "a fraction of more than 16384 bytes a part; pass the two integers"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_what_has_no_encoding_is_named_with_its_place(value: Any, message: str) -> None:
    with pytest.raises(UnencodableValue) as caught:
        encode(value, classes=CLASSES)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 2_000


def test_a_class_that_does_not_travel_is_named() -> None:
    with pytest.raises(UnencodableValue, match=r"value\[0\] cannot be encoded: the class Point is not among"):
        encode([Point(1)], classes=named(Open))
    with pytest.raises(UnencodableValue, match="need the class to travel"):
        encode(Point(1))


def test_long_values_are_refused_before_they_are_built_whole() -> None:
    with pytest.raises(UnencodableValue, match="longer than 1000 bytes"):
        encode(b"x" * 1001, limit=1000)
    with pytest.raises(UnencodableValue, match="more than 1048576 containers"):
        encode([[]] * (1 << 20))


def test_what_is_decoded_is_bounded_by_its_length() -> None:
    with pytest.raises(MalformedValue, match="11 bytes, at most 10 are allowed"):
        decode(b"\x01" * 11, limit=10)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "byte 0: version 1 expected"),
        (b"\x02N", "byte 0: version 1 expected"),
        (b"\x01", "byte 1: the input ends where a value should begin"),
        (b"\x01NN", "byte 2: bytes follow the value"),
        (b"\x01Q", "no value begins with byte 0x51"),
        (b"\x01i\x02\x01\x00", "an integer with needless bytes"),
        (b"\x01i\x00", "an integer with needless bytes"),
        (b"\x01s\x80\x00", "a number with a leading zero"),
        (b"\x01s" + b"\xff" * 12, "a number of more than 63 bits"),
        (b"\x01s\x80", "the input ends within a number"),
        (b"\x01s\x05ab", "5 bytes expected, 2 are left"),
        (b"\x01s\x01\xff", "text that is not UTF-8"),
        (b"\x01l\xff\xff\xff\xff\x0fN", "4294967295 values cannot lie in 1 bytes"),
        (b"\x01l\x01i\x01\x05", "a sequence of numbers that is not packed"),
        (b"\x01Plh\x01\x05\x00", "not packed as narrowly"),
        (b"\x01Plb\x00", "not packed as narrowly"),
        (b"\x01Plx\x00", "a packed sequence of an unknown kind"),
        (b"\x01m\x02NTNF", "a dictionary that names a key twice"),
        (b"\x01m\x01l\x00N", "a key that has no hash"),
        (b"\x01S\x02TF", "a set whose elements are not in ascending order"),
        (b"\x01S\x02Ti\x01\x01", "a set that names an element twice"),
        (b"\x01" + b"l\x01" * 300 + b"N", "nested deeper than 200 levels"),
        (b"\x01x\x02no\x00", "no type 'no'"),
        (b"\x01e\x03a:bs\x01x", "no class 'a:b' travels with this function"),
        (b"\x01R\x05", "no object 5"),
    ],
)  # fmt: skip
def test_bytes_that_encode_nothing_are_refused_with_place_and_reason(data: bytes, message: str) -> None:
    with pytest.raises(MalformedValue) as caught:
        decode(data)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("fractions.Fraction", [2, 4]),
        ("fractions.Fraction", [1, 0]),
        ("fractions.Fraction", [True, 2]),
        ("decimal.Decimal", ["1_0"]),
        ("decimal.Decimal", ["x"]),
        ("collections.deque", [[1, 2, 3], 2]),
        ("collections.defaultdict", ["eval", {}]),
        ("collections.Counter", [[1, 2]]),
        ("collections.OrderedDict", []),
        ("datetime.date", [2023, 2, 29]),
        ("datetime.timedelta", [0, 90_000, 0]),
        ("builtins.range", [0, 1, 0]),
        ("os.system", ["true"]),
    ],
)
def test_values_of_the_standard_library_have_one_form(name: str, parts: list[Any]) -> None:
    raw = name.encode()
    items = b"".join(encode(part)[1:] for part in parts)
    data = b"\x01x" + bytes([len(raw)]) + raw + bytes([len(parts)]) + items
    with pytest.raises(MalformedValue):
        decode(data)


def instance(name: str, *fields: Any) -> bytes:
    raw = name.encode()
    return b"\x01o" + bytes([len(raw)]) + raw + bytes([len(fields)]) + b"".join(encode(f)[1:] for f in fields)


def test_only_the_named_classes_are_made_and_only_whole() -> None:
    here = Point.__module__
    assert decode(instance(f"{here}:Point", 1, 2), classes=CLASSES) == Point(1, 2)
    for name, fields in [("Point", (1,)), ("Point", (1, 2, 3)), ("Colour", (1,)), ("Plain", ())]:
        with pytest.raises(MalformedValue):
            decode(instance(f"{here}:{name}", *fields), classes=CLASSES | named(Plain))
    for name in ("os:system", "builtins:object", "subprocess:Popen"):
        with pytest.raises(MalformedValue, match="no class"):
            decode(instance(name), classes=CLASSES)


@pytest.mark.parametrize("key", ["ALSO_RED", "__class__", "GREEN", 1, None])
def test_members_are_found_by_their_own_name_only(key: Any) -> None:
    name = f"{Colour.__module__}:Colour".encode()
    with pytest.raises(MalformedValue):
        decode(b"\x01e" + bytes([len(name)]) + name + encode(key)[1:], classes=CLASSES)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_decode_canonically_or_are_refused(data: bytes) -> None:
    data = b"\x01" + data
    try:
        value = decode(data, classes=CLASSES)
    except MalformedValue:
        return
    assert encode(value, classes=CLASSES) == data


@given(anything, st.data())
def test_damaged_encodings_decode_canonically_or_are_refused(value: Any, draw: Any) -> None:
    data = bytearray(encode(value, classes=CLASSES))
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        back = decode(bytes(data), classes=CLASSES)
    except MalformedValue:
        return
    assert encode(back, classes=CLASSES) == data


def test_colliding_keys_cost_no_more_than_others() -> None:
    prime = 2**61 - 1

    def work(size: int, watch: Stopwatch) -> None:
        colliding, others = (
            sorted(encode(index * factor)[1:] for index in range(1 << 14, (1 << 14) + size))
            for factor in (prime, prime + 1)
        )
        count = encode([None] * size)[2:-size]
        with watch.part("others"):
            assert len(decode(b"\x01Z" + count + b"".join(others))) == size
        for part, head, tail in (("set", b"\x01Z", b""), ("dictionary", b"\x01m", b"N")):
            body = head + count + b"".join(item + tail for item in colliding)
            with watch.part(part), pytest.raises(MalformedValue, match="collide"):
                decode(body)

    seconds = least_seconds(work, 20_000)
    # All 20,000 beside one another would be compared 200 million times.
    assert max(seconds.values()) < 20 * seconds["others"], seconds


def test_few_bytes_never_become_many() -> None:
    nested = b"\x01l\x80\x80\x80\x01" + b"S\x00" * (1 << 21)
    gc.collect()
    with pytest.raises(MalformedValue, match=f"more than {values.MAX_CONTAINERS} containers"):
        decode(nested)
