"""Messages from room to room: recorded and sent as they were said here, said or played here as they come.

The sound is in memory alone, on both sides and on the way. What comes while it is quiet waits for the end of that; a
recorded message that waited too long is only told of.
"""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from roomtone import outbound
from roomtone.core.dialog import Source, new_id
from roomtone.core.errors import AudioError, EgressRefused, EngineUnavailable, HouseError, PayloadError
from roomtone.core.recorded import Recordings, pieces
from roomtone.core.signals import Prompt
from roomtone.core.sound import RATE, Audio, to_int16
from roomtone.core.speakable import in_words
from roomtone.core.wire import LONGEST_MESSAGE_S, Announce, Code, Piece, Reply, Say, read
from roomtone.flow import worker
from roomtone.link import Inbound, Link
from roomtone.mind import Answer
from roomtone.mind.delivering import delivered, refused
from roomtone.mind.house import Delivered, House, Neighbour
from roomtone.parts import Parts
from roomtone.utterance import Utterance

log = logging.getLogger(__name__)

GO_AHEAD_S = 12.0
"""So long after it was asked for a message may begin: a "go ahead" is said meanwhile."""

KEPT_S = 3600.0
"""So long a message is kept that waits for the end of quiet hours."""

EXPIRES_S = 120
"""So long a message may be on its way."""

ARRIVES_S = 1.0
"""So long the command to play a message waits for the last of its pieces."""

ANSWER_S = 3600.0
"""So long somebody may answer what was announced."""

TAIL_S = 0.25
"""Quiet that is left at the end of a message, of what the room waited for more words."""

LOUDNESS_DBFS = -22.0
"""What speech in a message is raised to: a synthesiser's is about so loud, somebody across the room far less."""

MOST_GAIN_DB = 24.0
PEAK = 0.9
"""No sample comes nearer to full scale by it, and a quiet room's noise does not become a storm."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A message that is to be said next, for a room (None: all others), until ``until`` (the loop's time)."""

    to: Neighbour | None
    until: float


class Intercom:
    """Implements ``carrying.Carrier`` for the turns of a room, and takes what the edge and the house hand on.

    ``deliver`` asks the hub to carry something. ``house`` are the other rooms.
    """

    def __init__(
        self,
        parts: Parts,
        device: str,
        link: Link,
        house: Callable[[], House],
        deliver: Callable[[Announce], Awaitable[Delivered]],
    ) -> None:
        self._parts = parts
        self._link = link
        self._house = house
        self._deliver = deliver
        self._topic = link.topics.device(device, "audio")
        self._wanted: Wanted | None = None
        self._came = Recordings(KEPT_S)
        self._news = asyncio.Event()
        self._asker: tuple[str, str, float] | None = None
        link.on(self._topic, self.take, no_local=True)

    async def run(self) -> None:
        """Carry the messages of the room's turns for as long as this runs."""
        self._parts.housed.carrier = self
        try:
            await asyncio.Event().wait()
        finally:
            self._parts.housed.carrier = None

    # ---------------------------------------------------------------------------------- what is said here

    def record_for(self, to: Neighbour | None) -> None:
        """Carry what is said here next, as it is said."""
        self._wanted = Wanted(to, _now() + GO_AHEAD_S)

    def waits(self) -> bool:
        """Say whether what is said next is a message."""
        return self._wanted is not None and _now() < self._wanted.until

    def drop(self) -> None:
        """Wait for no message any more."""
        self._wanted = None

    async def carry(self, utterance: Utterance) -> Answer:
        """Send a message that is over, and return what to say of that."""
        wanted, self._wanted = self._wanted, None
        phrases = self._parts.phrases
        try:
            outcome = await self._send(utterance, wanted.to if wanted is not None else None)
            told = delivered(outcome, phrases)
        except (HouseError, EgressRefused) as error:
            log.warning("a message was not carried: %s", error.message)
            told = refused(error, phrases)
        except (AudioError, EngineUnavailable) as error:
            log.warning("a message could not be recorded: %s", error.message)
            told = phrases.say("house_unrecorded")
        return Answer("skill", _whole(told), intent="intercom.message")

    async def _send(self, utterance: Utterance, to: Neighbour | None) -> Delivered:
        message = levelled(message_of(utterance))
        with worker("intercom") as thread:
            sound = await thread.call(encode, message)
        outbound.leaving(self._link.host, len(sound), "audio", "intercom")
        id_ = new_id()
        for piece in pieces(id_, sound, message.seconds):
            await self._link.publish(self._topic, piece, expires_s=EXPIRES_S)
        return await self._deliver(Announce(to=to.id if to else "", audio=id_))

    # --------------------------------------------------------------------------------------- what comes

    def answer_to(self) -> Neighbour | None:
        """Return who waits for an answer to what was announced here last."""
        if self._asker is None or _now() > self._asker[2]:
            return None
        device, room, _ = self._asker
        known = (each for each in self._house().rooms() if each.id == device)
        return next(known, Neighbour(device, room or device))

    async def take(self, message: Inbound) -> None:
        """Take a piece of a message. Raises PayloadError for one that fits nowhere."""
        self._came.add(read(Piece, message.payload), _now())
        self._news.set()

    async def say(self, order: Say) -> Reply:
        """Say or play what comes, now or when it is quiet no more; the reply's code tells. Raises StoreError."""
        if order.audio is not None and not await self._arrived(order.audio):
            gone = "the recorded message did not arrive; say it again"
            return Reply(of=order.id, ok=False, code=PayloadError.code, message=gone)
        quiet = self._parts.quiet
        prompt = Prompt(
            self._text(order),
            Source.HUB,
            verbatim=True,
            chime=order.chime and not (order.urgent and quiet.now()),
            sound=order.audio,
            persona=order.persona,
        )
        if order.answer_to is not None:
            self._asker = (order.answer_to, order.sender, _now() + ANSWER_S)
        if await quiet.announce([prompt], urgent=order.urgent):
            return Reply(of=order.id)
        return Reply(of=order.id, code=Code.QUIET, message="it waits for the end of quiet hours")

    def _text(self, order: Say) -> str:
        phrases, room = self._parts.phrases, in_words(order.sender)
        if order.audio is not None:
            return phrases.say("from_room" if room else "from_somebody", room=room)
        return phrases.say("from_room_text", room=room, text=order.text) if room else order.text

    async def _arrived(self, id_: str) -> bool:
        """Wait for the last piece of a message; commands come by another way, which may be shorter."""
        try:
            async with asyncio.timeout(ARRIVES_S):
                while self._came.get(id_, _now()) is None:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def recorded(self, id_: str) -> Audio | None:
        """Return a message that came, None where it is not kept any more or cannot be played."""
        recording = self._came.get(id_, _now())
        if recording is None:
            return None
        try:
            with worker("intercom") as thread:
                return await thread.call(decode, recording.sound)
        except (AudioError, EngineUnavailable) as error:
            log.warning("a message cannot be played: %s", error.message)
            return None


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _whole(text: str) -> AsyncIterator[str]:
    yield text


