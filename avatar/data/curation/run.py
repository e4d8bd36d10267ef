"""A folder of videos to a manifest, shards and a report: the stages in their order."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa

from avatar.data.curation.config import CurationConfig
from avatar.data.curation.decide import decide, with_duplicates
from avatar.data.curation.export import export
from avatar.data.curation.folder import CurationFolder, read_sidecars, rows_to_do
from avatar.data.curation.ingest import ingest
from avatar.data.curation.limits import check_columns
from avatar.data.curation.probe import VERSION as PROBE_VERSION
from avatar.data.curation.probe import ProbeWork
from avatar.data.curation.scoring import DONE, FAILED, Stage, joined, score, stages_of
from avatar.data.curation.segments import segment
from avatar.data.curation.shots import VERSION as SHOTS_VERSION
from avatar.data.curation.shots import ShotSettings, ShotsWork
from avatar.data.curation.split import with_splits
from avatar.data.engines.local import LocalEngine
from avatar.data.engines.work import Engine, RowWork, cut_shards
from avatar.data.manifest import SCHEMA, read_table, write_table
from avatar.data.readers import load_recipe
from avatar.data.report import write_report
from avatar.data.scorer import scorer_names
from avatar.errors import OptionError

StageProgress = Callable[[str, int, int], None]  # stage, rows done, rows in all


def curate(
    source: str | Path,
    out: str | Path,
    config: str | Path | Mapping[str, Any] | None = None,
    engine: Engine | None = None,
    *,
    recipe: str | None = None,
    report: bool = True,
    retry_failed: bool = False,
    progress: StageProgress | None = None,
) -> Path:
    """Curates a folder of videos.

    What an earlier run has done in `out` is not done again; the sources are only read. A killed run goes on where it was.

    Args:
        source: the folder, or one video.
        out: receives the manifest, the sidecar tables, the shards and the report; made when absent.
        config: TOML, or what would be in it; only what differs from the defaults.
        engine: None: one process per processor.
        recipe: how the corpus is laid out; None: every video, at any depth.
        report: whether the page is written.
        retry_failed: whether what failed in an earlier run, such as a clip that took too long, is tried again.
        progress: told the stage, and its rows done and in all.

    Returns:
        The manifest's path.

    Raises:
        MediaError: there is no video.
        OptionError: the configuration or the recipe.
        OutputError: `out` cannot be written, or another run is at work there.
        MissingDependencyError, WeightsError: something that a scorer needs.
    """
    settings = CurationConfig.load(load_recipe(recipe).curation if recipe else None, config)
    folder = CurationFolder(out)
    tell = progress or (lambda stage, done, total: None)
    early, late = _stages(settings, folder)
    sources = ingest(Path(source), recipe, folder.root)
    with folder.locked(), closing(LocalEngine()) if engine is None else nullcontext(engine) as engine:
        folder.tidy()
        if retry_failed:
            folder.forget_failures()
        write_table(folder.sources, sources)
        folder.write_settings(settings.values)
        clips = segment(_looked_through(sources, settings, folder, engine, tell), settings["segments"]["max_s"])
        write_table(folder.clips, clips)
        score(clips, early, settings, folder, engine, lambda done, total: tell("score", done, total))
        if late:
            table = with_duplicates(joined(clips, early), settings.limits, folder.copies)
            score(table, late, settings, folder, engine, lambda done, total: tell("late scores", done, total))
        manifest = _decided(clips, settings, folder, early, late)
        write_table(folder.manifest, manifest)
        export(manifest, settings, folder, engine, lambda done, total: tell("export", done, total))
        if report:
            _report(folder, tell)
        shutil.rmtree(folder.inbox, ignore_errors=True)
    return folder.manifest


def rethreshold(out: str | Path, config: str | Path | Mapping[str, Any] | None = None, *, report: bool = True) -> Path:
    """Applies other limits to what has been measured; the shards are left as they are.

    Nothing is decoded but the pictures of the page.

    Args:
        out: of an earlier `curate`.
        config: what differs from that run; clips that would now be kept but were never measured by some scorer are rejected as
            `unmeasured:SCORER`, and the next `curate` with this configuration measures them.
        report: whether the page is written.

    Returns:
        The manifest's path.

    Raises:
        MediaError: `out` has no clips.
    """
    folder = CurationFolder(out)
    settings = CurationConfig.load(folder.read_settings(), config)
    early, late = _stages(settings, folder)
    with folder.locked():
        write_table(folder.manifest, _decided(read_table(folder.clips), settings, folder, early, late))
        folder.write_settings(settings.values)
        if report:
            _report(folder, lambda stage, done, total: None)
    return folder.manifest


def _report(folder: CurationFolder, tell: StageProgress) -> None:
    tell("report", 0, 1)
    write_report(folder.root)
    tell("report", 1, 1)


def _stages(settings: CurationConfig, folder: CurationFolder) -> tuple[list[Stage], list[Stage]]:
    """The scorers before and after the search for duplicates; what the configuration says of stages and limits is checked."""
    names = [*settings["scorers"], *settings["late_scorers"]]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise OptionError(f"scorers and late_scorers name {', '.join(twice)} more than once; once is enough")
    for name in settings["scorer"]:
        if name not in names and name not in (known := scorer_names()):
            raise OptionError(
                f"there are options for a scorer {name!r}; accepted: {', '.join(known)}, or one in scorers"
            )
    early, late = (
        stages_of(settings["scorers"], settings, folder),
        stages_of(settings["late_scorers"], settings, folder),
    )
    check_columns(settings.limits, [*SCHEMA, *(field for stage in (*early, *late) for field in stage.columns)])
    return early, late


def _decided(
    clips: pa.Table, settings: CurationConfig, folder: CurationFolder, early: list[Stage], late: list[Stage]
) -> pa.Table:
    """The manifest, sorted by clip."""
    table = with_duplicates(joined(joined(clips, early), late), settings.limits, folder.copies)
    split = settings["split"]
    table = with_splits(table, split["val"], split["test"], split["seed"])
    table = decide(table, settings, [stage.name for stage in (*early, *late)])
    return table.drop_columns([DONE, FAILED]).sort_by("clip_id")


def _looked_through(
    sources: pa.Table, settings: CurationConfig, folder: CurationFolder, engine: Engine, tell: StageProgress
) -> pa.Table:
    """The sources with the columns of the probe and the shots, and `source_error`."""
    probed = _source_stage(sources, "probe", PROBE_VERSION, ProbeWork(), settings, folder, engine, tell)
    readable = probed.filter(pa.compute.is_null(probed.column("error"))).drop_columns(["error"])
    work = ShotsWork(ShotSettings(**settings["shots"]))
    options = {key: value for key, value in settings["shots"].items()}
    shots = _source_stage(readable, "shots", SHOTS_VERSION, work, settings, folder, engine, tell, options)
    damaged = probed.filter(pa.compute.is_valid(probed.column("error")))
    both = [_with_error(damaged, "probe"), _with_error(shots, "shots")]
    return pa.concat_tables(both, promote_options="default").sort_by("source_id")


def _source_stage(
    sources: pa.Table,
    name: str,
    version: str,
    work: RowWork,
    settings: CurationConfig,
    folder: CurationFolder,
    engine: Engine,
    tell: StageProgress,
    options: Mapping[str, Any] | None = None,
) -> pa.Table:
    """Runs a stage on the sources that lack it; the sources with its columns and `error`."""
    target, columns = folder.sidecars(name, version, options), work.outputs[name]
    todo = rows_to_do(sources, "source_key", read_sidecars(target, "source_key", columns))
    done = 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        tell(name, done, len(todo))

    shards = list(cut_shards(todo, {name: target}, folder.inbox, "source_key", engine.num_workers))
    engine.run(work, shards, timeout_s=settings["engine"]["timeout_s"], progress=count)
    measured = read_sidecars(target, "source_key", columns).drop_columns(["cpu_s"])
    rows = {row["source_key"]: row for row in measured.to_pylist()}
    schema = pa.schema([*sources.schema, *columns, pa.field("error", pa.string())])
    merged = [{**row, **rows[row["source_key"]]} for row in sources.to_pylist()]
    return pa.Table.from_pylist(merged, schema=schema)


def _with_error(sources: pa.Table, stage: str) -> pa.Table:
    words = [f"{stage}: {error}" if error else None for error in sources.column("error").to_pylist()]
    return sources.drop_columns(["error"]).append_column("source_error", pa.array(words, pa.string()))
