"""What people's functions do with the standard library, above all with its modules in C.

Each returns plain values that do not depend on the version of Python.
"""

from __future__ import annotations


def arithmetic() -> object:
    import cmath
    import math

    numbers = [0.1, 1.0, 2.5, 1e10, 1e-10]
    return (
        [
            f(x)
            for f in (math.sqrt, math.exp2, math.log1p, math.atan, math.tanh, math.erf, math.lgamma)
            for x in numbers[:3]
        ],
        [
            math.fsum(numbers),
            math.hypot(3, 4),
            math.comb(60, 30),
            math.isqrt(10**40),
            math.gcd(84, 36),
            math.factorial(40),
        ],
        [round(cmath.phase(complex(x, 1)), 12) for x in numbers],
        [
            divmod(-(3**200), 7**50),
            pow(3, 10**18, 10**9 + 7),
            (2**521 - 1) % 1_000_003,
            int("9" * 400) // 7**100,
        ],
        [float(text) for text in ("1e308", "-0.0", "inf", "4.9e-324")],
        [
            (0.1).hex(),
            float.fromhex("0x1.8p3"),
            (2.5).as_integer_ratio(),
            round(2.675, 2),
            f"{1e22:.3f}",
            repr(5e-324),
        ],
    )


def exact_numbers() -> object:
    from decimal import Context, Decimal, localcontext
    from fractions import Fraction
    from statistics import linear_regression, median, quantiles, stdev

    with localcontext(Context(prec=40)):
        root = Decimal(2).sqrt() + Decimal("1e-30")
    data = [3, 1, 4, 1, 5, 9, 2, 6]
    return (
        str(root),
        str(sum(Fraction(1, n) for n in range(1, 30))),
        [
            median(data),
            quantiles(data, n=4),
            round(stdev(data), 12),
            linear_regression([1, 2, 3], [2, 4, 6]).slope,
        ],
    )


def text() -> object:
    import difflib
    import re
    import string
    import textwrap
    import unicodedata

    words = "Größe naïve Ωmega 中文 🎉 file_name"
    return (
        re.findall(r"(?P<word>\w+)", words),
        re.sub(r"(\d+)", lambda found: str(int(found[1]) * 2), "a1b22c333"),
        re.fullmatch(r"(a|b)*c(?=d)?.", "ababcd") is not None,
        [unicodedata.name(c, "?") for c in words[:8]],
        unicodedata.normalize("NFD", words),
        unicodedata.bidirectional("א"),
        words.upper(),
        words.casefold(),
        words.encode("utf-16-le"),
        words.encode("utf-7"),
        "héllo".encode("latin-1"),
        "日本".encode("shift_jis"),
        "中文".encode("gb18030"),
        "한국".encode("euc_kr"),
        textwrap.wrap("the quick brown fox " * 5, 30),
        string.Template("$a-$b").substitute(a=1, b=2),
        "{:>10,.2f}|{!r:^8}|{:#x}".format(12345.678, "x", 255),
        list(difflib.unified_diff(["a\n", "b\n"], ["a\n", "c\n"])),
    )


def data_formats() -> object:
    import base64
    import binascii
    import configparser
    import csv
    import io
    import json
    import plistlib
    import tomllib
    import xml.etree.ElementTree as Tree

    rows = list(csv.reader(io.StringIO('a,"b,c",d\n1,2,"3\n4"\n')))
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    tree = Tree.fromstring("<a x='1'><b>t&amp;</b><c/></a>")
    settings = configparser.ConfigParser()
    settings.read_string("[s]\nk = v\n")
    value = {"a": [1, 2.5, None, True, "ü\u2028"], "b": {"c": 10**20}}
    return (
        rows,
        written.getvalue(),
        Tree.tostring(tree),
        [child.tag for child in tree],
        tree.find("b").text,  # type: ignore[union-attr]
        json.loads(json.dumps(value)),
        json.dumps(value, indent=1, sort_keys=True),
        tomllib.loads("a = 1\n[b]\nc = [1.5]"),
        base64.b85encode(b"hello world"),
        base64.b64decode("aGk="),
        binascii.crc32(b"abc"),
        binascii.hexlify(b"\x01\xff"),
        settings["s"]["k"],
        plistlib.loads(plistlib.dumps({"a": 1})),
    )


