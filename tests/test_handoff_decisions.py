"""What hub and device decide at one message of a handoff: lists in, decisions out."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from roomtone.core.dialog import Session
from roomtone.core.handoff import (
    LEASE_S,
    LINK_LOST_S,
    Does,
    Handoff,
    Hold,
    Late,
    Offline,
    Online,
    Own,
    Phase,
    Replied,
    Send,
    Standing,
    command,
    may_act,
    on_adopt,
    on_offer,
    on_release,
    read_id,
    step,
)
from roomtone.core.wire import Adopt, Bundle, Offer, Release

HELD, RELEASED, OFFERED = Standing.HELD, Standing.RELEASED, Standing.OFFERED

BUNDLE = Bundle(session=Session(id="s", room="kitchen", persona="companion"), persona="companion")


def hold(standing: Standing, epoch: int, handoff: str = "h") -> Hold:
    return Hold("s", epoch, standing, handoff)


def release(epoch: int, handoff: str = "h") -> Release:
    return Release(handoff=handoff, session="s", epoch=epoch, target="study", target_room="study")


def offer(epoch: int, handoff: str = "h") -> Offer:
    return Offer(handoff=handoff, session="s", epoch=epoch, bundle=BUNDLE)


def adopt(epoch: int, bundle: Bundle | None = None) -> Adopt:
    return Adopt(handoff="h", session="s", epoch=epoch, bundle=bundle)


# ------------------------------------------------------------------------------------------ the device


@pytest.mark.parametrize(
    ("before", "here", "order", "does", "code"),
    [
        (None, True, release(0), Does.LET_GO, ""),
        (None, False, release(0), Does.REFUSE, "SESSION_NOT_HERE"),
        (hold(HELD, 2), False, release(2), Does.LET_GO, ""),
        (hold(HELD, 2), False, release(3), Does.LET_GO, ""),
        (hold(HELD, 2), False, release(1), Does.REFUSE, "STALE_EPOCH"),
        (hold(RELEASED, 2), False, release(2), Does.SAME_BUNDLE, ""),
        (hold(RELEASED, 2), False, release(2, "another"), Does.REFUSE, "SESSION_NOT_HERE"),
        (hold(OFFERED, 2), False, release(2), Does.REFUSE, "SESSION_NOT_HERE"),
    ],
)
def test_a_device_lets_go_of_what_it_has_and_no_older_word_counts(
    before: Hold | None, here: bool, order: Release, does: Does, code: str
) -> None:
    decided = on_release(before, order, here=here)
    assert (decided.does, decided.code) == (does, code)
    if does is Does.LET_GO:
        assert decided.hold == Hold("s", order.epoch, RELEASED, "h")


@pytest.mark.parametrize(
    ("before", "order", "hindrance", "does", "code"),
    [
        (None, offer(1), "", Does.KEEP, ""),
        (None, offer(1), "DEVICE_MUTED", Does.REFUSE, "DEVICE_MUTED"),
        (hold(OFFERED, 1), offer(1), "", Does.CONFIRM, ""),
        (hold(OFFERED, 1), offer(1), "DEVICE_MUTED", Does.CONFIRM, ""),
        (hold(HELD, 1), offer(1), "", Does.CONFIRM, ""),
        (hold(HELD, 1), offer(3), "", Does.KEEP, ""),
        (hold(RELEASED, 1), offer(2), "", Does.KEEP, ""),
        (hold(RELEASED, 2), offer(2), "", Does.REFUSE, "STALE_EPOCH"),
        (hold(HELD, 2), offer(1), "", Does.REFUSE, "STALE_EPOCH"),
    ],
)
def test_a_device_keeps_what_it_is_offered_without_acting_for_it(
    before: Hold | None, order: Offer, hindrance: str, does: Does, code: str
) -> None:
    decided = on_offer(before, order, hindrance=hindrance)
    assert (decided.does, decided.code) == (does, code)
    assert decided.hold is None or not may_act(decided.hold, confirmed=False, link_lost_s=0)


@pytest.mark.parametrize(
    ("before", "here", "order", "does", "code"),
    [
        (hold(OFFERED, 1), False, adopt(1), Does.TAKE, ""),
        (hold(HELD, 1), False, adopt(1), Does.CONFIRM, ""),
        (hold(HELD, 1), False, adopt(2), Does.CONFIRM, ""),
        (None, True, adopt(1), Does.CONFIRM, ""),
        (None, False, adopt(1), Does.REFUSE, "SESSION_NOT_HERE"),
        (None, False, adopt(1, BUNDLE), Does.TAKE, ""),
        (hold(RELEASED, 1), False, adopt(3), Does.BACK, ""),
        (hold(RELEASED, 1), False, adopt(1), Does.REFUSE, "STALE_EPOCH"),
        (hold(HELD, 3), False, adopt(1), Does.REFUSE, "STALE_EPOCH"),
        (hold(OFFERED, 1), False, adopt(3), Does.REFUSE, "SESSION_NOT_HERE"),
        (hold(OFFERED, 1), False, adopt(3, BUNDLE), Does.TAKE, ""),
    ],
)
def test_a_device_adopts_what_it_was_offered_or_had_let_go_of_and_nothing_older(
    before: Hold | None, here: bool, order: Adopt, does: Does, code: str
) -> None:
    decided = on_adopt(before, order, here=here)
    assert (decided.does, decided.code) == (does, code)
    if not code:
        assert decided.hold == Hold("s", order.epoch, HELD, "h")


def test_what_others_had_since_is_not_gone_on_with_from_an_old_bundle() -> None:
    long_ago, again = hold(RELEASED, 0, "an earlier handoff"), Adopt(handoff="h", session="s", epoch=2)
    assert on_adopt(long_ago, again, here=False).code == "SESSION_NOT_HERE"
    with_bundle = again.model_copy(update={"bundle": BUNDLE})
    assert on_adopt(long_ago, with_bundle, here=False).does is Does.TAKE
    at_once = again.model_copy(update={"epoch": 1})
    assert on_adopt(long_ago, at_once, here=False).does is Does.BACK, "nobody can have had it in between"


@pytest.mark.parametrize(
    ("present", "confirmed", "lost_s", "may"),
    [
        (None, False, 3600.0, True),
        (hold(HELD, 1), True, 0.0, True),
        (hold(HELD, 1), True, LINK_LOST_S, True),
        (hold(HELD, 1), True, LINK_LOST_S + 0.1, False),
        (hold(HELD, 1), False, 0.0, False),
        (hold(RELEASED, 0), True, 0.0, False),
        (hold(OFFERED, 1), True, 0.0, False),
    ],
)
def test_a_device_goes_on_with_a_session_that_moved_only_by_the_hubs_word(
    present: Hold | None, confirmed: bool, lost_s: float, may: bool
) -> None:
    assert may_act(present, confirmed=confirmed, link_lost_s=lost_s) is may


# --------------------------------------------------------------------------------------------- the hub


def begun() -> Handoff:
    moving = Handoff(id="h", session="s", source="kitchen", target="study", target_room="study", epoch=4)
    return step(moving, Late(), 0.0)[0]


def told(
    moving: Handoff, *events: Replied | Late | Online | Offline, at: float = 0.0
) -> tuple[Handoff, list[object]]:
    orders: list[object] = []
    for event in events:
        moving, more = step(moving, event, at)
        orders += more
    return moving, orders


def ok(moving: Handoff, bundle: Bundle | None = None) -> Replied:
    return Replied(moving.phase, moving.sent, bundle=bundle)


def test_a_handoff_goes_from_release_by_offer_to_adopt() -> None:
    first = begun()
    assert command(first).do == "release"
    offering, orders = told(first, ok(first, BUNDLE))
    assert [one.command.do for one in orders if isinstance(one, Send)] == ["offer"]
    adopting, orders = told(offering, ok(offering))
    assert orders[0] == Own("s", "study", 5)
    assert [(one.to, one.command.do, one.command.epoch) for one in orders[1:] if isinstance(one, Send)] == [
        ("study", "adopt", 5)
    ]
    assert told(adopting, ok(adopting))[0].phase is Phase.OVER


def test_a_refusal_gives_it_back_under_an_epoch_above_all_that_were_given_out() -> None:
    first = begun()
    offering, _ = told(first, ok(first, BUNDLE))
    back, orders = told(offering, Replied(Phase.OFFERING, offering.sent, "DEVICE_BUSY"))
    assert orders[0] == Own("s", "kitchen", 6)
    assert (back.phase, back.why, back.speaks) == (Phase.RETURNING, "DEVICE_BUSY", True)


def test_nobody_is_told_anything_while_they_are_gone_and_the_lease_ends_it() -> None:
    first = begun()
    offering, _ = told(first, ok(first, BUNDLE))
    adopting, _ = told(offering, ok(offering))
    same, orders = told(adopting, Offline("study", LEASE_S - 1), Late(), at=0.5)
    assert (same.phase, orders) == (Phase.ADOPTING, [])
    back, orders = told(same, Offline("study", LEASE_S), at=20.0)
    assert orders[0] == Own("s", "kitchen", 6)
    assert (back.phase, back.speaks) == (Phase.RETURNING, False)


def test_who_is_gone_and_is_to_have_its_session_back_is_hardly_looked_after_and_given_up_after_a_day() -> None:
    first = begun()
    offering, _ = told(first, ok(first, BUNDLE))
    back, _ = told(offering, Replied(Phase.OFFERING, offering.sent, "DEVICE_BUSY"))
    waiting, orders = told(back, Offline("kitchen", 5.0), at=10.0)
    assert (waiting.phase, waiting.due, orders) == (Phase.RETURNING, 610.0, [])
    again, [send] = told(waiting, Online("kitchen"), at=20.0)
    assert isinstance(send, Send)
    assert send.to == "kitchen"
    assert told(again, Offline("kitchen", 23 * 3600.0), at=9e4)[0].phase is Phase.RETURNING
    assert told(again, Offline("kitchen", 24 * 3600.0), at=9e4) == (replace(again, phase=Phase.OVER), [])


def test_a_room_that_is_shut_out_in_mid_handoff_keeps_nothing() -> None:
    first = begun()
    offering, _ = told(first, ok(first, BUNDLE))
    adopting, _ = told(offering, ok(offering))
    assert told(adopting, Offline("study", inf))[1][0] == Own("s", "kitchen", 6)


def test_an_answer_of_an_earlier_life_does_not_count() -> None:
    first = begun()
    offering, _ = told(first, ok(first, BUNDLE))
    adopting, _ = told(offering, ok(offering))
    again, orders = told(adopting, Online("study"))
    assert len(orders) == 1
    assert told(again, ok(adopting))[0].phase is Phase.ADOPTING
    assert told(again, ok(again))[0].phase is Phase.OVER


def test_who_has_lost_the_bundle_gets_it_again() -> None:
    first = begun()
    offering, _ = told(first, ok(first, BUNDLE))
    adopting, _ = told(offering, ok(offering))
    again, [send] = told(adopting, Replied(Phase.ADOPTING, adopting.sent, "SESSION_NOT_HERE"))
    assert isinstance(send, Send)
    assert isinstance(send.command, Adopt)
    assert send.command.bundle is not None
    assert again.phase is Phase.ADOPTING


def test_who_has_it_back_with_its_bundle_is_sent_that_once_only_and_anew() -> None:
    first = begun()
    offering, _ = told(first, ok(first, BUNDLE))
    adopting, _ = told(offering, ok(offering))
    carrying, _ = told(adopting, Replied(Phase.ADOPTING, adopting.sent, "SESSION_NOT_HERE"))
    back, [_, send] = told(carrying, Replied(Phase.ADOPTING, carrying.sent, "SESSION_NOT_HERE"))
    assert isinstance(send, Send)
    assert isinstance(send.command, Adopt)
    assert (send.to, send.command.bundle) == ("kitchen", None)
    again, [send] = told(back, Replied(Phase.RETURNING, back.sent, "SESSION_NOT_HERE"))
    assert isinstance(send, Send)
    assert isinstance(send.command, Adopt)
    assert send.command.bundle is not None
    assert told(again, Replied(Phase.RETURNING, again.sent, "SESSION_NOT_HERE"))[0].phase is Phase.OVER


@pytest.mark.parametrize("phase", ["releasing", "offering"])
def test_who_goes_before_the_session_moved_is_not_waited_for(phase: str) -> None:
    moving = begun()
    if phase == "offering":
        moving, _ = told(moving, ok(moving, BUNDLE))
    back, orders = told(moving, Offline(moving.addressee, 0.0))
    assert back.phase is Phase.RETURNING
    assert orders[0] == Own("s", "kitchen", 5 if phase == "releasing" else 6)


def test_who_comes_and_goes_elsewhere_changes_nothing() -> None:
    first = begun()
    offering, _ = told(first, ok(first, BUNDLE))
    adopting, _ = told(offering, ok(offering))
    for event in (Offline("kitchen", LEASE_S), Online("kitchen"), Offline("bedroom", LEASE_S)):
        assert told(adopting, event) == (adopting, [])


def test_a_target_that_cannot_after_all_gives_it_back_and_one_that_knows_better_does_not() -> None:
    first = begun()
    offering, _ = told(first, ok(first, BUNDLE))
    adopting, _ = told(offering, ok(offering))
    back, orders = told(adopting, Replied(Phase.ADOPTING, adopting.sent, "STORE_ERROR"))
    assert (back.phase, orders[0]) == (Phase.RETURNING, Own("s", "kitchen", 6))
    assert told(adopting, Replied(Phase.ADOPTING, adopting.sent, "STALE_EPOCH")) == (
        replace(adopting, phase=Phase.OVER),
        [],
    )


def test_a_source_that_cannot_have_it_back_now_is_asked_again_and_at_once_when_it_is_there() -> None:
    first = begun()
    back, _ = told(first, Replied(Phase.RELEASING, first.sent, "DEVICE_BUSY"))
    same, orders = told(back, Replied(Phase.RETURNING, back.sent, "STORE_ERROR"))
    assert (same, orders) == (back, [])
    assert len(told(same, Late(), at=same.due)[1]) == 1
    assert len(told(same, Online("kitchen"))[1]) == 1
    assert told(same, ok(same))[0].phase is Phase.OVER


def test_what_only_followed_somebody_says_nothing_when_it_comes_back() -> None:
    first = replace(begun(), following=True)
    offering, _ = told(first, ok(first, BUNDLE))
    assert told(offering, Replied(Phase.OFFERING, offering.sent, "DEVICE_BUSY"))[0].speaks is False


def test_the_id_of_a_command_tells_what_its_answer_is_about() -> None:
    first = begun()
    assert read_id(command(first).id) == ("h", Phase.RELEASING, 1)
    for other in ("", "x", "a.b.c.d", "h.releasing.1.x", "h.releasing.1"):
        assert read_id(other) is None
