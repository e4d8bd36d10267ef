"""A clip's frames to the faces in it: how many, how large, how steady, and tracks of 478 points for those who speak.

The dearest stage, so it stops early: a cheap detector looks at every tenth frame, and where it finds no face, or more
than are wanted, nothing is tracked. About 0.02 s of processor time for a second of video then, 0.25 s with a track.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avatar import face_mesh
from avatar.data.clip_media import ClipMedia, FaceTrack
from avatar.data.manifest import columns
from avatar.data.scorer import WeightSpec, register
from avatar.data.scorers.faces_first_look import LOOK_EVERY_FRAMES, Appearance, FirstLook, first_look
from avatar.errors import OptionError
from avatar.identity.crop import landmark_box
from avatar.identity.features import appearance_features
from avatar.identity.mediapipe_faces import MediaPipeFaces, thread_faces
from avatar.identity.plausibility import is_plausible
from avatar.types import Face, Portrait

FACE_BACKEND = "mediapipe-0.10.21"
_LOST_FRAMES = 3  # a face goes on over so many frames in which the mesh lost it (a blurred turn)
_COLLAPSED = 0.6  # of the detector's box: in profile the mesh can shrink onto an eye and stay sure of itself
_FAILED_SEEDS = 4  # new starts of one track that found no face
_IDENTITY_SAMPLES = 6
_IDENTITY_MAX_YAW_DEG = 30.0


@register("faces")
class FacesScorer:
    """Counts, measures and tracks faces.

    Args:
        max_faces: clips with more faces than this at once are counted and measured on one frame, not tracked.
        look_every_frames: frames between two sparse looks.
    """

    name = "faces"
    version = "1"
    columns = columns(
        *"face_backend n_faces_max n_tracks main_track_cov face_w_px face_h_px face_cx face_cy face_jitter".split(),
        *"yaw_deg_p95 pitch_deg_p95 id_cos_min corner_face_score track_uri".split(),
    )
    weights: tuple[WeightSpec, ...] = ()

    def __init__(self, max_faces: int = 1, look_every_frames: int = LOOK_EVERY_FRAMES) -> None:
        if max_faces < 1 or look_every_frames < 1:
            raise OptionError(f"max_faces and look_every_frames are at least 1, not {max_faces}, {look_every_frames}")
        self.max_faces = max_faces
        self.look_every_frames = look_every_frames

    def setup(self) -> None:
        """Loads the models."""
        thread_faces().warm_up()

    def score(self, clip: ClipMedia) -> dict[str, Any]:
        """All columns of one clip; where there is no face, or too many, what needs a track is null."""
        faces, frames = thread_faces(), clip.frames()
        seen = first_look(faces, frames, self.look_every_frames)
        values: dict[str, Any] = dict.fromkeys(self.columns.names)
        values |= {
            "face_backend": FACE_BACKEND,
            "n_faces_max": seen.n_faces_max,
            "n_tracks": len(seen.appearances),
            "corner_face_score": seen.corner_score,
            "main_track_cov": 0.0,
        }
        if not seen.appearances:
            return values
        if seen.n_faces_max > self.max_faces:
            return values | _of_first_look(seen, frames, clip.scale)
        tracks = [track_appearance(faces, frames, one) for one in seen.appearances[: self.max_faces]]
        tracks.sort(key=lambda track: -len(track.frames))
        values |= _of_track(tracks[0], frames, clip.scale)
        in_source = [FaceTrack(one.frames, one.landmarks / np.float32(clip.scale)) for one in tracks]
        return values | {"track_uri": clip.write_tracks(in_source)}


def track_appearance(faces: MediaPipeFaces, frames: np.ndarray, seen: Appearance) -> FaceTrack:
    """Follows one face both ways from where it was seen best, and again from every look that finds it lost.

    Args:
        faces: the tracker.
        frames: (T, H, W, 3) uint8 RGB.
        seen: the face.

    Returns:
        The frames that show it, and its landmarks in px of these frames.
    """
    known: dict[int, np.ndarray] = {}
    least_px = _COLLAPSED * seen.sides_px(len(frames))
    _extend(faces, frames, (seen.seed_frame, seen.face.landmarks), known, least_px)
    failures = 0
    for sighting in seen.sightings:
        if sighting.frame in known or failures == _FAILED_SEEDS:
            continue
        candidate = faces.inspect(frames[sighting.frame], sighting.detection)
        if is_plausible(candidate.evidence):
            _extend(faces, frames, (sighting.frame, candidate.face.landmarks), known, least_px)
        else:
            failures += 1
    order = sorted(known)
    return FaceTrack(np.array(order, np.int32), np.stack([known[i] for i in order]).astype(np.float32))


def _extend(
    faces: MediaPipeFaces,
    frames: np.ndarray,
    seed: tuple[int, np.ndarray],
    known: dict[int, np.ndarray],
    least_px: np.ndarray,
) -> None:
    """Adds the frames after and before a seed (frame, landmarks) until the face is lost or the frames are known."""
    start, landmarks = seed
    refined = faces.follow(frames[start], landmarks)
    known[start] = landmarks if refined is None else refined
    for way in (range(start + 1, len(frames)), range(start - 1, -1, -1)):
        lost, last = 0, known[start]
        for i in way:
            if i in known or lost > _LOST_FRAMES:
                break
            points = faces.follow(frames[i], last)
            if points is None or _side_px(points) < least_px[i]:
                lost += 1
            else:
                lost = 0
                known[i] = last = points


def _side_px(landmarks: np.ndarray) -> float:
    """The longer side of a face's box."""
    return float((landmarks[:, :2].max(axis=0) - landmarks[:, :2].min(axis=0)).max())


