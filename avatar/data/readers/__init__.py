"""Corpora as they lie on disk to records of their videos: one reader a corpus, each with a recipe in `datasets/`.

- recipe.py    the recipe: licence, consent, what is declared, what curation should do otherwise
- layout.py    what readers share: finding files, and the words of corpora in ours
- others       one corpus each: `read(root) -> Iterator[SourceRecord]`
"""

from __future__ import annotations

from avatar.data.readers.recipe import Recipe, load_recipe, read_corpus, recipe_names

__all__ = ["Recipe", "load_recipe", "read_corpus", "recipe_names"]
