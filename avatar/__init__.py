"""A portrait and a voice go in; a video of that person saying it comes out."""

__version__ = "0.1.0"
