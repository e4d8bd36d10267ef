"""A folder of videos to clips worth training on; the stages, in their order:

- ingest.py    the folder, by a corpus recipe or as it is -> sources
- probe.py     what each file is; what cannot be read
- shots.py     cuts (PySceneDetect) and dissolves (dissolves.py); flashes and pans are not cut
- segments.py  shots -> clips of 3 to 10 s, as views of 25 fps and 16 kHz
- scoring.py   the scorers in the order of cost, on one decoding of each clip
- dedup.py     near copies among all clips
- decide.py    limits (limits.py) -> keep and reject_reasons
- split.py     train, val and test, by person and source
- export.py    kept clips -> tar shards (read by avatar/data/shards.py)
- run.py       all of them; explain.py: one clip's way through; folder.py: where the tables are; config.py: the settings
"""
