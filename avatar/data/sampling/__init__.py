"""Balanced sampling of clips over combinations of labels: cells, their weights, the order of an epoch, and what was drawn."""
