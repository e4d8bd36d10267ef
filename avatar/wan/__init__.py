"""Talking videos from Wan's image-to-video models with published adapters, in pixels."""
