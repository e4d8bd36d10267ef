"""Picture measures: monotone in what they measure, and still apart after H.264 at crf 28."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from avatar.data.clip_media import ClipMedia, FaceTrack
from avatar.data.curation.config import CurationConfig
from avatar.data.curation.limits import Limit
from avatar.data.scorer import create_scorer, score_clip
from avatar.data.scorers.picture import (
    blockiness,
    border_frac,
    intensity,
    local_sharpness,
    noise_sigma,
    overlay_text_frac,
    sharpness,
)

ASTRONAUT = Path(__file__).resolve().parents[3] / "examples" / "astronaut.png"
GAINS, SIGMAS, FRAMES = (1.0, 0.5, 0.25, 0.1), (0.0, 1.0, 2.0, 4.0), 13
Values = dict[str, object]


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """(256, 360, 3) uint8."""
    return cv2.resize(cv2.imread(str(ASTRONAUT))[:364, :, ::-1], (360, 256), interpolation=cv2.INTER_AREA)


def _panned(picture: np.ndarray, px_per_frame: int = 1) -> np.ndarray:
    return np.stack([picture[:240, k * px_per_frame : k * px_per_frame + 320] for k in range(FRAMES)])


@pytest.fixture
def scored(tmp_path: Path) -> Callable[..., Values]:
    """Scores frames as they come out of an mp4 at the given quality."""

    def score(
        frames: np.ndarray, crf: int = 28, scorer: str = "picture", tracks: list[FaceTrack] | None = None
    ) -> Values:
        path = tmp_path / "clip.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": str(crf), "preset": "ultrafast"})
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
            container.mux(stream.encode())
        clip = ClipMedia({"clip_id": "ab", "source_uri": str(path), "start_s": 0.0, "end_s": len(frames) / 25})
        clip._tracks = tracks or []
        values, error = score_clip(create_scorer(scorer), clip)
        assert error is None and clip.num_decodes == 1
        return values

    return score


def test_brightness_falls_with_the_gain_and_stays_apart_after_compression(
    scored: Callable[..., Values], picture: np.ndarray
) -> None:
    frames = _panned(picture)
    values = [scored((frames * gain).astype(np.uint8)) for gain in GAINS]
    brightness = np.array([v["brightness_mean"] for v in values])
    np.testing.assert_allclose(brightness[1:] / brightness[0], GAINS[1:], atol=0.03)
    limit = _limit("dark")
    assert [limit.rejects(v) for v in values] == [False, False, False, True]
    dark = [v["dark_frac"] for v in values]
    assert dark == sorted(dark) and dark[-1] > dark[0] + 0.1
    assert scored(np.maximum(frames, 253))["bright_frac"] > 0.95


def test_sharpness_falls_with_blur_and_stays_apart_after_compression(
    scored: Callable[..., Values], picture: np.ndarray
) -> None:
    values = [scored(_panned(picture if sigma == 0 else cv2.GaussianBlur(picture, (0, 0), sigma))) for sigma in SIGMAS]
    for name in ("lap_var_512", "sharpness_512"):
        for sharper, softer in zip(values, values[1:], strict=False):
            assert sharper[name] > 1.4 * softer[name]
    limit = _limit("blurred_picture")
    assert [limit.rejects(v) for v in values] == [False, False, True, True]


def _limit(reason: str) -> Limit:
    return next(limit for limit in CurationConfig.load().limits if limit.reason == reason)


def test_a_dark_picture_is_as_sharp_as_a_light_one(scored: Callable[..., Values], picture: np.ndarray) -> None:
    frames = _panned(picture)
    light, dark = (scored((frames * gain).astype(np.uint8), 20) for gain in (1.0, 0.15))
    assert dark["lap_var_512"] < 0.1 * light["lap_var_512"]
    assert 0.5 < dark["sharpness_512"] / light["sharpness_512"] < 2
    assert dark["sharpness_512"] > 5 > scored(_panned(cv2.GaussianBlur(picture, (0, 0), 4.0)))["sharpness_512"]


def test_a_ground_out_of_focus_is_no_blur(picture: np.ndarray) -> None:
    """A sharp quarter is enough."""
    grey, soft = intensity(picture), intensity(cv2.GaussianBlur(picture, (0, 0), 6.0))
    shallow = soft.copy()
    shallow[:128, 90:270] = grey[:128, 90:270]
    assert local_sharpness(grey, 512) > local_sharpness(shallow, 512) > 10 > 5 > local_sharpness(soft, 512)


def test_sharpness_hardly_depends_on_the_size_of_the_source() -> None:
    """The same scene, photographed with 1.6 times the pixels."""
    whole = intensity(cv2.imread(str(ASTRONAUT))[..., ::-1].copy())
    small = cv2.resize(whole, None, fx=0.625, fy=0.625, interpolation=cv2.INTER_AREA)
    assert 0.5 < sharpness(small, 256) / sharpness(whole, 256) < 2


def test_noise_is_measured_in_grey_levels(picture: np.ndarray) -> None:
    grey = intensity(picture)
    rng = np.random.default_rng(0)
    measured = [noise_sigma(grey + rng.normal(0, sigma, grey.shape).astype(np.float32)) for sigma in (0, 4, 8, 16)]
    assert measured == sorted(measured)
    assert abs(measured[3] - 16) < 3


def test_blocks_of_a_coarse_jpeg_are_seen(picture: np.ndarray) -> None:
    coarse = cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 8])[1], cv2.IMREAD_COLOR)
    assert blockiness(intensity(coarse)) > 1.3 * blockiness(intensity(picture))
    assert abs(blockiness(intensity(picture)) - 1) < 0.15


def test_motion_grows_with_speed_and_a_still_is_a_slide(scored: Callable[..., Values], picture: np.ndarray) -> None:
    still, slow, fast = (scored(_panned(picture, speed), 18) for speed in (0, 1, 3))
    assert still["flow_mean_px"] < 1.0 < slow["flow_mean_px"] < fast["flow_mean_px"]
    expected = 3 * 3 * 512 / 240  # 3 px a frame, pictures 3 frames apart, shorter side 240 px
    assert abs(fast["flow_mean_px"] - expected) < 0.35 * expected
    assert still["slide_score"] == 1.0 and fast["slide_score"] == 0.0


def test_bars_are_measured_and_a_plain_wall_is_none(scored: Callable[..., Values], picture: np.ndarray) -> None:
    frames = _panned(picture)
    barred = frames.copy()
    barred[:, :36] = barred[:, -36:] = 0
    assert abs(scored(barred)["border_frac"] - 72 / 240) < 0.03
    assert scored(frames)["border_frac"] < 0.02
    ramp = np.linspace(120, 124, 60, dtype=np.float32)[None, :, None]
    wall = np.concatenate([np.broadcast_to(ramp, (3, 60, 320)), np.full((3, 180, 320), 124.0)], axis=1)
    assert border_frac(wall.astype(np.float32)) == 0


def test_captions_are_found_and_the_scene_is_not(scored: Callable[..., Values], picture: np.ndarray) -> None:
    frames = _panned(picture)
    for ink in ((255, 255, 255), (255, 230, 0)):
        written = [captioned(frame, "the quick brown fox", ink) for frame in frames]
        assert scored(np.stack(written))["overlay_text_frac"] > 0.012  # the limit
    changing = [
        captioned(f, ("the quick brown", "fox jumps over", "the lazy dog")[k // 5]) for k, f in enumerate(frames)
    ]
    assert scored(np.stack(changing))["overlay_text_frac"] > 0.012
    assert scored(frames)["overlay_text_frac"] < 0.004
    stripes = np.full((1, 240, 320), 128, np.uint8)
    stripes[:, 100:104] = stripes[:, :, ::40] = 255  # a railing, a wall of bricks
    assert overlay_text_frac(stripes) == 0


def captioned(frame: np.ndarray, words: str, ink: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    """White or yellow letters with a black outline, as they are burned in."""
    written = frame.copy()
    for colour, width in (((0, 0, 0), 4), (ink, 2)):
        cv2.putText(written, words, (20, 215), cv2.FONT_HERSHEY_SIMPLEX, 0.8, colour, width, cv2.LINE_AA)
    return written


def test_a_blurred_face_on_a_sharp_ground_is_seen(scored: Callable[..., Values], picture: np.ndarray) -> None:
    frames = np.stack([picture[:240, :320]] * FRAMES)
    points = np.zeros((FRAMES, 478, 3), np.float32)
    points[..., 0], points[..., 1] = np.linspace(130, 190, 478), np.linspace(20, 90, 478)
    tracks = [FaceTrack(np.arange(FRAMES, dtype=np.int32), points)]
    soft = frames.copy()
    soft[:, 15:95, 125:195] = cv2.GaussianBlur(frames[0], (0, 0), 3)[15:95, 125:195]
    sharp, blurred, dark, burnt = (
        scored(f, 20, "face_picture", tracks)
        for f in (frames, soft, (frames * 0.15).astype(np.uint8), np.clip(frames * 3.0, 0, 255).astype(np.uint8))
    )
    for name in ("face_lap_var_256", "face_sharpness_256"):
        assert sharp[name] > 3 * blurred[name]
    assert sharp["face_sharpness_256"] < 2 * dark["face_sharpness_256"]
    assert dark["face_brightness_p95"] < 0.25 < sharp["face_brightness_p95"]
    assert sharp["face_bright_frac"] < 0.1 < 0.25 < burnt["face_bright_frac"]
    assert scored(frames, 20, "face_picture") == {}