def identity_likeness(frames: np.ndarray, track: FaceTrack) -> float | None:
    """How much the least alike of a few frames of a track looks like the same person as the others.

    The appearance part of the repository's own identity features (light and colour of the face, free of pose); None
    where too few frames show the face from the front. On 65 real clips 0.81 and more in 95 % of them, against 0.73
    and less for 95 % of pairs of different people: a change of person shows, one of light may.

    Returns:
        The lowest cosine between one frame's features and the mean of the others', in [-1, 1].
    """
    yaw_deg = [abs(face_mesh.head_pose(face_mesh.fit_head(points).rotation).yaw_deg) for points in track.landmarks]
    frontal = np.flatnonzero(np.array(yaw_deg) <= _IDENTITY_MAX_YAW_DEG)
    if len(frontal) < 2:
        return None
    chosen = frontal[np.unique(np.linspace(0, len(frontal) - 1, _IDENTITY_SAMPLES).round().astype(int))]
    features = np.stack([_identity(frames[track.frames[i]], track.landmarks[i]) for i in chosen])
    others = (features.sum(axis=0) - features) / (len(features) - 1)
    norms = np.linalg.norm(features, axis=1) * np.linalg.norm(others, axis=1)
    return float(((features * others).sum(axis=1) / np.maximum(norms, 1e-9)).min())


def _identity(frame: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    pose = face_mesh.head_pose(face_mesh.fit_head(landmarks).rotation)
    return appearance_features(Portrait(frame, Face(landmark_box(landmarks), landmarks, pose))).ravel()


def _of_first_look(seen: FirstLook, frames: np.ndarray, scale: float) -> dict[str, Any]:
    """Of the main face on the one frame in which it was looked at closely."""
    main = seen.appearances[0]
    return {"main_track_cov": seen.coverage(main)} | _place(main.face.landmarks[None], frames, scale)


def _of_track(track: FaceTrack, frames: np.ndarray, scale: float) -> dict[str, Any]:
    poses = [face_mesh.head_pose(face_mesh.fit_head(points).rotation) for points in track.landmarks]
    values = _place(track.landmarks, frames, scale)
    return values | {
        "main_track_cov": len(track.frames) / len(frames),
        "yaw_deg_p95": float(np.percentile([abs(pose.yaw_deg) for pose in poses], 95)),
        "pitch_deg_p95": float(np.percentile([abs(pose.pitch_deg) for pose in poses], 95)),
        "face_jitter": _jitter(track),
        "id_cos_min": identity_likeness(frames, track),
    }


def _place(landmarks: np.ndarray, frames: np.ndarray, scale: float) -> dict[str, Any]:
    """Median size (source px) and centre (parts of the picture) of a face, (n, 478, 3) px of the frames."""
    height, width = frames[0].shape[:2]
    low, high = landmarks[:, :, :2].min(axis=1), landmarks[:, :, :2].max(axis=1)
    face_w, face_h = np.median(high - low, axis=0) / scale
    centre_x, centre_y = np.median((low + high) / 2, axis=0) / (width, height)
    names = ("face_w_px", "face_h_px", "face_cx", "face_cy")
    return dict(zip(names, map(float, (face_w, face_h, centre_x, centre_y)), strict=True))


def _jitter(track: FaceTrack) -> float | None:
    """None where no three frames follow one another."""
    low, high = track.landmarks[:, :, :2].min(axis=1), track.landmarks[:, :, :2].max(axis=1)
    centre, width = (low + high) / 2, np.median(high[:, 0] - low[:, 0])
    follows = (np.diff(track.frames)[1:] == 1) & (np.diff(track.frames)[:-1] == 1)
    second = np.linalg.norm(np.diff(centre, n=2, axis=0), axis=1)[follows]
    return float(np.median(second) / width) if len(second) else None
