"""The manifest: one Parquet row per clip, joined from the clips table and the sidecar tables of the stages.

`SCHEMA` is the source of truth. Units are in the names; null means not measured, never 0 and never NaN; a rejected clip
stays a row, with `keep` false and its `reject_reasons`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from avatar.errors import MediaError, MissingDependencyError, OptionError
from avatar.types import BBox

SCHEMA_VERSION = "1"
NORM_VERSION = "25fps-16khz-1"  # how a clip is seen: part of its id, since another view is another clip

_TEXT, _REAL, _INT = pa.string(), pa.float64(), pa.int32()
_PROBS = pa.list_(pa.float32())


def _fields(kind: pa.DataType, names: str) -> list[pa.Field]:
    return [pa.field(name, kind) for name in names.split()]


_GROUPS: dict[str, list[pa.Field]] = {
    "identity": [
        *_fields(_TEXT, "clip_id source_id source_uri source_sha256 license consent recipe split"),
        pa.field(
            "identity", _TEXT, metadata={"doc": "who is seen, as the corpus names them; null where it does not say"}
        ),
    ],
    "geometry": [
        *_fields(_REAL, "start_s end_s duration_s"),
        pa.field("fps", _REAL, metadata={"doc": "of the view: 25; the file's own is source_fps"}),
        *_fields(_INT, "n_frames width_px height_px rotation_deg sample_rate_hz n_channels"),
        *_fields(_INT, "crop_left_px crop_top_px crop_right_px crop_bottom_px"),
        pa.field("source_fps", _REAL),
        pa.field("is_vfr", pa.bool_()),
        pa.field("media_uri", _TEXT),
        pa.field("media_bytes", pa.int64()),
    ],
    "picture": [
        pa.field("brightness_mean", _REAL, metadata={"doc": "mean HSI intensity, 0 to 1"}),
        *_fields(_REAL, "dark_frac bright_frac lap_var_512 face_lap_var_256 noise_sigma blockiness"),
        pa.field("sharpness_512", _REAL, metadata={"doc": "of the sharpest tenth; light and contrast do not count"}),
        pa.field("face_sharpness_256", _REAL, metadata={"doc": "of the face; light and contrast do not count"}),
        pa.field("face_brightness_p95", _REAL, metadata={"doc": "intensity of the face's lightest parts, 0 to 1"}),
        pa.field("face_bright_frac", _REAL, metadata={"doc": "share of the face that is clipped"}),
        *_fields(_REAL, "flow_mean_px flow_fg_px flow_bg_px cam_jitter slide_score border_frac overlay_text_frac"),
        *_fields(_REAL, "transition_score"),
    ],
    "faces": [
        pa.field("face_backend", _TEXT),
        *_fields(_INT, "n_faces_max n_tracks"),
        *_fields(_REAL, "main_track_cov face_w_px face_h_px face_cx face_cy face_jitter yaw_deg_p95 pitch_deg_p95"),
        *_fields(_REAL, "id_cos_min corner_face_score"),
        pa.field("track_uri", _TEXT, metadata={"doc": "npz of the face tracks, relative to the output folder"}),
    ],
    "sync": [
        pa.field("sync_backend", _TEXT),
        *_fields(_REAL, "sync_conf sync_dist"),
        pa.field("sync_margin", _REAL, metadata={"doc": "likeness above that of strange sound as long; ours only"}),
        pa.field("sync_offset_frames", _REAL, metadata={"doc": "at 25 fps; > 0: the audio is early, must be delayed"}),
        pa.field("sync_offset_ms", _REAL, metadata={"doc": "> 0: the audio is early and must be delayed by so much"}),
        *_fields(_INT, "sync_n_windows sync_speaker_track"),
        pa.field("sync_envelope_conf", _REAL, metadata={"doc": "of the envelope scorer, the baseline"}),
        pa.field("sync_envelope_offset_ms", _REAL),
    ],
    "quality": [
        pa.field("aes_backend", _TEXT),
        *_fields(_REAL, "aes_score aes_std"),
        pa.field("iqa_backend", _TEXT),
        *_fields(_REAL, "iqa_score"),
    ],
    "duplicates": [
        pa.field("phash8", pa.binary(64), metadata={"doc": "64-bit pHash of 8 frames, evenly spaced"}),
        pa.field("phash_crops", pa.binary(), metadata={"doc": "the same of the middle 0.9 and 0.8 of the frames"}),
        pa.field("motion_fp", pa.binary(), metadata={"doc": "int8 (n, 4): motion by rows of the picture, 12.5 Hz"}),
        pa.field("audio_fp", pa.binary(), metadata={"doc": "uint32 (n,): codes of the sound, 31.25 Hz; 0 where quiet"}),
        pa.field("emb_backend", _TEXT),
        pa.field("embedding", pa.list_(pa.float32())),
        pa.field("dup_group", _TEXT, metadata={"doc": "the smallest clip_id of the group; null: alone"}),
        pa.field("dup_is_best", pa.bool_()),
        pa.field("dup_sim", _REAL),
    ],
    "sound": [
        pa.field("language", _TEXT, metadata={"doc": "BCP 47; und where it is unknown"}),
        pa.field("language_prob", _REAL),
        pa.field("transcript", _TEXT),
        pa.field("asr_backend", _TEXT),
        *_fields(_REAL, "speech_frac loudness_lufs clipping_frac snr_db"),
    ],
    "captions": [
        pa.field("caption_parts", pa.list_(_TEXT)),
        *_fields(_TEXT, "caption_object caption_scene caption_video"),
        pa.field("caption_check", _TEXT, metadata={"doc": "consistent, conflict or unchecked"}),
        pa.field("caption_conflicts", pa.list_(_TEXT)),
        *_fields(_TEXT, "caption_model prompt_version"),
        pa.field("mllm_flags", pa.map_(_TEXT, _TEXT), metadata={"doc": "question to yes, no or unsure"}),
    ],
    "labels": [
        pa.field("emotion", _TEXT, metadata={"doc": "the declared label, or the likeliest of emotion_probs"}),
        pa.field("emotion_intensity", _TEXT),
        pa.field("emotion_probs", _PROBS),
        pa.field("emotion_label_set", _TEXT),
        *_fields(_REAL, "valence arousal dominance"),
        *_fields(_TEXT, "sex age_group ethnicity"),  # declared by the corpus or the person
        *_fields(_PROBS, "apparent_ethnicity_probs apparent_age_probs apparent_sex_probs"),
        pa.field(
            "label_source",
            _TEXT,
            metadata={"doc": "declared, model, or declared and model: label_backend has the models"},
        ),
        pa.field("label_backend", _TEXT),
        pa.field("style", _TEXT),
    ],
    "decision": [
        pa.field("keep", pa.bool_()),
        pa.field("reject_reasons", pa.list_(_TEXT)),
        pa.field("stage_errors", pa.map_(_TEXT, _TEXT), metadata={"doc": "scorer to what went wrong"}),
        *_fields(_TEXT, "pipeline_version config_hash"),
    ],
}

SCHEMA = pa.schema(
    [field for group in _GROUPS.values() for field in group],
    metadata={"avatar_manifest_version": SCHEMA_VERSION, "norm_version": NORM_VERSION},
)
# Labels that a corpus may declare; a SourceRecord carries them to its clips.
DECLARABLE = tuple(
    "identity language transcript emotion emotion_intensity valence arousal dominance sex age_group ethnicity "
    "style".split()
)


@dataclass(frozen=True)
class SourceRecord:
    """One video that a corpus reader found, or one time window of it.

    Attributes:
        source_id: a name that is unique in the corpus and stays the same; as a rule the path inside the corpus.
        path: the file.
        start_s, end_s: the part that the corpus means; None: from the start, to the end.
        crop: the part of the picture that the corpus means, source px; None: all.
        license: of this video where known, else the corpus's.
        consent: what is known of it, in the corpus's words.
        declared: labels, by manifest column (`DECLARABLE`).
    """

    source_id: str
    path: Path
    start_s: float | None = None
    end_s: float | None = None
    crop: BBox | None = None
    license: str | None = None
    consent: str | None = None
    declared: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        strangers = sorted(set(self.declared) - set(DECLARABLE))
        if strangers:
            raise OptionError(
                f"{self.source_id}: a corpus cannot declare {', '.join(strangers)}; accepted: {', '.join(DECLARABLE)}"
            )


def columns(*names: str) -> pa.Schema:
    """The schema of some manifest columns: what a scorer declares as its own.

    Raises:
        OptionError: SCHEMA has no such column.
    """
    strangers = [name for name in names if name not in SCHEMA.names]
    if strangers:
        raise OptionError(f"the manifest has no column {', '.join(strangers)}; accepted: {', '.join(SCHEMA.names)}")
    return pa.schema([SCHEMA.field(name) for name in names])


def clip_id(source_sha256: str, start_s: float, end_s: float, copy: int = 0) -> str:
    """16 hex digits from what the clip is: content, window, view.

    Args:
        source_sha256: of the file.
        start_s, end_s: the window.
        copy: 0 for the first file with this content, 1 for the second …: each is a row of its own.
    """
    parts = [source_sha256, str(round(start_s * 1e6)), str(round(end_s * 1e6)), NORM_VERSION]
    if copy:
        parts.append(str(copy))
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def write_table(path: Path, table: pa.Table) -> Path:
    """Writes a Parquet file whole or not at all; the same table gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    pq.write_table(table, beside, compression="zstd")
    os.replace(beside, path)
    return path


