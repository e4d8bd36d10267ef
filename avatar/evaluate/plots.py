"""Lip-sync scores to a picture: every clip's correlation beside the envelopes', and a few curves to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avatar.errors import MissingDependencyError
from avatar.evaluate.face_track import FaceTrack

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NUM_EXAMPLES = 4
_NAME_LETTERS = 22


def plot_scores(rows: Sequence[Mapping], tracks: Mapping[str, tuple[FaceTrack, FaceTrack]], path: Path) -> None:
    """Draws one picture of a run.

    Args:
        rows: flat scores (see `LipSyncScore.flat`) with the `clip`'s name.
        tracks: (generated, truth) by the clip's name.
        path: of the PNG. Its curves are of the best clip, the worst, and two evenly spaced between them.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as err:
        raise MissingDependencyError("plots need matplotlib: pip install matplotlib") from err
    ordered = sorted(rows, key=lambda row: -np.nan_to_num(row["opening.best"], nan=-1.0))
    figure = Figure(figsize=(13, 13), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1 + NUM_EXAMPLES, 1, height_ratios=[2.2] + [1] * NUM_EXAMPLES)
    _draw_bars(axes[0], ordered)
    places = np.linspace(0, len(ordered) - 1, NUM_EXAMPLES).round().astype(int)
    for ax, row in zip(axes[1:], (ordered[place] for place in places), strict=True):
        _draw_curves(ax, row, *tracks[row["clip"]])
    axes[-1].set_xlabel("s")
    figure.savefig(path, dpi=110)


def _draw_bars(ax: Axes, rows: Sequence[Mapping]) -> None:
    places = np.arange(len(rows))
    for name, key, offset, colour in (
        ("generated", "opening.best", -0.27, "#1f5fa8"),
        ("sound's RMS", "sound_rms.best", 0.0, "#b8b8b8"),
        ("300–1000 Hz", "sound_band.best", 0.27, "#d9a441"),
    ):
        values = [row[key] for row in rows]
        ax.bar(places + offset, values, 0.27, color=colour, label=f"{name}, mean {np.nanmean(values):.2f}")
    ax.set_xticks(
        places, [f"{row['clip'][:_NAME_LETTERS]} ({row['language']})" for row in rows], rotation=90, fontsize=6
    )
    ax.set_ylabel("r with the true lip opening, best lag ±3")
    ax.axhline(0, color="black", linewidth=0.6)
    ax.legend(fontsize=8)


def _draw_curves(ax: Axes, row: Mapping, generated: FaceTrack, truth: FaceTrack) -> None:
    for name, track, colour in (("true", truth, "#444444"), ("generated", generated, "#1f5fa8")):
        ax.plot(np.arange(track.num_frames) / track.fps, track.opening, color=colour, linewidth=1.2, label=name)
    ax.set_title(
        f"{row['clip']}: r {row['opening.best']:.2f}, closures hit {row['closures_hit']:.2f} of {row['num_closures']}",
        fontsize=9,
    )
    ax.set_ylabel("opening / eyes")
    ax.legend(fontsize=7, loc="upper right")
