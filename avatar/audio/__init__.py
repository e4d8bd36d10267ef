"""Sound to tokens: speech features, their alignment with latent frames, projection, voice activity."""
