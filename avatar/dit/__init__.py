"""The video transformer, its adapters for sound, identity and emotion, guidance, sampling and chunk-by-chunk generation."""
