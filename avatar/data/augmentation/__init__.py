"""More clips of what is rare: the same clip slower or faster, in other colours, or drawn; checked before it is used."""
