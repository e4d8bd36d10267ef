"""User studies: blinded samples out, ratings in, a verdict with its uncertainty.

    from avatar import study
    study.export_study(study.read_spec("study.toml"), "study", "study-key.json")
    study.serve("study", "ratings.db")
    analysis = study.analyze_study(["ratings.db"], "study-key.json", "report")

- spec.py        the study file
- design.py      who sees what, in which order
- clips.py       clips that look alike from outside
- naming.py      opaque names, and the key to them
- export.py      the folder and the key
- presets.py     clips made on the spot
- blinding.py    what would tell systems apart
- formats.py     study.json and the key: what the parts hand to one another
- results.py     what raters send back: sessions as JSON, answers as CSV
- page/          the rating page: `render_page(study) -> str`
- server/        hands out slots and collects answers: `create_app`, `serve`
- analysis/      ratings and the key to a report
- simulate.py    raters made of numbers; what a design can find
- command.py     the command line
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avatar.study.analysis.run import analyze_sessions, analyze_study
    from avatar.study.export import export_study, planned_design
    from avatar.study.results import read_sessions, write_sessions_csv
    from avatar.study.server import create_app, serve
    from avatar.study.simulate import detectable, power_words, simulate_sessions
    from avatar.study.spec import read_spec

_HOME = {
    "analyze_sessions": "avatar.study.analysis.run",
    "analyze_study": "avatar.study.analysis.run",
    "create_app": "avatar.study.server",
    "detectable": "avatar.study.simulate",
    "export_study": "avatar.study.export",
    "planned_design": "avatar.study.export",
    "power_words": "avatar.study.simulate",
    "read_sessions": "avatar.study.results",
    "read_spec": "avatar.study.spec",
    "serve": "avatar.study.server",
    "simulate_sessions": "avatar.study.simulate",
    "write_sessions_csv": "avatar.study.results",
}

__all__ = [
    "analyze_sessions",
    "analyze_study",
    "create_app",
    "detectable",
    "export_study",
    "planned_design",
    "power_words",
    "read_sessions",
    "read_spec",
    "serve",
    "simulate_sessions",
    "write_sessions_csv",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'avatar.study' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
