"""The sound of an mp4 that is being written: kept as it is where it is AAC already, else encoded to AAC.

Both kinds are written in step with the picture, so that the memory never holds much of one without the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.packet import Packet

from avatar.errors import MediaError
from avatar.media.containers import decode_packets, open_container, sound_stream
from avatar.media.sound import SoundInfo, decode_sound, probe_sound
from avatar.types import Waveform

_AAC_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_NUM_CHANNELS = {"mono": 1, "stereo": 2, "5.1": 6}
_BIT_RATES = {"mono": 128_000, "stereo": 192_000, "5.1": 384_000}
_MAX_BITS_PER_SAMPLE = 5  # AAC's bit reservoir holds 6 per sample and channel; the encoder clamps above
_FRAME_SAMPLES = 1024  # of AAC-LC
_BLOCK_SAMPLES = 16_384


class EncodedSound:
    """A sound that is decoded, brought to a rate and layout AAC knows, and encoded.

    Attributes:
        sample_rate_hz: of the encoded sound.
    """

    def __init__(
        self, container: OutputContainer, blocks: Iterator[np.ndarray], sample_rate_hz: int, layout: str
    ) -> None:
        """Takes (C, S) float32 blocks of any length; C as `layout` ("mono", "stereo", "5.1") has it."""
        self.sample_rate_hz = sample_rate_hz
        self._container, self._blocks, self._layout = container, blocks, layout
        most = _MAX_BITS_PER_SAMPLE * sample_rate_hz * _NUM_CHANNELS[layout]
        self._stream = container.add_stream("aac", rate=sample_rate_hz, layout=layout)
        self._stream.codec_context.bit_rate = min(_BIT_RATES[layout], most)
        self._held = np.zeros((_NUM_CHANNELS[layout], 0), np.float32)
        self._num_written = 0

    def write_until(self, time_s: float) -> None:
        """Encodes the sound up to a moment, or to its own end if that comes first."""
        self._write_up_to(round(time_s * self.sample_rate_hz))

    def finish(self, duration_s: float) -> None:
        """Encodes the rest of `duration_s` seconds, with silence where the sound has ended."""
        total = round(duration_s * self.sample_rate_hz)
        self._write_up_to(total)
        while self._num_written < total:
            self._encode(np.zeros((len(self._held), min(_BLOCK_SAMPLES, total - self._num_written)), np.float32))
        self._container.mux(self._stream.encode(None))

    def _write_up_to(self, num_samples: int) -> None:
        while self._num_written < num_samples:
            if not self._held.shape[1]:
                block = next(self._blocks, None)
                if block is None:
                    return
                self._held = block
            wanted = num_samples - self._num_written
            self._encode(self._held[:, :wanted])
            self._held = self._held[:, wanted:]

    def _encode(self, samples: np.ndarray) -> None:
        if not samples.shape[1]:
            return
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", self._layout)
        frame.sample_rate, frame.pts = self.sample_rate_hz, self._num_written
        frame.time_base = Fraction(1, self.sample_rate_hz)
        self._num_written += samples.shape[1]
        self._container.mux(self._stream.encode(frame))


class CopiedSound:
    """AAC packets taken over unchanged, for a sound that is AAC-LC already.

    Of the packet across the picture's end the mp4 declares only the part before it, which players heed. Where the sound
    ends earlier, encoded silence of the same format follows.
    """

    def __init__(self, container: OutputContainer, path: Path, info: SoundInfo, stack: ExitStack) -> None:
        """Opens `path` for as long as `stack` lives."""
        source = stack.enter_context(open_container(path, "sound"))
        stream = sound_stream(source, path)
        self._container, self._info = container, info
        self._packets = decode_packets(source, stream, path)
        self._stream = container.add_stream_from_template(stream)
        self._tick_s = stream.time_base or Fraction(1, info.sample_rate_hz)
        # The first picture is time zero. Packets before it are the decoder's run-up; mp4's edit list keeps them so.
        self._zero = (stream.start_time or 0) - round(Fraction(info.start_s) / self._tick_s)
        self._next: Packet | None = next(self._packets, None)
        self._length = round(_FRAME_SAMPLES / info.sample_rate_hz / self._tick_s)
        self._end = 0  # of what has been written, in ticks

    def write_until(self, time_s: float) -> None:
        """Copies the packets that end before a moment."""
        limit = round(Fraction(time_s) / self._tick_s)
        while (packet := self._next) is not None and packet.pts is not None:
            if packet.pts - self._zero + self._length > limit:
                return
            self._write(packet, packet.pts - self._zero, self._length)  # the last one may declare less than it holds
            self._next = next(self._packets, None)

    def finish(self, duration_s: float) -> None:
        """Copies the rest of `duration_s` seconds, then writes silence where the sound has ended."""
        self.write_until(duration_s)
        limit = round(Fraction(duration_s) / self._tick_s)
        if self._next is not None and self._next.pts is not None and self._next.pts - self._zero < limit:
            at = self._next.pts - self._zero
            self._write(self._next, at, limit - at)
        for packet in _silent_packets(self._info.sample_rate_hz, self._info.num_channels):
            if self._end >= limit:
                return
            packet.time_base = self._tick_s
            self._write(packet, self._end, min(self._length, limit - self._end))

    def _write(self, packet: Packet, at: int, length: int) -> None:
        packet.pts = packet.dts = at
        packet.duration, packet.stream = length, self._stream
        self._end = at + length
        self._container.mux(packet)


def open_soundtrack(
    container: OutputContainer, speech: Path | Waveform, stack: ExitStack
) -> EncodedSound | CopiedSound:
    """Adds a sound track to an mp4 that is being written.

    Args:
        container: the mp4, before its first packet.
        speech: a sound file or video, whose own rate (96 kHz at most) and channels (5.1 at most) are kept; or samples.
        stack: closes what is opened here.

    Raises:
        MediaError: the sound cannot be read.
    """
    if isinstance(speech, Waveform):
        return _from_waveform(container, speech)
    info = probe_sound(speech)
    if _may_copy(info):
        return CopiedSound(container, speech, info, stack)
    rate_hz, layout = _aac_rate(info.sample_rate_hz), _aac_layout(info.num_channels)
    return EncodedSound(container, decode_sound(speech, rate_hz, layout), rate_hz, layout)


def _may_copy(info: SoundInfo) -> bool:
    """AAC-LC from an mp4, m4a or mov: packets that need nothing else. Our silence cannot follow other profiles."""
    return info.codec == "aac" and info.profile == "LC" and "mp4" in info.container and info.num_channels in (1, 2)


def _aac_rate(sample_rate_hz: int) -> int:
    return min((rate for rate in _AAC_RATES_HZ if rate >= sample_rate_hz), default=48_000)


def _aac_layout(num_channels: int) -> str:
    if num_channels >= _NUM_CHANNELS["5.1"]:
        return "5.1"
    return "mono" if num_channels == 1 else "stereo"


def _from_waveform(container: OutputContainer, speech: Waveform) -> EncodedSound:
    if not np.isfinite(speech.samples).all():
        raise MediaError("the waveform holds NaN or infinite samples; give finite ones in [-1, 1]")
    rate_hz = _aac_rate(speech.sample_rate_hz)
    pieces = range(0, len(speech.samples), _BLOCK_SAMPLES)
    blocks: Iterator[np.ndarray] = (speech.samples[None, at : at + _BLOCK_SAMPLES].astype(np.float32) for at in pieces)
    if rate_hz != speech.sample_rate_hz:
        blocks = _resampled(blocks, speech.sample_rate_hz, rate_hz)
    return EncodedSound(container, blocks, rate_hz, "mono")


def _resampled(blocks: Iterator[np.ndarray], from_hz: int, to_hz: int) -> Iterator[np.ndarray]:
    resampler = av.AudioResampler("fltp", "mono", to_hz)
    for block in blocks:
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(block), "fltp", "mono")
        frame.sample_rate = from_hz
        yield from (out.to_ndarray() for out in resampler.resample(frame))
    yield from (out.to_ndarray() for out in resampler.resample(None))


def _silent_packets(sample_rate_hz: int, num_channels: int) -> Iterator[Packet]:
    """Endless AAC silence."""
    layout = _aac_layout(num_channels)
    silence = np.zeros((num_channels, _FRAME_SAMPLES), np.float32)
    encoder = av.CodecContext.create("aac", "w")
    encoder.sample_rate, encoder.layout, encoder.format = sample_rate_hz, layout, "fltp"
    for index in itertools.count():
        frame = AudioFrame.from_ndarray(silence, "fltp", layout)
        frame.sample_rate, frame.pts = sample_rate_hz, index * _FRAME_SAMPLES
        yield from encoder.encode(frame)
