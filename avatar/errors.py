"""The error tree: everything a user can cause, and nothing else.

    AvatarError
    ├── InputError            a file, picture or sound that cannot be used
    │   ├── MediaError        unreadable, empty, truncated or unsupported media
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


class AvatarError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 1


class InputError(AvatarError):
    """An input file, picture or sound cannot be used."""

    exit_code = 2


class MediaError(InputError):
    """A media file is missing, empty, truncated, or of a kind that is not supported."""


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


class OutputError(AvatarError):
    """The result cannot be written."""


class MissingDependencyError(AvatarError):
    """A package, a system library or a weight file is absent."""
