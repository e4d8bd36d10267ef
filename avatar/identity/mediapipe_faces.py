"""Finds faces, tracks one through a video, and separates person from background, with MediaPipe 0.10.21.

The only module that imports mediapipe. A coarse detector proposes boxes (on the whole picture, then on overlapping
tiles), and the attention mesh (Grishchenko et al. 2020, "Attention Mesh") looks at each box more than once; a face is
what both agree on. The models come with the package: nothing is downloaded.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from avatar import face_mesh
from avatar.errors import MissingDependencyError, NoFaceError
from avatar.identity.crop import SquareCrop, landmark_box
from avatar.identity.mesh_graph import MESH_GRAPH, PRESENCE_STREAM
from avatar.identity.native import missing_library, quiet_native_log
from avatar.identity.plausibility import Candidate, MeshEvidence, is_plausible, mesh_residual, rank
from avatar.identity.proposals import Detection, fit_within, moved, overlap, suppressed, tile_starts, turned_back
from avatar.types import BBox, Face

INSTALL = "pip install mediapipe==0.10.21"
MESH_INPUT_PX = 192  # what the mesh network sees
DETECTOR_INPUT_PX = 256  # long side handed to the detectors, which see 128 and 192
MIN_DETECTION_SCORE = 0.4
TRACKING_PRESENCE = 0.5  # MediaPipe's own threshold
SURE_PRESENCE = 0.8
TILE_SIDES = (1.0, 0.5, 0.25, 0.125)  # parts of the picture's long side; each level only if needed
MIN_TILE_PX = 96
MAX_CANDIDATES = 24
START_SCALES = (1.6, 2.2, 1.2)  # of the detector's box; the later ones only if the first leads nowhere
MESH_CROP = 1.5  # of the mesh's box: what MediaPipe's own graph cuts
MESH_CROP_CLOSE = 1.2
TRACK_CROP = 1.4  # steadier from frame to frame than 1.5; wider ones lose the lips
SECOND_LOOK_SCALES = (1.8, 2.6)  # of the mesh's box
KEYPOINT_TOLERANCE = 0.15  # outer-eye distances between the detectors' and the mesh's eyes, nose and mouth
HOPELESS_PRESENCE = 0.02
WIDER_VIEWS = (1.9, 2.2, 2.5, 2.9)  # of the mesh's box
PARTS_APART = 0.05  # outer-eye distances between what two views take for the same part of the face
_PARTS = ((*face_mesh.RIGHT_EYE, *face_mesh.LEFT_EYE), (face_mesh.NOSE_TIP,), face_mesh.LIPS_OUTER)
STEADY_SPREAD = 0.06  # a mesh that holds so still under another cut needs no other start


class MediaPipeFaces:
    """A `FaceDetector`: whole pictures in, faces with 478 points out. Not for use from two threads at once."""

    def warm_up(self) -> None:
        """Loads all models now rather than when they are first needed (about a second)."""
        blank = np.zeros((MESH_INPUT_PX, MESH_INPUT_PX, 3), np.uint8)
        self._detectors, self._mesh_solution  # noqa: B018 - cached properties
        self.person_mask(blank)

    def detect(self, image: np.ndarray) -> list[Face]:
        """All faces that pass the plausibility test, largest first.

        Args:
            image: (H, W, 3) uint8 RGB, any size.

        Returns:
            Faces in px of this picture (0 is the picture's edge, so pixel i covers [i, i + 1]).

        Raises:
            MissingDependencyError: mediapipe or a system library it needs is absent.
        """
        return [candidate.face for candidate in self.candidates(image) if is_plausible(candidate.evidence)]

    def candidates(self, image: np.ndarray) -> list[Candidate]:
        """Every place that looked like a face, largest first, refused ones too.

        Finer tiles are searched only while nothing plausible has been found; if nothing is found upright, the
        picture is also searched turned by 90, 270 and 180 degrees (the face then has that roll).
        """
        found: list[Candidate] = []
        for part in TILE_SIDES:
            found = self._merge(found, self._inspect(image, self.boxes(image, part)))
            if part <= TILE_SIDES[1] and any(is_plausible(c.evidence) for c in found):
                return found
        for quarter_turns in (1, 3, 2):
            proposals = self._propose_turned(image, quarter_turns)
            found = self._merge(found, self._inspect(image, proposals))
            if any(is_plausible(c.evidence) for c in found):
                break
        return found

    def track(self, frames: Iterable[np.ndarray], start: BBox | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Follows one face through a video.

        Args:
            frames: pictures (H, W, 3) uint8 RGB of one size.
            start: the box of the face to follow in the first frame; None takes the largest.

        Returns:
            landmarks (T, 478, 3) float32, px, and found (T,) bool. Where the face is lost the landmarks are zero.

        Raises:
            NoFaceError: there is no frame at all.
        """
        results = list(self.iter_track(frames, start))
        if not results:
            raise NoFaceError("the video holds no frame")
        empty = np.zeros((face_mesh.NUM_POINTS, 3), np.float32)
        landmarks = np.stack([empty if points is None else points for points in results])
        return landmarks, np.array([points is not None for points in results])

    def iter_track(self, frames: Iterable[np.ndarray], start: BBox | None = None) -> Iterator[np.ndarray | None]:
        """As `track`, one frame at a time: (478, 3) or None."""
        last: np.ndarray | None = None
        for frame in frames:
            points = None
            if last is not None:
                points = self.follow(frame, last)
            if points is None:
                points = self._find_again(frame, start if last is None else landmark_box(last))
                points = points if points is None else self.follow(frame, points)
            if points is not None:
                last = points
            yield points

    def person_mask(self, image: np.ndarray) -> np.ndarray:
        """How surely each pixel belongs to a person.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            (H, W) float32 in [0, 1]: MediaPipe's general selfie segmentation (256 px inside), smooth edges.
        """
        height, width = image.shape[:2]
        small = fit_within(image, 512)
        with quiet_native_log():
            mask = self._segmenter.process(np.ascontiguousarray(small)).segmentation_mask
        return np.clip(cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR), 0.0, 1.0)

    # -- one face -------------------------------------------------------------------------------------------------

    def _mesh(self, image: np.ndarray, crop: SquareCrop) -> tuple[np.ndarray, float]:
        """Landmarks (478, 3) px in the square, and the presence score: 0..1, how surely it is a face."""
        picture = crop.cut(image, MESH_INPUT_PX)
        rect_class, solution = self._mesh_solution
        whole = rect_class(x_center=0.5, y_center=0.5, width=1.0, height=1.0, rotation=0.0)
        out = solution.process({"image": np.ascontiguousarray(picture), "roi": whole})
        points = np.array([(p.x, p.y, p.z) for p in out.landmarks.landmark], np.float64)
        if crop.mirrored:
            points = points[face_mesh.mirror_points()]
        return crop.to_picture(points), float(getattr(out, PRESENCE_STREAM))

    def follow(self, image: np.ndarray, last: np.ndarray) -> np.ndarray | None:
        """Landmarks (478, 3) near those of the frame before (8 ms), or None: the mean of what the network sees directly and
        mirrored, which takes out what it sees differently on the two sides of a face."""
        crop = SquareCrop.around_landmarks(last, TRACK_CROP)
        views = []
        for one in (crop, replace(crop, mirrored=True)):
            points, presence = self._mesh(image, one)
            if presence >= TRACKING_PRESENCE and _same_place(points, last):
                views.append(points)
        return np.mean(views, axis=0) if views else None

    def inspect(self, image: np.ndarray, detection: Detection) -> Candidate:
        """The mesh at a proposed place, and what speaks for a face there (80 ms)."""
        return self._inspect(image, [detection])[0]

    def _inspect(self, image: np.ndarray, detections: list[Detection]) -> list[Candidate]:
        return [self._agreed(image, self._look_closer(image, one)) for one in detections[:MAX_CANDIDATES]]

    def _agreed(self, image: np.ndarray, seen: Candidate) -> Candidate:
        """What most views see, where they agree on eyes and nose but not on the mouth (a moustache was taken for the lips)."""
        if not is_plausible(seen.evidence):
            return seen
        points = seen.face.landmarks
        views = [points]
        for scale in WIDER_VIEWS:
            view, _ = self._mesh(image, SquareCrop.around_landmarks(points, scale))
            eyes, nose, lips = (_apart(points, view, part) for part in _PARTS)
            if len(views) == 1 and lips < PARTS_APART:
                return seen
            if max(eyes, nose) < PARTS_APART:
                views.append(view)
        return replace(seen, face=_face(np.median(views, axis=0))) if len(views) > 2 else seen

    def _look_closer(self, image: np.ndarray, detection: Detection) -> Candidate:
        """The best of several starts: a detector's box can be off by more than the mesh recovers from (a statue).

        A face whose mesh will not hold still (a cartoon) is also looked at from closer by.
        """
        (x, y), side = detection.box.centre, max(detection.box.width, detection.box.height)
        tried = []
        for start in START_SCALES:
            square = SquareCrop(x, y, side * start, detection.angle_rad)
            tried.append(self._settle(image, square, detection.score, MESH_CROP))
            if is_plausible(tried[-1].evidence) and tried[-1].evidence.spread < STEADY_SPREAD:
                return tried[-1]
        best = max(tried, key=rank)
        if is_plausible(best.evidence):
            square = SquareCrop.around_landmarks(best.face.landmarks, MESH_CROP_CLOSE)
            best = max(best, self._settle(image, square, detection.score, MESH_CROP_CLOSE), key=rank)
        return best

    def _settle(self, image: np.ndarray, crop: SquareCrop, score: float, scale: float) -> Candidate:
        """Runs the mesh on a square, then on squares about its own result, then asks the detectors again."""
        points, presence = self._mesh(image, crop)
        for _ in range(2):
            if presence < HOPELESS_PRESENCE or not _usable(points):
                return Candidate(_face(points), MeshEvidence.hopeless(score, presence))
            points, presence = self._mesh(image, SquareCrop.around_landmarks(points, scale))
        if not _usable(points):
            return Candidate(_face(points), MeshEvidence.hopeless(score, presence))
        wide, presence_wide = self._mesh(image, SquareCrop.around_landmarks(points, scale * 1.27))
        spread = np.linalg.norm((points - wide)[:, :2], axis=1).mean() / face_mesh.outer_eye_distance(points)
        second_score, keypoint_offset = self._second_look(image, points)
        evidence = MeshEvidence(
            score, second_score, min(presence, presence_wide), mesh_residual(points), float(spread), keypoint_offset
        )
        return Candidate(_face(points), evidence)

    def _second_look(self, image: np.ndarray, landmarks: np.ndarray) -> tuple[float, float]:
        """The detectors' best score on the face cut out well, where their eyes, nose and mouth are the mesh's too.

        Also the distance between those points and the mesh's, in outer-eye distances: the smallest seen.
        """
        expected = np.array(
            [
                landmarks[list(face_mesh.RIGHT_EYE), :2].mean(axis=0),
                landmarks[list(face_mesh.LEFT_EYE), :2].mean(axis=0),
                landmarks[face_mesh.NOSE_TIP, :2],
                landmarks[list(face_mesh.LIPS_OUTER), :2].mean(axis=0),
            ]
        )
        best, nearest, unit = 0.0, math.inf, float(face_mesh.outer_eye_distance(landmarks))
        for scale in SECOND_LOOK_SCALES:
            crop = SquareCrop.around_landmarks(landmarks, scale)
            picture = np.ascontiguousarray(crop.cut(image, DETECTOR_INPUT_PX))
            for detector in self._detectors:
                for raw in detector.process(picture).detections or ():
                    keypoints = np.array([(p.x, p.y, 0.0) for p in raw.location_data.relative_keypoints[:4]])
                    off = np.linalg.norm(crop.to_picture(keypoints)[:, :2] - expected, axis=1).mean() / unit
                    nearest = min(nearest, float(off))
                    if off <= KEYPOINT_TOLERANCE:
                        best = max(best, float(raw.score[0]))
        return best, nearest

    def _find_again(self, frame: np.ndarray, near: BBox | None) -> np.ndarray | None:
        """The face nearest to a box, or the largest."""
        detections = self.boxes(frame, TILE_SIDES[0]) or self.boxes(frame, TILE_SIDES[1])
        found = self._merge([], self._inspect(frame, detections))
        faces = [c.face for c in found if is_plausible(c.evidence)]
        if not faces:  # small and blurred frames: take what the mesh network itself is sure of
            faces = [c.face for c in found if c.evidence.presence >= SURE_PRESENCE and c.evidence.second_score > 0]
        if not faces:
            return None
        if near is not None:
            faces.sort(key=lambda face: math.dist(face.bbox.centre, near.centre))
        return faces[0].landmarks

    # -- whole pictures -------------------------------------------------------------------------------------------

    def boxes(self, image: np.ndarray, part: float = TILE_SIDES[0]) -> list[Detection]:
        """Boxes from both detectors on half-overlapping tiles whose side is a part of the long side; best first.

        A first look (5 ms for the whole picture), not a verdict: `inspect` tells faces from false alarms.
        """
        height, width = image.shape[:2]
        side = max(height, width) * part
        if side < MIN_TILE_PX and part < 1.0:
            return []
        found: list[Detection] = []
        for top in tile_starts(height, side):
            for left in tile_starts(width, side):
                tile = image[top : top + math.ceil(side), left : left + math.ceil(side)]
                found += [moved(detection, left, top) for detection in self._detect_in(tile)]
        return suppressed(found)

    def _propose_turned(self, image: np.ndarray, quarter_turns: int) -> list[Detection]:
        """As `boxes` on the picture turned counter-clockwise, boxes in the picture as it is."""
        height, width = image.shape[:2]
        turned = np.ascontiguousarray(np.rot90(image, quarter_turns))
        return [turned_back(d, quarter_turns, width, height) for d in self.boxes(turned, TILE_SIDES[0])]

    def _detect_in(self, tile: np.ndarray) -> list[Detection]:
        height, width = tile.shape[:2]
        small = np.ascontiguousarray(fit_within(tile, DETECTOR_INPUT_PX))
        found = []
        for detector in self._detectors:
            for raw in detector.process(small).detections or ():
                box, points = raw.location_data.relative_bounding_box, raw.location_data.relative_keypoints
                left, top = box.xmin * width, box.ymin * height
                angle = math.atan2((points[1].y - points[0].y) * height, (points[1].x - points[0].x) * width)
                area = BBox(left, top, left + box.width * width, top + box.height * height)
                found.append(Detection(area, angle, float(raw.score[0])))
        return found

    @staticmethod
    def _merge(known: list[Candidate], new: list[Candidate]) -> list[Candidate]:
        """One candidate for each place, the more plausible one, largest first."""
        kept: list[Candidate] = []
        ordered = sorted(known + new, key=rank, reverse=True)
        for candidate in ordered:
            if all(overlap(candidate.face.bbox, other.face.bbox) < 0.4 for other in kept):
                kept.append(candidate)
        return sorted(kept, key=lambda c: -c.face.bbox.width * c.face.bbox.height)

    # -- the models, loaded when first used -----------------------------------------------------------------------

    @cached_property
    def _detectors(self) -> tuple[Any, Any]:
        solutions = _mediapipe().solutions
        with quiet_native_log():
            made = tuple(
                solutions.face_detection.FaceDetection(
                    min_detection_confidence=MIN_DETECTION_SCORE, model_selection=selection
                )
                for selection in (0, 1)
            )
            for detector in made:
                detector.process(np.zeros((8, 8, 3), np.uint8))
        return made[0], made[1]

    @cached_property
    def _mesh_solution(self) -> tuple[type, Any]:
        _mediapipe()
        from google.protobuf import text_format
        from mediapipe.framework import calculator_pb2
        from mediapipe.framework.formats import rect_pb2
        from mediapipe.python.solution_base import PacketDataType, SolutionBase

        graph = text_format.Parse(MESH_GRAPH, calculator_pb2.CalculatorGraphConfig())
        with quiet_native_log():
            solution = SolutionBase(
                graph_config=graph,
                calculator_params={"facelandmarkcpu__ThresholdingCalculator.threshold": -1.0},
                outputs=["landmarks", PRESENCE_STREAM],
                stream_type_hints={"roi": PacketDataType.PROTO, PRESENCE_STREAM: PacketDataType.FLOAT},
            )
            whole = rect_pb2.NormalizedRect(x_center=0.5, y_center=0.5, width=1.0, height=1.0, rotation=0.0)
            solution.process({"image": np.zeros((MESH_INPUT_PX, MESH_INPUT_PX, 3), np.uint8), "roi": whole})
        return rect_pb2.NormalizedRect, solution

    @cached_property
    def _segmenter(self) -> Any:
        with quiet_native_log():
            return _mediapipe().solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)


