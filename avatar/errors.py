"""The error tree: everything a user can cause, and nothing else.

    AvatarError
    ├── InputError            a file, picture or sound that cannot be used
    │   ├── MediaError        unreadable, empty, truncated or unsupported media
    │   ├── WeightsError      a file of weights that does not fit the model
    │   └── FaceError         the picture was read, but not exactly one usable face was found
    │       ├── NoFaceError
    │       ├── SeveralFacesError
    │       ├── FaceTooSmallError
    │       └── ProfileFaceError
    ├── OptionError           an argument with a value that is not accepted
    ├── OutputError           the result cannot be written
    └── MissingDependencyError   a package, system library or weight file is absent

`InputError` and `OptionError` are usage errors (exit code 2 on the command line); the others are
failures (exit code 1).
"""

from __future__ import annotations

import re

# Debian's names of the packages with the libraries that opencv's and mediapipe's wheels leave to the system
_LIBRARY_PACKAGES = {
    "libGL.so": "libgl1",
    "libEGL.so": "libegl1",
    "libGLESv2.so": "libgles2",
    "libgthread": "libglib2.0-0",
    "libglib": "libglib2.0-0",
    "libportaudio": "libportaudio2",
    "libxcb": "libxcb1",
    "libSM.so": "libsm6",
    "libXext": "libxext6",
    "libXrender": "libxrender1",
}


def system_package(words: str) -> str | None:
    """Debian's package with the library that an error's words name; None where none is known."""
    return next((package for library, package in _LIBRARY_PACKAGES.items() if library in words), None)


class AvatarError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 1


class InputError(AvatarError):
    """An input file, picture or sound cannot be used."""

    exit_code = 2


class MediaError(InputError):
    """A media file is missing, empty, truncated, or of a kind that is not supported."""


class WeightsError(InputError):
    """A file of weights does not fit: keys are missing, surplus or of another shape, or the base is another model."""


class FaceError(InputError):
    """The picture does not hold the one usable face that was asked for."""


class NoFaceError(FaceError):
    """No human face was found in the picture."""


class SeveralFacesError(FaceError):
    """Several faces were found and none was chosen."""


class FaceTooSmallError(FaceError):
    """The chosen face has too few pixels to be animated."""


class ProfileFaceError(FaceError):
    """The chosen face is turned too far from the camera."""


class OptionError(AvatarError):
    """An option has a value that is not accepted."""

    exit_code = 2


def words_of(err: Exception) -> str:
    """What went wrong, for a table: our own errors explain themselves, others say their kind."""
    return str(err) if isinstance(err, AvatarError) else f"{type(err).__name__}: {err}"


class OutputError(AvatarError):
    """The result cannot be written."""


class MissingDependencyError(AvatarError):
    """A package, a system library or a weight file is absent."""

    @classmethod
    def from_import_error(cls, err: ImportError) -> MissingDependencyError:
        """What to install, from what a failed import said."""
        library = re.search(r"(\S+?\.so[.\d]*): cannot open shared object file", str(err))
        if library:
            package = system_package(library[1])
            hint = f"on Debian or Ubuntu: apt-get install {package}" if package else "install the package that has it"
            return cls(f"the system library {library[1]} is missing; {hint}")
        if isinstance(err, ModuleNotFoundError):
            return cls(f"the Python package {err.name!r} is not installed; pip install it, or run make again")
        return cls(str(err))
