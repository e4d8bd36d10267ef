"""Clips to scores: the scorers in the order of cost on one decoding of each clip, as far as no limit has rejected it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from avatar.data.clip_media import ClipMedia
from avatar.data.curation.config import CurationConfig
from avatar.data.curation.folder import CurationFolder, read_sidecars
from avatar.data.curation.limits import Limit, first_reason
from avatar.data.engines.work import Engine, Piece, cut_shards
from avatar.data.manifest import join_sidecars
from avatar.data.scorer import Scorer, create_scorer, score_clip
from avatar.errors import OptionError

DONE, FAILED = "_done", "_failed"  # which scorers a row has been through, and which of them failed


@dataclass(frozen=True)
class Stage:
    """A scorer in a curation.

    Attributes:
        name: as the configuration has it.
        options: of `[scorer.NAME]`.
        columns: what it fills.
        folder: of its sidecar files.
    """

    name: str
    options: Mapping[str, Any]
    columns: pa.Schema
    folder: Path


def stages_of(names: Sequence[str], config: CurationConfig, folder: CurationFolder) -> list[Stage]:
    """The scorers of a pass.

    Raises:
        OptionError: no such scorer, options it does not have, weights whose licence was not accepted, or two that fill one column.
    """
    stages: list[Stage] = []
    for name in names:
        options = config.scorer_options(name)
        scorer = create_scorer(name, options)
        for weight in scorer.weights:
            if weight.is_noncommercial and not config["accept_noncommercial"]:
                raise OptionError(
                    f"scorer {name!r} loads {weight.name} ({weight.license}), for non-commercial use only; "
                    "set accept_noncommercial = true if yours is, or leave the scorer out"
                )
        for before in stages:
            if shared := [column for column in scorer.columns.names if column in before.columns.names]:
                raise OptionError(
                    f"scorers {before.name!r} and {name!r} both fill {', '.join(shared)}; name one of them in scorers"
                )
        stages.append(Stage(name, options, scorer.columns, folder.sidecars(scorer.name, scorer.version, options)))
    return stages


@dataclass
class ScoreWork:
    """All scorers of a pass on one clip.

    Attributes:
        root: the output folder.
        stages: in the order of cost.
        limits: what rejects a clip; () where scorers look at rejected clips too.
    """

    root: Path
    stages: Sequence[Stage]
    limits: Sequence[Limit]
    key: str = "clip_id"
    _scorers: dict[str, Scorer] = field(default_factory=dict)

    @property
    def outputs(self) -> Mapping[str, pa.Schema]:
        return {stage.name: stage.columns for stage in self.stages}

    def setup(self) -> None:
        """Makes the scorers and loads their models."""
        for stage in self.stages:
            self._scorers[stage.name] = create_scorer(stage.name, stage.options)
            self._scorers[stage.name].setup()

    def run(self, row: Mapping[str, Any]) -> Iterator[str | Piece]:
        clip = ClipMedia({name: value for name, value in row.items() if name not in (DONE, FAILED)}, self.root)

        def measure(stage: Stage) -> Iterator[Piece]:
            values, error = score_clip(self._scorers[stage.name], clip)
            yield Piece(stage.name, values, error)

        yield from _walk(row, self.stages, self.limits, measure)


def score(
    clips: pa.Table,
    stages: Sequence[Stage],
    config: CurationConfig,
    folder: CurationFolder,
    engine: Engine,
    progress: Callable[[int, int], None],
) -> None:
    """Runs the scorers of a pass on whatever clips have not been through them.

    Args:
        clips: joined with what earlier passes measured.
        stages: of this pass.
        config, folder, engine: of the curation.
        progress: told (done, total) rows.
    """
    limits = config.limits if config["lazy"] else ()
    table = joined(clips, stages)
    rows = [index for index, row in enumerate(_gate_rows(table, stages, limits)) if _needs_work(row, stages, limits)]
    todo = table.take(pa.array(rows, pa.int64()))
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        progress(done, len(todo))

    folders = {stage.name: stage.folder for stage in stages}
    shards = list(cut_shards(todo, folders, folder.inbox, "clip_id", engine.num_workers))
    work = ScoreWork(folder.root, stages, limits)
    engine.run(work, shards, timeout_s=config["engine"]["timeout_s"], progress=tell)


def joined(clips: pa.Table, stages: Sequence[Stage]) -> pa.Table:
    """The clips with the columns of the scorers, and the lists of those they have been through and that failed."""
    sidecars, done, failed = [], [], []
    for stage in stages:
        table = read_sidecars(stage.folder, "clip_id", stage.columns)
        errors = dict(zip(table.column("clip_id").to_pylist(), table.column("error").to_pylist(), strict=True))
        done.append(errors.keys())
        failed.append({clip: words for clip, words in errors.items() if words is not None})
        sidecars.append(table.drop_columns(["error", "cpu_s"]))
    ids = clips.column("clip_id").to_pylist()
    lists = [[s.name for s, there in zip(stages, done, strict=True) if clip in there] for clip in ids]
    errors_of = [
        {s.name: words[clip] for s, words in zip(stages, failed, strict=True) if clip in words} for clip in ids
    ]
    if DONE in clips.column_names:  # of an earlier pass
        lists = [a + b for a, b in zip(clips.column(DONE).to_pylist(), lists, strict=True)]
        errors_of = [{**dict(a), **b} for a, b in zip(clips.column(FAILED).to_pylist(), errors_of, strict=True)]
        clips = clips.drop_columns([DONE, FAILED])
    table = join_sidecars(clips, sidecars)
    table = table.append_column(DONE, pa.array(lists, pa.list_(pa.string())))
    return table.append_column(
        FAILED, pa.array([list(e.items()) for e in errors_of], pa.map_(pa.string(), pa.string()))
    )


def _walk(
    row: Mapping[str, Any],
    stages: Sequence[Stage],
    limits: Sequence[Limit],
    measure: Callable[[Stage], Iterator[Piece]],
) -> Iterator[str | Piece]:
    """Goes through the scorers in order and measures what is missing, until a limit rejects or a scorer fails.

    Only what is known up to each scorer counts, so that the result does not depend on what an earlier run had measured.
    """
    later = {name for stage in stages for name in stage.columns.names}
    known = {name: value for name, value in row.items() if name not in later}
    failed = dict(row[FAILED] or {})
    if limits and failed.keys() - {stage.name for stage in stages}:
        return
    for stage in stages:
        if first_reason(limits, known) is not None:
            return
        if stage.name in row[DONE]:
            known.update({name: row[name] for name in stage.columns.names if name in row})
            if limits and stage.name in failed:
                return
            continue
        yield stage.name
        for piece in measure(stage):
            yield piece
            known.update(piece.values)
            if limits and piece.error is not None:
                return


def _needs_work(row: Mapping[str, Any], stages: Sequence[Stage], limits: Sequence[Limit]) -> bool:
    if row["start_s"] is None:  # a source that could not be read
        return False
    return next(_walk(row, stages, limits, lambda stage: iter(())), None) is not None


def _gate_rows(table: pa.Table, stages: Sequence[Stage], limits: Sequence[Limit]) -> Iterator[Mapping[str, Any]]:
    """The rows with no more columns than limits read."""
    wanted = {"start_s", "width_px", "height_px", DONE, FAILED}
    wanted |= {limit.column for limit in limits} | {name for limit in limits for name in limit.when}
    for batch in table.select([name for name in table.column_names if name in wanted]).to_batches(4096):
        yield from batch.to_pylist()
