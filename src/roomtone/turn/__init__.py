"""One turn: a one-way chain of streams from what was said to the loudspeaker. The end of the task is its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from itertools import count
from typing import Any

from roomtone import outbound
from roomtone.core.dialog import Source
from roomtone.core.endpoint import Completeness
from roomtone.core.errors import AudioError, EgressRefused, EngineError, EngineTimeout, RoomtoneError, ToolError
from roomtone.core.signals import Dismiss, FirstSound, FloorKept, FloorTaken, Overheard
from roomtone.engines.llm import LlmError, Trouble
from roomtone.engines.stt import Transcript
from roomtone.flow import close, is_cancelled
from roomtone.mind import Answer
from roomtone.mouth import Speech
from roomtone.stopwatch import Stopwatch
from roomtone.turn.anticipating import Foresight, anticipating
from roomtone.turn.carrying import SHORTEST_S, took_back
from roomtone.turn.live import Chain, LiveTurn
from roomtone.utterance import Utterance

log = logging.getLogger(__name__)

STT_BOUND_S = 12.0
"""A recogniser that has no final text this long after the utterance ended has failed; someone is waiting."""

READERS = (Source.CLI, Source.WEB)
"""Who reads the answer, whether or not it is spoken."""

RING_PAUSE_S = 3.0
"""Quiet between two rounds of a ring, in which a word is heard best."""


async def take(live: LiveTurn, chain: Chain) -> None:
    """Run a turn to its end. Every failure becomes a line spoken aloud; only cancellation comes through."""
    with chain.outgoing(live):
        await _take(live, chain)


async def _take(live: LiveTurn, chain: Chain) -> None:
    error = await _attempt(_answer_it(live, chain))
    if error is None:
        return
    log.warning("turn %s: %s", live.trace, error.message)
    live.fail(error)
    if chain.mouth.loudspeaker.trouble is not None:
        return  # an apology would not be heard either
    live.said = f"{live.said.rstrip()} ".lstrip()
    worse = await _attempt(_speak(live, _whole(_apology(live, chain, error)), chain))
    if worse is not None:
        log.warning("turn %s: %s", live.trace, worse.message)
        chain.post(FirstSound(live.number))
        await _attempt(chain.mouth.failure_chime())


async def _attempt(work: Coroutine[Any, Any, None]) -> RoomtoneError | None:
    """Do it; return why it failed. A fault of ours is an error like another: the log has its traceback."""
    try:
        await work
    except Exception as error:
        if is_cancelled():
            raise asyncio.CancelledError from error
        if isinstance(error, RoomtoneError):
            return error
        log.exception("internal error")
        return EngineError(f"internal error: {error}")
    return None


async def _answer_it(live: LiveTurn, chain: Chain) -> None:
    def session() -> str:
        return live.session.id if live.session else ""

    async with anticipating(chain.mind, chain.household, live.watch.waiting, live.trace, session) as foresight:
        if live.utterance is not None:
            hearing = _hear(live, live.utterance, chain, foresight)
            # A message arrives as it was said, whether or not its words were understood.
            await (_attempt(hearing) if live.carries else hearing)
        await live.committed.wait()
        await _answer_heard(live, chain, foresight)


async def _answer_heard(live: LiveTurn, chain: Chain, foresight: Foresight) -> None:
    loop = asyncio.get_running_loop()
    live.watch.understood = loop.time()
    _settle_message(live, chain)
    chain.tell(live, "turn.heard")
    chain.keep(live)
    await asyncio.sleep(0)  # the store writes in order: what was said is kept before what it brings about
    with live.watch.waiting():
        await live.free.wait()
    if live.prompt is not None and live.prompt.alarm is not None:
        await _come_due(live, live.prompt.alarm, chain)
        return
    live.answer = await _think(live, chain, foresight)
    if live.answer is None:
        return
    beyond = live.into_ring and live.answer.answered_by == "offline"
    if live.rival and (live.answer.dismisses or live.answer.opens or beyond):
        chain.post(Dismiss(live.source))
        return
    if live.prompt is not None and live.prompt.chime:
        chain.post(FirstSound(live.number))
        await chain.mouth.announce()
    await _speak(live, live.answer.deltas, chain)
    if live.prompt is not None and live.prompt.sound is not None:
        await _replay(live.prompt.sound, live, chain)


def _settle_message(live: LiveTurn, chain: Chain) -> None:
    """Tell a message from its being taken back; what a recogniser made of a message is nobody's to keep."""
    if not live.carries or live.utterance is None or chain.carrier is None:
        return
    if took_back(live.utterance, live.transcript, chain.skills):
        chain.carrier.drop()
        live.carries = False
    else:
        live.transcript = None