# ---------------------------------------------------------------------------------------------- sound


def message_of(utterance: Utterance) -> Audio:
    """Return what somebody said, 30 s at most, without the silence in which the room waited for more."""
    sound = [each.samples for each in utterance.sound()]
    samples = np.concatenate(sound) if sound else np.zeros(0, np.int16)
    if utterance.ended_at is not None and utterance.last_speech_at is not None:
        waited = max(0.0, utterance.ended_at - utterance.last_speech_at - TAIL_S)
        samples = samples[: max(0, len(samples) - round(waited * RATE))]
    return Audio(samples[: round(LONGEST_MESSAGE_S * RATE)])


def levelled(sound: Audio) -> Audio:
    """Return speech as loud as a synthesiser's, measured by its loudest fifth of 20 ms frames."""
    frames = len(sound) // 320
    if frames == 0:
        return sound
    powers = np.square(sound.samples[: frames * 320].reshape(frames, 320) / 32768).mean(axis=1)
    loudest = np.sort(powers)[-max(1, frames // 5) :].mean()
    peak = float(np.abs(sound.samples.astype(np.float32)).max()) / 32768
    if loudest <= 0.0 or peak <= 0.0:
        return sound
    gain = 10 ** (min(LOUDNESS_DBFS - 10 * np.log10(loudest), MOST_GAIN_DB) / 20)
    return Audio(to_int16(sound.samples * min(gain, max(1.0, PEAK / peak))), sound.rate)


def encode(sound: Audio) -> bytes:
    """Return sound as Ogg Opus. Raises AudioError, and EngineUnavailable where the library is too old for it."""
    soundfile = _soundfile()
    file = io.BytesIO()
    try:
        soundfile.write(file, sound.samples, sound.rate, format="OGG", subtype="OPUS")
    except (soundfile.LibsndfileError, ValueError) as error:
        raise AudioError(f"the message cannot be compressed: {error}") from error
    return file.getvalue()


def decode(sound: bytes) -> Audio:
    """Read Ogg Opus, the first channel of it, 30 s at most. Raises AudioError for what is none."""
    soundfile = _soundfile()
    try:
        with soundfile.SoundFile(io.BytesIO(sound)) as file:
            frames = round((LONGEST_MESSAGE_S + 1) * file.samplerate)
            samples = file.read(frames, dtype="int16", always_2d=True)[:, 0]
            return Audio(np.ascontiguousarray(samples), file.samplerate)
    except (soundfile.LibsndfileError, ValueError) as error:
        raise AudioError(f"the message cannot be read: {error}") from error


def can_carry() -> bool:
    """Say whether what messages are compressed with is installed; it is not imported for that."""
    return find_spec("soundfile") is not None


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise EngineUnavailable(
            "messages between rooms need libsndfile; install it: sudo apt-get install libsndfile1"
        ) from error
    return soundfile
