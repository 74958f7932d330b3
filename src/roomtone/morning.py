"""After the program was stopped in the middle of a turn: what somebody may still wait for is offered again."""

from __future__ import annotations

from roomtone.app import Room
from roomtone.clock import utc_now
from roomtone.core.dialog import Offer, Source, Stage, Turn
from roomtone.core.signals import Prompt

STILL_THERE_S = 60.0
"""Who was being answered so lately still stands there: the answer goes on by itself, and is only offered later."""


def tell_what_was_cut_off(room: Room) -> None:
    """Say what the last stop of the program came into, as far as anybody still waits for it.

    What had begun by itself is left out: an alarm that nobody heard rings again, and so does a schedule that makes up
    for what was missed. In quiet hours only who still stands there is spoken to.

    A clock that shows a time well before the cut is wrong, as a Pi's is until a time server has set it: nobody knows
    then who still stands there.
    """
    conversation = room.conversation
    speaker = conversation.speaker
    for turn in room.store.unfinished:
        waited = (utc_now() - turn.at).total_seconds()
        gone = waited > speaker.persona.context_retention_hours * 3600 or turn.persona != speaker.persona.id
        still_there = abs(waited) <= STILL_THERE_S
        hushed = not still_there and room.parts.quiet.now()
        match = speaker.skills.recognise(turn.heard) if turn.heard else None
        if turn.source is Source.SCHEDULE or gone or hushed or (match is not None and match.dismisses):
            continue
        rest = turn.said.removeprefix(turn.spoken).strip()
        if turn.stage is Stage.SPEAKING and rest and still_there:
            _say(room, "cut_off", rest=rest)
        elif turn.stage is Stage.SPEAKING and rest:
            _offer(room, turn, Offer(skill="repeat", intent="go_on", slots={"rest": rest}), "cut_off_long")
        elif turn.heard and not turn.said and match is not None and match.agrees is not None:
            _say(room, "cut_off_agreeing", heard=turn.heard.rstrip(".?!"))
        elif turn.heard and not turn.said:
            _offer(room, turn, Offer(text=turn.heard), "cut_off_thinking", heard=turn.heard.rstrip(".?!"))
        elif not turn.heard and not turn.said:
            _say(room, "cut_off_hearing")


def _offer(room: Room, turn: Turn, offer: Offer, phrase: str, **values: object) -> None:
    """Ask; it is the turn that was cut off which ends in this question."""
    recorder = room.conversation.recorder
    recorder.write(room.store.save_turn(turn.model_copy(update={"offers": offer}), closed=True))
    room.conversation.expect_an_answer()
    _say(room, phrase, **values)


def _say(room: Room, phrase: str, **values: object) -> None:
    text = room.conversation.speaker.phrases.say(phrase, **values)
    room.conversation.post(Prompt(text, Source.SCHEDULE, verbatim=True))