async def _replay(sound: str, live: LiveTurn, chain: Chain) -> None:
    """Play what somebody said in another room; where it is not kept any more, say so."""
    recorded = await chain.carrier.recorded(sound) if chain.carrier is not None else None
    if recorded is not None:
        await chain.mouth.replay(recorded, chain.voice())
        return
    live.said += " "
    await _speak(live, _whole(chain.phrases.say("message_gone")), chain)


async def _hear(live: LiveTurn, utterance: Utterance, chain: Chain, foresight: Foresight) -> None:
    """Recognise the utterance while it is being spoken. Raises EngineError, but not before it may be answered."""
    try:
        async with asyncio.timeout(None) as bound:
            with live.watch.waiting(), utterance.limiting(bound, STT_BOUND_S):
                await _transcribe(live, utterance, chain, foresight)
        chain.note_health("stt", "ok")
    except Exception as error:  # whatever it was: nobody may speak up before the person has finished
        if is_cancelled():
            raise asyncio.CancelledError from error
        late = f"the recogniser had no answer after {STT_BOUND_S:g} s"
        failure = EngineTimeout(late) if isinstance(error, TimeoutError) else error
        chain.note_health("stt", str(failure))
        if live.rival:
            chain.post(FloorKept(live.number))
        if utterance.overheard:
            chain.post(Overheard(live.number, understood=False))
        await live.committed.wait()
        raise failure from error


async def _transcribe(live: LiveTurn, utterance: Utterance, chain: Chain, foresight: Foresight) -> None:
    transcripts = chain.stt.transcribe(utterance, chain.hints)
    try:
        async for transcript in transcripts:
            live.transcript = transcript
            completeness = _judge(live, transcript, chain)
            certain = not (
                live.rival or live.carries or utterance.overheard or transcript.growing or transcript.final
            )
            if chain.anticipates and certain and completeness is not Completeness.INCOMPLETE:
                foresight.consider(transcript.text)
    finally:
        await close(transcripts)


def _judge(live: LiveTurn, transcript: Transcript, chain: Chain) -> Completeness:
    """Say what a text means for the wait for more words, and for who has the floor; return whether it may be all."""
    completeness = chain.skills.completeness(transcript.text)
    if live.carries:  # who tells others something takes breath
        completeness = Completeness.INCOMPLETE
    if not transcript.final and not transcript.growing:
        chain.expect(live, completeness)
    if live.utterance is not None and live.utterance.overheard and transcript.final:
        chain.post(Overheard(live.number, _is_command(transcript, chain)))
    if not live.rival:
        return completeness
    words = transcript.text != live.joined_text and _are_words(live, transcript, chain)
    if words and (transcript.final or completeness is Completeness.COMPLETE):
        chain.post(FloorTaken(live.number))
    elif transcript.final:
        chain.post(FloorKept(live.number))
    return completeness


def _is_command(transcript: Transcript, chain: Chain) -> bool:
    match = chain.skills.recognise(transcript.text) if transcript.text else None
    return match is not None and not match.backchannel and (transcript.sure or not match.opening)


def _are_words(live: LiveTurn, transcript: Transcript, chain: Chain) -> bool:
    """Whether somebody said something into a reply, rather than nodded or coughed."""
    if live.carries and live.utterance is not None:
        return live.utterance.voiced_s >= SHORTEST_S
    match = chain.skills.recognise(transcript.text) if transcript.text else None
    if live.stops_only:
        return match is not None and match.dismisses
    if match is None:
        return bool(transcript.text)
    if match.opening and not transcript.sure:
        return False
    return not match.backchannel or (live.into_ring and match.agrees is not None)


async def _think(live: LiveTurn, chain: Chain, foresight: Foresight) -> Answer | None:
    """Return the answer, or None where silence is right."""
    if live.prompt is not None and live.prompt.broken:
        return await foresight.go_on(live.prompt.text)
    if live.prompt is not None and live.prompt.verbatim:
        by = await chain.as_whom(live.prompt.persona)
        return Answer(answered_by="none", deltas=_whole(live.prompt.text), by=by)
    if live.prompt is not None and live.prompt.routine is not None:
        return await chain.household.run_routine(live.prompt.routine)
    if live.carries and live.utterance is not None and chain.carrier is not None:
        if live.utterance.voiced_s < SHORTEST_S:
            return None
        chain.household.acts()
        return await chain.carrier.carry(live.utterance)
    if not live.heard and not chain.admits(live):
        return None
    if live.into_ring:  # whatever is said to a ring, it was heard; a model need not be asked what it means
        return await chain.mind.answer(live.heard, chain.household)
    chosen = await chain.choose(live)
    if chosen is None:
        return await foresight.answer(live.heard)
    with outbound.within(chosen.persona.egress):
        answer = await foresight.answer_as(chosen.talking, chosen.household, live.heard)
    answer.intent, answer.by = f"persona.{chosen.persona.id}", chosen.persona
    return answer


