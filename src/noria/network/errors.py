"""What can go wrong between peers, by name."""

from __future__ import annotations

from typing import Final

from noria._core import NetworkError


class TransportError(Exception):
    """Something that the transport did not do; the message says what and why."""


class InvalidTransportConfig(TransportError):
    """A value of the configuration is out of its bounds."""


class ListenFailed(TransportError):
    """The node cannot listen where it should."""


class TransportClosed(TransportError):
    """The transport has been closed."""


class TransportBusy(TransportError):
    """Too much is under way; try again when some of it is done."""


class UnknownName(TransportError):
    """A topic or protocol that the configuration does not have."""


class MessageTooLong(TransportError):
    """More bytes than the topic or protocol allows."""


class InvalidAddress(TransportError):
    """Not the text of an address, or not the name of a peer."""


class DialFailed(TransportError):
    """No connection could be made."""


class RequestFailed(TransportError):
    """A request has no answer; a subclass says why."""


class PeerNotConnected(RequestFailed):
    """The peer is not connected, or was disconnected before it answered, or opened a stream."""


class ProtocolUnsupported(RequestFailed):
    """The peer does not speak the protocol, of requests or of streams."""


class RequestTimeout(RequestFailed):
    """The peer did not answer in time."""


class RequestRefused(RequestFailed):
    """The peer has said no; the message is what it gave as its reason."""


class OverBudget(RequestRefused):
    """The peer says no for now: what it gives this node at a time, or in a second, is used up."""


class AnswerMalformed(RequestFailed):
    """What the peer sent is no answer, or longer than the protocol allows."""


class StreamFailed(TransportError):
    """A stream goes no further; a subclass says why."""


class StreamReset(StreamFailed):
    """One of the ends has reset the stream, or the connection is gone."""


class StreamTimeout(StreamFailed):
    """Nothing moved on the stream for too long, or it was not opened in time."""


class StreamClosed(StreamFailed):
    """Nothing can be written any more: so this end has said itself."""


class Refusal(Exception):
    """Raised by a handler to refuse a request; its message is told to the peer, cut at 256 bytes."""


_STREAMS: Final[dict[str, type[TransportError]]] = {
    "reset": StreamReset,
    "stalled": StreamTimeout,
    "ended": StreamClosed,
}
_ASKED: Final[dict[str, type[TransportError]]] = _STREAMS | {
    "configuration": InvalidTransportConfig,
    "listen": ListenFailed,
    "system": TransportError,
    "closed": TransportClosed,
    "busy": TransportBusy,
    "unsupported": UnknownName,
    "malformed": MessageTooLong,
}
_ANSWERED: Final[dict[str, type[TransportError]]] = _STREAMS | {
    "not-connected": PeerNotConnected,
    "unsupported": ProtocolUnsupported,
    "timeout": RequestTimeout,
    "refused": RequestRefused,
    "over-budget": OverBudget,
    "malformed": AnswerMalformed,
    "busy": TransportBusy,
    "dial": DialFailed,
    "closed": TransportClosed,
}


def not_asked(error: NetworkError) -> TransportError:
    """Return the named error of something that could not even be asked for."""
    kind, message = error.args
    return _ASKED.get(kind, TransportError)(message)


def not_done(failure: str, message: str) -> TransportError:
    """Return the named error of something that was asked for and did not happen."""
    return _ANSWERED.get(failure, TransportError)(message)
