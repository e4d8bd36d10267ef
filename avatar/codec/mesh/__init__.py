"""The mesh codec: a video of a face as motion of the face mesh, drawn onto the real portrait."""