async def _come_due(live: LiveTurn, alarm: str, chain: Chain) -> None:
    """Ring; or tell what need not ring any more, no louder than anything else is said."""
    if not chain.only_tells(alarm):
        with chain.mouth.ringing():
            await _ring(live, alarm, chain)
    elif (text := chain.ring_line(alarm)) is not None:
        await _speak(live, _whole(text), chain)


async def _ring(live: LiveTurn, alarm: str, chain: Chain) -> None:
    """Ring, louder each round, until somebody says or does something, or the ring is over.

    A loudspeaker or a synthesiser that fails may be back in the next round; what was said once is not recorded again.
    """
    last, told = None, ""
    for round_ in count():
        await live.free.wait()
        text = chain.ring_line(alarm)
        if text is None:
            return
        chain.post(FirstSound(live.number))
        failed = await _attempt(chain.mouth.alarm_chime(round_))
        if text != last:
            live.said = f"{live.said} ".lstrip()
            failed = await _attempt(_speak(live, _whole(text), chain)) or failed
        else:
            again = chain.mouth.speak(_whole(text), chain.voice(), Speech(), Stopwatch(), _nothing_yet, _nothing)
            failed = await _attempt(again) or failed
        if failed is not None and failed.message != told:
            log.warning("turn %s: %s", live.trace, failed.message)
        told = failed.message if failed is not None else ""
        last = text
        await asyncio.sleep(RING_PAUSE_S)


async def _nothing_yet() -> None:
    pass


def _nothing() -> None:
    pass


async def _whole(text: str) -> AsyncIterator[str]:
    yield text


async def _speak(live: LiveTurn, deltas: AsyncIterator[str], chain: Chain) -> None:
    loop = asyncio.get_running_loop()

    async def noted() -> AsyncIterator[str]:
        try:
            async for delta in deltas:
                if live.watch.first_word is None:
                    live.watch.first_word = loop.time()
                live.said += delta
                yield delta
            live.whole = True
        finally:
            await close(deltas)  # a routine that is cut short does no more

    async def first_sound() -> None:
        await chain.kept(live)
        live.watch.first_sound = loop.time()
        chain.post(FirstSound(live.number))
        chain.tell(live, "turn.first_sound")
        chain.keep(live)

    try:
        with chain.outgoing(live):  # who speaks now may have taken over in this turn, and keep more to itself
            if (trouble := chain.mouth.loudspeaker.trouble) is not None:
                await _write(noted(), live, trouble)
                return
            await chain.mouth.speak(
                noted(), chain.voice(), live.speech, live.watch, first_sound, lambda: chain.keep(live)
            )
    except EngineError as error:
        chain.note_health("tts", error.message)
        raise
    chain.note_health("tts", "ok")


async def _write(text: AsyncIterator[str], live: LiveTurn, trouble: str) -> None:
    """Answer in writing alone. Raises AudioError where nobody reads it, so that what rings is not taken for heard."""
    async for _ in text:
        pass
    if live.source not in READERS:
        raise AudioError(trouble)


_TROUBLES = {
    Trouble.KEY: "model_key",
    Trouble.CREDIT: "model_credit",
    Trouble.LIMIT: "model_limit",
    Trouble.MODEL: "model_unknown",
    Trouble.REFUSED: "model_refused",
}


def _apology(live: LiveTurn, chain: Chain, error: RoomtoneError) -> str:
    """Return what to say about a failure: what a skill says of itself, else which part of the turn it hit."""
    if isinstance(error, ToolError):
        return error.message
    if isinstance(error, LlmError):
        lost = live.answer is not None and live.answer.answered_by.startswith("llm:")  # more than "let me think"
        before = "model_acted" if live.acted else _TROUBLES.get(error.trouble, "model_gone")
        return chain.phrases.say("model_lost" if lost else before)
    if isinstance(error, EgressRefused):
        return chain.phrases.say("model_forbidden")
    if live.watch.understood is None:
        return chain.phrases.say("hearing_failed")
    return chain.phrases.say("thinking_failed" if live.answer is None else "speaking_failed")
