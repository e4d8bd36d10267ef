"""Measures finished videos: one metric family per file."""
