"""Do lips and sound belong together, and by how much is one late: curves of distance by offset, and who computes them."""
