"""An output folder of a curation to one self-contained HTML page: what came in, what was kept, why the rest was not."""

from __future__ import annotations

from avatar.data.report.page import write_report

__all__ = ["write_report"]
