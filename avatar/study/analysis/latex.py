"""Means to a LaTeX table (booktabs), as papers print it: the best generated system of each scale in bold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{letter: "\\" + letter for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\^{}",
}


def latex_table(described: pd.DataFrame, labels: Mapping[str, str], real: str | None, num_raters: int) -> str:
    """The table.

    Args:
        described: see `describe.describe`.
        labels: by system, in the order of the rows; the real clips come last.
        real: the system of real clips, which competes with nobody.
        num_raters: for the caption.
    """
    scales = list(described["scale"].unique())
    cells = {(row.system, row.scale): row for row in described.itertuples()}
    best = {
        scale: max(
            (row.mean for (system, of), row in cells.items() if of == scale and system != real), default=float("nan")
        )
        for scale in scales
    }
    lines = []
    for system in [*(name for name in labels if name != real), *([real] if real else [])]:
        row = [_escaped(labels[system])]
        for scale in scales:
            cell = cells.get((system, scale))
            if cell is None:
                row.append("--")
                continue
            mean = f"{cell.mean:.2f}"
            mean = rf"\mathbf{{{mean}}}" if system != real and cell.mean == best[scale] else mean
            row.append(rf"${mean} \pm {cell.sd:.2f}$")
        if system == real and len(labels) > 1:
            lines.append(r"\midrule")
        lines.append(" & ".join(row) + r" \\")
    head = " & ".join(["System", *(rf"{scale} $\uparrow$" for scale in scales)]) + r" \\"
    columns = "l" + "c" * len(scales)
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{User study, {num_raters} raters: mean opinion score (1 to 5) $\pm$ standard deviation of the ratings.}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            head,
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(letter, letter) for letter in text)