def read_table(path: Path) -> pa.Table:
    """Reads a Parquet file.

    Raises:
        MediaError: it is missing or not Parquet.
    """
    try:
        return pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowInvalid) as err:
        raise MediaError(f"{path} cannot be read as Parquet: {err}; run `avatar curate` again to make it") from err


def read_manifest(path: str | Path) -> pa.Table:
    """The manifest of an output folder, or a manifest file.

    Raises:
        MediaError: there is none, or it was written by another version of the schema.
    """
    path = Path(path)
    table = read_table(path / "manifest.parquet" if path.is_dir() else path)
    version = (table.schema.metadata or {}).get(b"avatar_manifest_version", b"none").decode()
    if version != SCHEMA_VERSION:
        raise MediaError(
            f"{path} is a manifest of version {version}, this is {SCHEMA_VERSION}; run `avatar curate` again"
        )
    return table


def table_from_rows(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows to a table of just these columns; what a row lacks is null."""
    listed = [{name: row.get(name) for name in schema.names} for row in rows]
    return pa.Table.from_pylist(listed, schema=schema)


def join_sidecars(clips: pa.Table, sidecars: Sequence[pa.Table]) -> pa.Table:
    """Puts the columns of sidecar tables beside the clips, by clip_id; a later table's value wins over an earlier one's null.

    Args:
        clips: has clip_id; one row each.
        sidecars: each has clip_id, at most one row per clip, and any further columns.

    Returns:
        The clips in their order, with every column of SCHEMA (null where nobody measured), then further columns.

    Raises:
        MissingDependencyError: DuckDB is not installed.
    """
    try:
        import duckdb
    except ImportError as err:
        raise MissingDependencyError('the manifest is joined by DuckDB; pip install "avatar[curate]"') from err
    tables = {f"t{index}": table for index, table in enumerate([clips, *sidecars])}
    types: dict[str, pa.DataType] = {}
    for table in tables.values():
        types.update({f.name: f.type for f in table.schema if f.name not in types})
    chosen = []
    for name in types:
        values = [f'{key}."{name}"' for key, table in tables.items() if name in table.schema.names]
        chosen.append(f'{values[0] if name == "clip_id" else "coalesce(" + ", ".join(values) + ")"} AS "{name}"')
    joins = " ".join(f"LEFT JOIN {key} ON t0.clip_id = {key}.clip_id" for key in list(tables)[1:])
    with duckdb.connect() as connection:
        connection.register("t0", clips.append_column("_order", pa.array(range(len(clips)), pa.int64())))
        for key, table in list(tables.items())[1:]:
            connection.register(key, table)
        joined = connection.sql(f"SELECT {', '.join(chosen)} FROM t0 {joins} ORDER BY t0._order").to_arrow_table()
    return with_schema(joined.cast(pa.schema([pa.field(name, kind) for name, kind in types.items()])))


def with_schema(table: pa.Table) -> pa.Table:
    """The table with every column of SCHEMA, in that order, null where it had none; further columns follow."""
    there = set(table.column_names)
    arrays = [table.column(f.name).cast(f.type) if f.name in there else pa.nulls(len(table), f.type) for f in SCHEMA]
    further = [name for name in table.column_names if name not in SCHEMA.names]
    schema = pa.schema([*SCHEMA, *(table.schema.field(name) for name in further)], metadata=SCHEMA.metadata)
    return pa.table([*arrays, *(table.column(name) for name in further)], schema=schema)
