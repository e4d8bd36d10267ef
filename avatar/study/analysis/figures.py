"""Tables to pictures: SVG, to stand in the report itself."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from avatar.study.analysis.table import rated
from avatar.study.formats import HIGHEST_SCORE, LOWEST_SCORE, SCALES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's colours, which colour-blind readers tell apart
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_SCORE_COLOURS = ("#b2182b", "#ef8a62", "#d0d0d0", "#67a9cf", "#2166ac")


def means_figure(described: pd.DataFrame, labels: Mapping[str, str]) -> str:
    """Means with their intervals, the scales side by side."""
    scales, systems = list(described["scale"].unique()), list(labels)
    figure, axes = _figure(7.5, 3.4)
    (ax,) = axes
    for index, system in enumerate(systems):
        rows = described[described["system"] == system].set_index("scale").reindex(scales)
        x = np.arange(len(scales)) + (index - (len(systems) - 1) / 2) * 0.7 / len(systems)
        mean = rows["mean"].to_numpy(float)
        reach = np.maximum(0, [mean - rows["low"].to_numpy(float), rows["high"].to_numpy(float) - mean])
        colour = _COLOURS[index % len(_COLOURS)]
        ax.errorbar(x, mean, reach, fmt="o", capsize=3, color=colour, label=labels[system])
    ax.set_xticks(range(len(scales)), [f"{scale}\n{SCALES[scale]}" for scale in scales])
    ax.set_ylim(LOWEST_SCORE - 0.1, HIGHEST_SCORE + 0.1)
    ax.set_ylabel("mean score, 95 % interval")
    ax.grid(axis="y", alpha=0.3)
    ax.legend(fontsize=8, ncols=min(4, len(systems)), loc="upper center", bbox_to_anchor=(0.5, 1.16), frameon=False)
    return _svg(figure)


def pairs_figure(mixed: pd.DataFrame, labels: Mapping[str, str]) -> str:
    """The model's differences with their intervals; filled where Holm's p is below 0.05."""
    scales = list(mixed["scale"].unique())
    pairs = list(dict.fromkeys(zip(mixed["one"], mixed["other"], strict=True)))
    figure, axes = _figure(7.5, 0.9 + 0.32 * len(pairs), columns=len(scales))
    for ax, scale in zip(axes, scales, strict=True):
        rows = mixed[mixed["scale"] == scale].set_index(["one", "other"])
        for place, pair in enumerate(pairs):
            if pair not in rows.index:
                continue
            row = rows.loc[pair]
            face = _COLOURS[0] if row["p_holm"] < 0.05 else "white"
            ax.plot([row["low"], row["high"]], [place, place], color=_COLOURS[0])
            ax.plot(row["difference"], place, "o", color=_COLOURS[0], markerfacecolor=face)
        ax.axvline(0, color="black", linewidth=0.7)
        ax.set_ylim(len(pairs) - 0.5, -0.5)
        ax.set_title(scale, fontsize=10)
        ax.set_yticks(range(len(pairs)), [f"{labels[one]} − {labels[other]}" for one, other in pairs])
        ax.tick_params(labelleft=ax is axes[0], labelsize=8)
        ax.grid(axis="x", alpha=0.3)
    figure.supxlabel("difference in points", fontsize=9)
    return _svg(figure)


def scores_figure(table: pd.DataFrame, labels: Mapping[str, str]) -> str:
    """How often each score was given."""
    part, systems = rated(table), list(labels)
    scales = list(part["scale"].unique())
    figure, axes = _figure(7.5, 0.9 + 0.3 * len(systems), columns=len(scales))
    for ax, scale in zip(axes, scales, strict=True):
        for place, system in enumerate(systems):
            given = part[(part["scale"] == scale) & (part["system"] == system)]["score"]
            left = 0.0
            for score, colour in zip(range(LOWEST_SCORE, HIGHEST_SCORE + 1), _SCORE_COLOURS, strict=True):
                share = float((given == score).mean()) if len(given) else 0.0
                ax.barh(place, share, left=left, color=colour, label=str(score) if not place else None)
                left += share
        ax.set_title(scale, fontsize=10)
        ax.set_ylim(len(systems) - 0.5, -0.5)
        ax.set_yticks(range(len(systems)), [labels[system] for system in systems])
        ax.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        ax.tick_params(labelleft=ax is axes[0], labelsize=8)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, ncols=5, fontsize=8, loc="outside upper center", frameon=False)
    return _svg(figure)


def raters_figure(screened: pd.DataFrame) -> str:
    """Each rater's correlation with the others; those left out are marked."""
    rows = screened.sort_values("correlation", na_position="first")
    figure, axes = _figure(7.5, 2.2)
    (ax,) = axes
    colours = np.where(rows["reasons"] != "", _COLOURS[1], _COLOURS[0])
    ax.bar(range(len(rows)), rows["correlation"].fillna(0), color=colours)
    ax.set_xticks(range(len(rows)), rows["rater"], rotation=90, fontsize=6)
    ax.set_ylabel("r with the others")
    ax.axhline(0, color="black", linewidth=0.7)
    return _svg(figure)


def _figure(width_in: float, height_in: float, columns: int = 1) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def _svg(figure: Figure) -> str:
    """The picture's <svg>, the same bytes for the same content."""
    import matplotlib

    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "study", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