def compression() -> object:
    import bz2
    import gzip
    import io
    import lzma
    import tarfile
    import zipfile
    import zlib

    data = b"".join(b"%d squared is %d\n" % (n, n * n) for n in range(2000))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("a.txt", data)
    with zipfile.ZipFile(archive) as opened:
        from_zip = opened.read("a.txt")
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w:bz2") as writing:
        entry = tarfile.TarInfo("b")
        entry.size = len(data)
        writing.addfile(entry, io.BytesIO(data))
    tarred.seek(0)
    with tarfile.open(fileobj=tarred) as reading:
        member = reading.extractfile("b")
        from_tar = member.read() if member else b""
    return [
        zlib.decompress(zlib.compress(data, 9)) == data,
        zlib.adler32(data),
        bz2.decompress(bz2.compress(data)) == data,
        lzma.decompress(lzma.compress(data)) == data,
        gzip.decompress(gzip.compress(data)) == data,
        from_zip == data,
        from_tar == data,
        lzma.decompress(lzma.compress(data, lzma.FORMAT_ALONE)) == data,
    ]


def hashes() -> object:
    import hashlib
    import hmac
    import zlib

    data = b"abc" * 1000
    names = (
        "md5",
        "sha1",
        "sha224",
        "sha256",
        "sha384",
        "sha512",
        "sha3_256",
        "sha3_512",
        "blake2b",
        "blake2s",
    )
    return (
        [hashlib.new(name, data).hexdigest() for name in names],
        hashlib.shake_128(data).hexdigest(20),
        hashlib.blake2b(data, key=b"k", digest_size=20).hexdigest(),
        hmac.new(b"key", data, "sha256").hexdigest(),
        zlib.crc32(data),
    )


def containers() -> object:
    import array
    import bisect
    import collections
    import copy
    import functools
    import graphlib
    import heapq
    import itertools
    import operator
    import weakref

    heap = [5, 3, 8, 1]
    heapq.heapify(heap)
    numbers = array.array("d", [1.5, 2.5])
    numbers.append(3.5)
    queue = collections.deque(range(5), maxlen=3)
    queue.rotate(1)

    class Node:
        pass

    node = Node()
    reference = weakref.ref(node)
    alive = reference() is node
    del node
    sorter = graphlib.TopologicalSorter({"d": {"b", "c"}, "b": {"a"}})
    order = list(sorter.static_order())
    return (
        [heapq.heappop(heap) for _ in range(4)],
        heapq.nsmallest(2, [3, 1, 2]),
        list(heapq.merge([1, 4], [2, 3])),
        numbers.tolist(),
        numbers.tobytes(),
        list(queue),
        collections.Counter("abracadabra").most_common(2),
        bisect.bisect([1, 3, 5], 4),
        list(itertools.accumulate([1, 2, 3], operator.mul)),
        list(itertools.islice(itertools.product("ab", repeat=2), 3)),
        [list(g) for _, g in itertools.groupby("aabc")],
        list(itertools.pairwise("abc")),
        functools.reduce(operator.xor, range(10)),
        alive,
        reference() is None,
        copy.deepcopy({"a": [1, {2}]}),
        order.index("a") < order.index("b") < order.index("d"),
        sorted({"b": 1, "a": 2}.items(), key=operator.itemgetter(1)),
        operator.methodcaller("upper")("a"),
        collections.ChainMap({"a": 1}, {"b": 2})["b"],
        list(collections.OrderedDict(a=1)),
    )


def packing() -> object:
    import ast
    import io
    import pickle
    import struct
    import uuid

    view = memoryview(bytearray(range(16))).cast("I")
    return (
        struct.pack("<iQd4s?", -1, 2**63, 0.5, b"abcd", True),
        struct.unpack(">hI", b"\xff\xfe\0\0\0\1"),
        list(struct.iter_unpack("<H", b"\1\0\2\0")),
        view.tolist(),
        pickle.loads(pickle.dumps({"a": (1, 2.5, {3})}, 4)),
        pickle.dumps([1, "a"], 2),
        io.StringIO("a\nb").readlines(),
        io.TextIOWrapper(io.BytesIO(b"\xc3\xa9")).read(),
        str(uuid.uuid5(uuid.NAMESPACE_DNS, "example.org")),
        ast.literal_eval("{'a': [1, (2,)]}"),
        ast.unparse(ast.parse("x = [i for i in range(3)]")),
    )


