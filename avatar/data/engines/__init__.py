"""Who does the work of a stage: processes of this machine, or Ray's.

- work.py    what an engine is given and what it leaves: shards of rows in, one file per output and shard
- worker.py  one process that can be killed: a clip that hangs or crashes costs that clip
- local.py   a pool of such processes (default)
- ray.py     the same over Ray Data (extra [ray])
"""