_of_thread = threading.local()


def thread_faces() -> MediaPipeFaces:
    """This thread's `MediaPipeFaces`: its models are loaded once, and no two threads use them at once."""
    if not hasattr(_of_thread, "faces"):
        _of_thread.faces = MediaPipeFaces()
    return _of_thread.faces


def _mediapipe() -> Any:
    """The package, or an error that names what is missing.

    Raises:
        MissingDependencyError: it, or a system library that OpenCV needs, cannot be loaded.
    """
    with quiet_native_log():
        try:
            import mediapipe
        except ImportError as err:
            raise missing_library(err, "mediapipe", INSTALL) from err
    if not hasattr(mediapipe, "solutions"):
        raise MissingDependencyError(
            f"mediapipe {mediapipe.__version__} has no face mesh in it; install the one that has: {INSTALL}"
        )
    return mediapipe


def _face(landmarks: np.ndarray) -> Face:
    fit = face_mesh.fit_head(landmarks)
    return Face(landmark_box(landmarks), landmarks, face_mesh.head_pose(fit.rotation))


def _apart(one: np.ndarray, other: np.ndarray, part: Sequence[int]) -> float:
    """How far apart two meshes (478, 3) see a part of the face, in outer-eye distances of the first."""
    shift = (one - other)[list(part), :2].mean(axis=0)
    return float(np.linalg.norm(shift)) / float(face_mesh.outer_eye_distance(one))


def _usable(landmarks: np.ndarray) -> bool:
    box = landmark_box(landmarks)
    return bool(np.isfinite(landmarks).all()) and min(box.width, box.height) > 2


def _same_place(points: np.ndarray, last: np.ndarray) -> bool:
    """Whether two meshes of neighbouring frames can be the same face: no jump, no sudden change of size."""
    now, before = landmark_box(points), landmark_box(last)
    return now.iou(before) > 0.3