def times() -> object:
    import calendar
    from datetime import UTC, date, datetime, timedelta
    from zoneinfo import ZoneInfo

    moment = datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)
    return (
        moment.isoformat(),
        (moment + timedelta(days=366)).strftime("%Y-%m-%d %H:%M:%S.%f %j %a %b"),
        moment.timestamp(),
        datetime.strptime("31/12/1999 23:59", "%d/%m/%Y %H:%M").isoformat(),
        date(2000, 1, 1).isocalendar()[1],
        datetime.fromisoformat("2020-01-02T03:04:05").weekday(),
        [int(number) for number in calendar.monthrange(2023, 2)],
        str(timedelta(seconds=93784.5)),
        moment.astimezone(ZoneInfo("Asia/Tokyo")).isoformat(),
    )


def randomness() -> object:
    from random import Random

    source = Random(7)
    items = list(range(10))
    source.shuffle(items)
    return (
        items,
        [source.random() for _ in range(5)],
        [round(source.gauss(0, 1), 12) for _ in range(3)],
        source.randrange(10**30),
        source.choices("abc", [1, 2, 3], k=5),
        source.sample(range(100), 5),
        source.getrandbits(70),
        source.betavariate(2, 3),
    )


def language() -> object:
    import contextlib
    import contextvars
    import dataclasses
    import enum
    import inspect
    import types
    import typing

    class Colour(enum.IntFlag):
        RED = 1
        BLUE = 2

    @dataclasses.dataclass(order=True)
    class Point:
        x: int
        y: int = 0

    @contextlib.contextmanager
    def entered() -> typing.Iterator[int]:
        yield 1

    def numbers() -> typing.Generator[int, int, str]:
        got = yield 1
        yield got * 2
        return "end"

    variable: contextvars.ContextVar[int] = contextvars.ContextVar("v", default=3)
    running = numbers()
    first = next(running)
    second = running.send(21)
    try:
        raise ExceptionGroup("g", [ValueError("a"), KeyError("b")])
    except* ValueError as group:
        caught = len(group.exceptions)
    except* KeyError:
        pass
    with entered() as value:
        pass
    match {"k": [1, 2, 3]}:
        case {"k": [head, *rest]}:
            matched = (head, rest)
    return (
        int(Colour.RED | Colour.BLUE),
        Point(1) < Point(2),
        dataclasses.asdict(Point(1)),
        value,
        first,
        second,
        caught,
        matched,
        variable.get(),
        str(inspect.signature(lambda a, *, b=1: a)),
        types.SimpleNamespace(a=1).a,
        [*range(3, 0, -1)],
        f"{value=}",
        (lambda *a, **k: (a, k))(1, x=2),
        [x for x in range(5) if (y := x) > 2],
        y,
        "ab".join("xyz"),
        b"%d" % 5,
        {**{"a": 1}, "b": 2},
        1 if value else 2,
    )


def database() -> object:
    import sqlite3

    with sqlite3.connect(":memory:") as connection:
        connection.execute("create table t (a integer primary key, b text, c real)")
        connection.executemany(
            "insert into t (b, c) values (?, ?)", [(str(n % 7), n / 3) for n in range(500)]
        )
        grouped = connection.execute(
            "select b, count(*), round(sum(c), 6) from t group by b order by b"
        ).fetchall()
        like = connection.execute(
            "select count(*) from t where b like '3%' and c between 10 and 100"
        ).fetchone()
        json = connection.execute("""select json_extract('{"a": [1, 2]}', '$.a[1]')""").fetchone()
        window = connection.execute(
            "select a, sum(c) over (order by a rows 2 preceding) from t limit 3"
        ).fetchall()
    return grouped, like, json, window


CALLS = (
    arithmetic,
    exact_numbers,
    text,
    data_formats,
    compression,
    hashes,
    containers,
    packing,
    times,
    randomness,
    language,
    database,
)
