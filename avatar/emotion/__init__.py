"""What is felt while speaking: labels, a picture of an expression, or the voice itself, to emotion tokens."""
