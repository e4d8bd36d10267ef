"""Files to arrays and back: the only place that touches picture, sound and video containers (Pillow and PyAV).

- files.py       is it a file that can be read? is it whole?
- containers.py  opening and decoding with one-line errors
- pictures.py    picture files <-> (H, W, 3) uint8
- sound.py       sound files -> float32
- mixing.py      speech as it is given -> what is heard: checked, resampled, mixed
- video.py       video files -> frames at a constant rate
- output.py      a result file that appears whole or not at all
- soundtrack.py  the sound of an mp4 that is being written
- writer.py      frames and sound -> mp4
"""

from __future__ import annotations

from avatar.errors import MissingDependencyError

try:
    import av  # noqa: F401
    import PIL.Image  # noqa: F401
except ImportError as err:  # a wheel without its system library fails here with the library's name in the message
    raise MissingDependencyError(
        f"PyAV and Pillow read and write all media, and one of them cannot be loaded: {err}; "
        "reinstall with `pip install --force-reinstall av pillow`, or install the system library it names"
    ) from err

from avatar.media.mixing import check_waveform, mix_speech, read_speech, sound_of_video
from avatar.media.output import check_output
from avatar.media.pictures import read_picture, write_picture
from avatar.media.sound import iter_waveform, read_waveform
from avatar.media.video import VideoInfo, probe_video, read_video
from avatar.media.writer import write_video

__all__ = [
    "VideoInfo",
    "check_output",
    "check_waveform",
    "iter_waveform",
    "mix_speech",
    "probe_video",
    "read_picture",
    "read_speech",
    "read_video",
    "read_waveform",
    "sound_of_video",
    "write_picture",
    "write_video",
]
