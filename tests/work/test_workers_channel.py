"""Messages between pool and worker: whole, bounded, never waited for without limit."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.work.worker_channel import HEADER, PART_BYTES_MAX, Channel, ChannelClosed, Frame, MalformedFrame

Pair = tuple[Channel, Channel]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = (Channel(end.detach()) for end in socket.socketpair())
    yield ours, theirs
    ours.close()
    theirs.close()


def soon() -> float:
    return time.monotonic() + 30


uint64 = st.integers(0, 2**64 - 1)
frames = st.builds(
    Frame,
    st.integers(0, 255),
    st.integers(0, 255),
    uint64,
    uint64,
    st.floats(allow_nan=False),
    st.binary(max_size=200),
    st.binary(max_size=200),
    st.binary(max_size=200),
)


@given(st.lists(frames, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_messages_arrive_as_they_were_sent(pair: Pair, sent: list[Frame]) -> None:
    for frame in sent:
        pair[0].send(frame, soon())
    assert [pair[1].receive(soon()) for _ in sent] == sent


def test_large_parts_arrive_while_the_other_side_reads(pair: Pair) -> None:
    frame = Frame(1, first=b"a" * 5_000_000, second=b"b", third=b"c" * 3_000_000)
    sender = threading.Thread(target=lambda: pair[0].send(frame, soon()))
    sender.start()
    assert pair[1].receive(soon()) == frame
    sender.join(30)


def test_lengths_beyond_the_bounds_are_refused_before_anything_is_read(pair: Pair) -> None:
    left, right = socket.socketpair()
    with left:
        channel = Channel(right.detach())
        left.sendall(HEADER.pack(1, 0, 0, 0, 0.0, 0, PART_BYTES_MAX + 1, 0))
        with pytest.raises(MalformedFrame, match="at most"):
            channel.receive(soon())
        channel.close()


def test_the_end_of_the_other_side_is_told(pair: Pair) -> None:
    pair[0].close()
    with pytest.raises(ChannelClosed):
        pair[1].receive(soon())
    with pytest.raises(ChannelClosed):
        pair[1].send(Frame(1), soon())
    pair[0].close()


def test_half_a_message_is_none(pair: Pair) -> None:
    left, right = socket.socketpair()
    channel = Channel(right.detach())
    left.sendall(HEADER.pack(1, 0, 0, 0, 0.0, 10, 0, 0) + b"half")
    left.close()
    with pytest.raises(ChannelClosed):
        channel.receive(soon())
    channel.close()


def test_nothing_is_waited_for_beyond_the_deadline(pair: Pair) -> None:
    with pytest.raises(TimeoutError):
        pair[0].receive(time.monotonic() + 0.01)
    with pytest.raises(TimeoutError):
        pair[0].send(Frame(1, third=bytes(20_000_000)), time.monotonic() + 0.01)
