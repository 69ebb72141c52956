from __future__ import annotations

import io
import json

import pytest
import structlog

from noria.node.logs import configure_logging


def lines(level: str = "info") -> tuple[io.StringIO, structlog.typing.FilteringBoundLogger]:
    stream = io.StringIO()
    configure_logging(level, json=True, stream=stream)
    return stream, structlog.get_logger("test")


def test_an_event_is_one_line_of_json() -> None:
    stream, log = lines()
    log.info("block_mined", number=7, hash=b"\x01\xff", note="two\nlines\x1b[31m")
    event = json.loads(stream.getvalue())
    assert (event["event"], event["level"], event["number"], event["hash"]) == (
        "block_mined",
        "info",
        7,
        "0x01ff",
    )
    assert event["note"] == "two?lines?[31m"
    assert stream.getvalue().count("\n") == 1


def test_secrets_are_hidden_under_any_name() -> None:
    stream, log = lines()
    log.info(
        "x", private_key=b"\x77" * 32, Password="geheim", keystore_password="geheim", mnemonic="test junk"
    )
    text = stream.getvalue()
    assert "geheim" not in text
    assert "junk" not in text
    assert "7777" not in text
    assert text.count("(hidden)") == 4


def test_the_level_decides() -> None:
    stream, log = lines("warning")
    log.info("quiet")
    log.warning("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]
    with pytest.raises(ValueError, match="log level 'loud' is not one of debug, info, warning, error"):
        configure_logging("loud")


def test_long_values_are_cut() -> None:
    stream, log = lines()
    log.info("x", text="a" * 10_000, data=b"\x00" * 10_000)
    assert len(stream.getvalue()) < 2_000


def test_text_for_people_has_no_colours_in_a_file() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    structlog.get_logger("test").info("node_started", head=5)
    assert "node_started" in stream.getvalue()
    assert "head=5" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
