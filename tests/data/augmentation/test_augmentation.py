"""Augmented clips: sound and pictures stay together, a style stays the same throughout, and what breaks a face is dropped."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from avatar.data.augmentation import offline
from avatar.data.augmentation.guard import check_changed, envelope_offset_s
from avatar.data.augmentation.offline import (
    AugmentOptions,
    _written,
    augment_rare,
    change_clip,
    elsewhere,
    plan_augmentation,
)
from avatar.data.augmentation.stretch import stretch_frames, stretch_series, stretch_sound
from avatar.data.augmentation.style import (
    STYLES,
    ColourStatistics,
    Restyle,
    colour_transfer,
    drawn,
    grey,
    image_to_image,
    painted,
    random_style,
)
from avatar.data.clip_sources import SourceClip, find_clips, labels_of
from avatar.data.sync.lag_curve import SyncResult
from avatar.emotion.labels import EMOTIONS
from avatar.errors import MediaError, OptionError
from avatar.face_mesh import INNER_LIP_PAIRS, canonical_vertices
from avatar.media import read_picture, write_video
from avatar.types import Waveform

PORTRAIT = Path(__file__).resolve().parents[3] / "examples/astronaut.png"
FPS, RATE = 25, 16_000


def talking(seconds: float = 8.0, seed: int = 0) -> tuple[np.ndarray, Waveform]:
    """An opening (T,) and a buzzing voice as loud as it is wide."""
    rng = np.random.default_rng(seed)
    opening = gaussian_filter1d(rng.standard_normal(int(seconds * FPS)), 2.0)
    opening = np.clip(0.3 + 0.5 * opening / opening.std(), 0, 1)
    t = np.arange(int(seconds * RATE)) / RATE
    loud = np.interp(t, np.arange(len(opening)) / FPS + 0.5 / FPS, opening)
    buzz = sum(np.sin(2 * np.pi * 140 * k * t + k) / k for k in range(1, 12))
    return opening, Waveform((0.1 * loud * buzz).astype(np.float32))


@pytest.mark.parametrize("factor", [0.85, 0.9, 1.1, 1.15])
def test_stretched_sound_and_pictures_stay_in_step(factor: float) -> None:
    opening, speech = talking()
    slower = stretch_sound(speech, factor)
    shown = stretch_series(opening, factor)
    assert len(slower.samples) == round(len(speech.samples) * factor) and len(shown) == round(len(opening) * factor)
    assert abs(envelope_offset_s(shown, slower)) < 0.02
    assert abs(envelope_offset_s(opening, slower)) > 0.02 or abs(1 - factor) < 0.12  # the test can fail


@pytest.mark.parametrize("factor", [0.85, 1.15])
def test_stretched_pictures_show_what_was_there_at_their_moment(factor: float) -> None:
    """A ball that rolls: where it is seen, in a clip of as many frames as the moments asked for."""
    rng = np.random.default_rng(0)
    texture = gaussian_filter(rng.normal(120, 200, (80, 80)), 2).clip(0, 255)
    y, x = np.indices((80, 120))

    def picture(place: float) -> np.ndarray:
        ball = np.exp(-((np.hypot(x - place, y - 40) / 12) ** 6))
        return np.repeat((40 + ball * np.pad(texture, ((0, 0), (0, 40)), mode="wrap"))[..., None], 3, 2).astype(
            np.uint8
        )

    places = 30 + 2.0 * np.arange(25)
    frames = np.stack([picture(place) for place in places])
    made = stretch_frames(frames, factor)
    light = made[..., 0].astype(float) - made[..., 0].min()
    weight = light * (light > 30)
    seen = (weight * x).sum((1, 2)) / weight.sum((1, 2))
    own = frames[..., 0].astype(float) - frames[..., 0].min()
    own = own * (own > 30)
    true = np.interp(np.arange(len(made)) / factor, np.arange(25), (own * x).sum((1, 2)) / own.sum((1, 2)))
    assert len(made) == round(25 * factor) and made.dtype == np.uint8
    assert np.abs(seen - true).max() < 0.5  # px; to hold the nearest picture is up to 1 px off
    assert (
        np.abs(frames[np.round(np.arange(len(made)) / factor).astype(int).clip(max=24)] - made.astype(float)).max() > 5
    )


@pytest.mark.parametrize("factor", [0.85, 1.15])
def test_the_pitch_is_kept(factor: float) -> None:
    t = np.arange(2 * RATE) / RATE
    out = stretch_sound(Waveform(np.sin(2 * np.pi * 200 * t).astype(np.float32)), factor).samples
    middle = out[len(out) // 4 : -len(out) // 4]
    peak = np.fft.rfftfreq(len(middle), 1 / RATE)[np.abs(np.fft.rfft(middle * np.hanning(len(middle)))).argmax()]
    assert peak == pytest.approx(200, abs=2)
    assert middle.std() == pytest.approx(np.sqrt(0.5), rel=0.05)


def test_a_factor_of_one_changes_nothing() -> None:
    opening, speech = talking(2.0)
    assert np.array_equal(stretch_sound(speech, 1.0).samples, speech.samples)
    assert np.array_equal(stretch_series(opening, 1.0), opening)
    pictures = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3)).astype(np.uint8)
    assert np.array_equal(stretch_frames(pictures, 1.0), pictures)
    with pytest.raises(OptionError, match="by 0.5 to 2, not by 3"):
        stretch_sound(speech, 3.0)


def test_colours_are_taken_over_but_not_a_complexion() -> None:
    rng = np.random.default_rng(0)
    one = rng.integers(60, 120, (40, 40, 3)).astype(np.uint8)
    near = one + np.array([20, 10, 5], np.uint8)
    far = rng.integers(100, 220, (40, 40, 3)).astype(np.uint8) // np.array([1, 2, 1], np.uint8)
    own = ColourStatistics.of(one)
    got = ColourStatistics.of(colour_transfer(own, ColourStatistics.of(near))(one))
    assert np.abs(got.mean - ColourStatistics.of(near).mean).max() < 2
    assert np.abs(got.mean - own.mean).max() > 4  # something was taken
    limited = ColourStatistics.of(colour_transfer(own, ColourStatistics.of(far))(one))
    assert np.abs(limited.mean - own.mean).max() < 13
    assert np.abs(colour_transfer(own, ColourStatistics.of(far), 0.0)(one).astype(int) - one).max() <= 1


@pytest.mark.parametrize("style", [painted(120), drawn(120), grey])
def test_a_style_keeps_the_size_and_not_the_picture(style: Restyle) -> None:
    image = read_picture(PORTRAIT)[:200, 150:350]
    out = style(image)
    assert out.shape == image.shape and out.dtype == np.uint8 and not np.array_equal(out, image)


def test_paint_takes_grain_away_and_leaves_edges() -> None:
    rng = np.random.default_rng(0)
    clean = np.where(np.arange(80)[None, :, None] < 40, 70, 180) * np.ones((80, 80, 3))
    out = painted(180)((clean + 6 * rng.standard_normal(clean.shape)).clip(0, 255).astype(np.uint8)).astype(float)
    assert out[10:-10, 10:30].std() < 3  # of 6
    rise = np.diff(out[10:-10, :, 0].mean(axis=0))
    assert rise.argmax() == 39 and rise.max() > 0.8 * 110


def test_brush_and_pen_go_by_the_face() -> None:
    image = read_picture(PORTRAIT)[:200, 150:350]
    twice = image.repeat(2, axis=0).repeat(2, axis=1)
    for style in (painted, drawn):
        small, large = style(180)(image).astype(int), style(360)(twice)[::2, ::2].astype(int)
        unscaled = style(180)(twice)[::2, ::2].astype(int)
        assert np.abs(small - large).mean() < 0.75 * np.abs(small - unscaled).mean()


def test_lines_are_drawn_where_light_gives_way_to_dark_and_not_on_flat_ground() -> None:
    image = np.where(np.arange(80)[None, :, None] < 40, 70, 180) * np.ones((80, 80, 3), int)
    light, out = 180, drawn(160)(image.astype(np.uint8)).mean(axis=2)
    assert out[40, 34:40].min() < 0.7 * out[40, 5] and abs(out[40, 70] - light) < 25


def test_a_style_is_fixed_within_a_clip_and_named() -> None:
    image = read_picture(PORTRAIT)[:128, 150:300]
    names = set()
    for seed in range(12):
        name, restyle = random_style(np.random.default_rng(seed), image, 60, lambda rng: image[::-1])
        names.add(name)
        assert np.array_equal(restyle(image), restyle(image.copy()))
    assert names <= set(STYLES) and len(names) > 1
    with pytest.raises(OptionError, match="strength of a style"):
        image_to_image("nowhere", "a drawing", strength=0.0)


def faces(opening: np.ndarray) -> np.ndarray:
    """(T, 478, 3) px: the mean face with its lips that far apart."""
    points = np.repeat((canonical_vertices() * (12, -12, 12) + 200)[None], len(opening), axis=0).astype(np.float32)
    for upper, lower in INNER_LIP_PAIRS:
        points[:, lower, 1] = points[:, upper, 1] + 20 * opening
    return points


def test_the_guard_lets_pass_what_moves_as_before_and_names_what_does_not() -> None:
    opening, _ = talking()
    points, found = faces(opening), np.ones(len(opening), bool)
    noise = np.random.default_rng(0).normal(size=points.shape)
    assert check_changed(points, points + 0.3 * noise, found).passes
    assert check_changed(points, points, found & (np.arange(len(found)) % 3 > 0)).reasons == ("face lost",)
    assert "face changed" in check_changed(points, points + 30 * noise, found).reasons
    assert "lips changed" in check_changed(points, faces(talking(seed=1)[0]), found).reasons
    assert check_changed(points, faces(np.roll(opening, 5)), found).reasons == ("lips early or late",)
    assert check_changed(points, points, found & False).reasons == ("no face",)


def test_the_guard_asks_nothing_of_frames_without_a_face_to_begin_with() -> None:
    points = faces(talking()[0])
    known = np.arange(len(points)) > 20
    original = points * known[:, None, None]
    assert check_changed(original, points, np.ones(len(points), bool), known=known).passes
    assert "face changed" in check_changed(original, points, np.ones(len(points), bool)).reasons


@pytest.mark.parametrize(
    ("before", "after", "stretch", "passes"),
    [
        (SyncResult(1, 0.5, 0.5, 99), SyncResult(1, 0.45, 0.5, 99), 1.0, True),
        (SyncResult(1, 0.5, 0.5, 99), SyncResult(3, 0.45, 0.5, 99), 1.0, False),
        (SyncResult(1, 0.5, 0.5, 99), SyncResult(1, 0.2, 0.5, 99), 1.0, False),
        (SyncResult(10, 0.5, 0.5, 99), SyncResult(11, 0.5, 0.5, 99), 1.15, True),
        (SyncResult(1, 0.5, 0.5, 99), None, 1.0, False),
        (SyncResult(-9, 0.05, 0.5, 99), SyncResult(7, 0.05, 0.5, 99), 1.0, True),  # says nothing
        (None, None, 1.0, True),
    ],
)
def test_the_guard_compares_what_the_sync_scorer_says(
    before: SyncResult | None, after: SyncResult | None, stretch: float, passes: bool
) -> None:
    points = faces(talking()[0])
    report = check_changed(points, points, np.ones(len(points), bool), sync=(before, after), stretch=stretch)
    assert report.reasons == (() if passes else ("out of sync",))


def test_a_clip_that_would_fill_the_memory_is_refused_and_colours_of_a_broken_one_are_not_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = np.zeros((10, 32, 32, 3), np.uint8)
    write_video(tmp_path / "a.mp4", iter([frames]), fps=25, speech=Waveform(np.zeros(6400, np.float32)))
    (tmp_path / "b.mp4").write_bytes(b"no video")
    assert offline._frames(tmp_path / "a.mp4").shape == frames.shape
    clips = [SourceClip(name, tmp_path / f"{name}.mp4") for name in "ab"]
    drawn_from = [offline._Pictures(clips).any(np.random.default_rng(seed)) for seed in range(6)]
    assert all(picture.shape == (32, 32, 3) for picture in drawn_from)
    monkeypatch.setattr(offline, "_MOST_BYTES", 5 * 32 * 32 * 3)
    with pytest.raises(MediaError, match=r"longer than 0 s of 32 x 32 px, .*; let `avatar curate` cut it"):
        offline._frames(tmp_path / "a.mp4")


def test_rare_cells_are_filled_up_and_common_ones_left() -> None:
    clips = [SourceClip(f"h{k}", Path("x"), labels={"emotion": "happy"}) for k in range(9)]
    clips += [SourceClip("s", Path("x"), labels={"emotion": "sad"})]
    clips += [SourceClip("v", Path("x"), split="val", labels={"emotion": "sad"})]
    plan = plan_augmentation(clips, AugmentOptions(by=("emotion",), wanted=6, per_clip=3))
    assert plan == [(9, 0), (9, 1), (9, 2)]
    with pytest.raises(OptionError, match="wanted and per_clip"):
        AugmentOptions(wanted=0)
    with pytest.raises(OptionError, match="share of the made clips, between 0 and 1, not 1.5"):
        AugmentOptions(sound=1.5)


def test_sound_from_elsewhere_is_as_loud_and_in_time() -> None:
    opening, speech = talking()
    for seed in range(4):
        other = elsewhere(speech, np.random.default_rng(seed))
        assert other.samples.shape == speech.samples.shape and np.abs(other.samples).max() <= 1
        assert other.samples.std() == pytest.approx(speech.samples.std(), rel=0.3)
        assert not np.allclose(other.samples, speech.samples, atol=0.01)
        assert abs(envelope_offset_s(opening, other)) < 0.03


@pytest.mark.parametrize(
    ("label", "written", "read"),
    [
        ("sad", "sad", "sad"),
        ({"happy": 0.7, "neutral": 0.3}, "happy:0.7", {"happy": 0.7, "neutral": 0.3}),
        ({"happy": 2.0, "sad": 1.0}, "happy:0.666,sad:0.333", {"happy": 0.666, "sad": 0.333, "neutral": 0.001}),
        ({"neutral": 1.0}, "neutral", "neutral"),
        ({"apparent 0": 0.2, "apparent 1": 0.8}, "apparent 1", "apparent 1"),
    ],
)
def test_a_mixed_label_stays_mixed(label: str | dict[str, float], written: str, read: str | dict[str, float]) -> None:
    assert _written(label) == written
    assert labels_of({"emotion": written})["emotion"] == (pytest.approx(read) if isinstance(read, dict) else read)


def test_a_mix_of_all_emotions_is_read_back() -> None:
    mix = {name: 1 / len(EMOTIONS) for name in EMOTIONS}
    assert labels_of({"emotion": _written(mix)})["emotion"] == pytest.approx(mix, abs=0.01)


@pytest.mark.slow
def test_made_clips_are_a_folder_to_train_on(tmp_path: Path) -> None:
    speech = Waveform((np.random.default_rng(0).standard_normal(16_000) * 0.05).astype(np.float32))
    frames = np.repeat(read_picture(PORTRAIT)[None, :400, :400], 25, axis=0)
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in/one.mp4", iter([frames]), fps=25, speech=speech)
    write_video(tmp_path / "in/none.mp4", iter([frames * 0]), fps=25, speech=speech)
    (tmp_path / "in/manifest.csv").write_text("path,emotion\none.mp4,sad\nnone.mp4,sad\n")
    options = AugmentOptions(by=("emotion",), wanted=6, per_clip=2, sound=1.0)
    folder, reports = augment_rare([tmp_path / "in"], tmp_path / "out", options)
    assert [name for name, report in reports.items() if report.passes] == ["one-v0.mp4", "one-v1.mp4"]
    left_out = list(csv.DictReader((folder / "left_out.csv").open()))
    assert {row["guard"] for row in left_out} == {"no face is found in the clip"}
    clips = find_clips([folder])
    assert [(clip.person, clip.split) for clip in clips] == [("one", None)] * 2
    assert clips[0].labels["style"] in STYLES and clips[0].labels["made_from"] == "one"
    assert clips[0].labels["sound"] == "elsewhere"
    assert augment_rare([tmp_path / "in"], tmp_path / "out", options)[1] == {}


@pytest.mark.slow
def test_a_style_that_destroys_the_face_is_refused() -> None:
    speech = Waveform((np.random.default_rng(0).standard_normal(16_000) * 0.05).astype(np.float32))
    frames = np.repeat(read_picture(PORTRAIT)[None, :400, :400], 25, axis=0)
    assert change_clip(frames, speech, 1.1, painted(150)).report.passes
    for destroy, reason in ((lambda image: image // 64 * 0, "no face"), (lambda image: image[::-1], "face")):
        report = change_clip(frames, speech, 1.0, destroy).report  # type: ignore[arg-type]
        assert not report.passes and any(reason in text for text in report.reasons)
