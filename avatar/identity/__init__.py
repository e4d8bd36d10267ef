"""Who speaks: finds the faces in a picture, chooses one, and describes it by masks and tokens.

mediapipe_faces.py    pictures and videos -> faces with 478 points (the default `FaceDetector`)
plausibility.py       a human face, or a false alarm?
choose.py             which face speaks; refusals
mask.py               where it is, on a token grid or in pixels
features.py           who it is, in numbers
tokens.py             numbers -> identity tokens
arcface.py            optional `IdentityEmbedder` (insightface)
face_alignment_68.py  optional `FaceDetector` (face-alignment)
"""

from __future__ import annotations

from avatar.identity.native import missing_library

try:
    import cv2  # noqa: F401
except ImportError as err:  # OpenCV's wheel lacks libGL and says so only here
    raise missing_library(err, "OpenCV", "pip install opencv-contrib-python") from err
