"""Who speaks: finds the faces in a picture, chooses one, and describes it by masks and tokens."""
