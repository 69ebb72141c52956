"""Why a job waits, in words."""

import msgspec
import pytest

from noria.market.requester.reasons import JobView, PlaceView, explain

WHO = "0x52908400098527886E0F7030069857D2E4169EE7"
VIEW = JobView(
    state="running",
    requester=WHO,
    budget=str(2 * 10**18),
    max_price="1000000",
    miners=4,
    replicas=2,
    job=7,
    free=str(10**18),
    opened_block=10,
    head_block=20,
    units=10,
    done=4,
)
READY = PlaceView(
    k=0, miner=WHO, price="1000000", cap="1000", state="ready", workers=2, window=9, ordered=2, running=2
)


def names(view: JobView) -> list[str]:
    return [reason.name for reason in explain(view).reasons]


def with_places(*places: PlaceView, **changes: object) -> JobView:
    return msgspec.structs.replace(VIEW, places=places, **changes)


def test_nothing_holds_a_job_up_that_works() -> None:
    view = with_places(*[msgspec.structs.replace(READY, k=k) for k in range(4)])
    assert names(view) == []
    assert "4 of 10 units done" in str(explain(view))


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"state": "new", "balance": "5"}, "not-funded", "send it money"),
        ({"state": "new"}, "no-units", "first call"),
        ({"state": "opening", "balance": str(10**19)}, "waiting-for-block", "waits for a block"),
        ({"state": "assigning", "head_block": 11}, "not-assigned", "1 to go"),
        ({"state": "assigning", "head_block": 12}, "waiting-for-block", "being drawn"),
        ({"state": "assigning", "head_block": 12, "problem": "reverted"}, "no-miner", "raise max_price"),
        ({"state": "assigning", "head_block": 80}, "expired", "paid back"),
        ({"state": "running"}, "no-miner", "raise max_price"),
        ({"state": "closing"}, "closing", "paid back"),
        ({"problem": "the node is away"}, "problem", "the node is away"),
    ],
)
def test_before_and_after_work(changes: dict[str, object], name: str, words: str) -> None:
    explanation = explain(msgspec.structs.replace(VIEW, **changes))
    found = {reason.name: reason.message for reason in explanation.reasons}
    assert words in found[name]


@pytest.mark.parametrize(
    ("place", "name", "words"),
    [
        ({"state": "finding"}, "no-contact", "no known address"),
        ({"state": "unreachable", "reason": "refused"}, "unreachable", "refused"),
        ({"state": "greeting", "reason": "unknown-job"}, "greeting", "unknown-job"),
        ({"state": "silent"}, "silent", "go to others"),
        ({"state": "banned", "reason": "a lie"}, "banned", "a lie"),
        ({"state": "closed", "reason": "program"}, "place-closed", "program"),
        ({"held": 3, "allowed": "1000"}, "cap-reached", "used up"),
        ({"held": 3, "allowed": "10"}, "held", "until its allow"),
        ({"note": "compiling python, 40 %"}, "note", "compiling python, 40 %"),
        ({"silent_seconds": 9.0}, "slow", "9 seconds"),
    ],
)
def test_each_place_has_its_reason(place: dict[str, object], name: str, words: str) -> None:
    view = with_places(msgspec.structs.replace(READY, **place))
    found = {reason.name: reason.message for reason in explain(view).reasons}
    assert words in found[name]
    assert WHO in found[name]


def test_all_busy_too_few_spent_and_idle() -> None:
    busy = msgspec.structs.replace(READY, running=0)
    assert "all-busy" in names(with_places(busy, busy))
    assert "too-few-miners" in names(with_places(READY))
    assert "fewer-miners" in names(with_places(READY, READY))
    held = msgspec.structs.replace(READY, held=1, allowed="1000")
    assert "budget-spent" in names(with_places(held, held, free="0"))
    assert "idle" in names(with_places(READY, READY, done=10))


def test_a_snapshot_survives_json() -> None:
    view = with_places(READY)
    assert msgspec.json.decode(msgspec.json.encode(view), type=JobView) == view
