"""Comparisons with other runtimes and indexes, and the scripts behind our figures; not in the wheel.

    python -m bench.encode      our embedder against other runtimes with the same weights and texts
    python -m bench.search      our index against other vector indexes with the same vectors, texts and queries

common.py   what both need: names, missing packages, the environment of a child
command.py  their command lines
report.py   their results as text
svg.py      their results as drawings
The other files are scripts for one figure or table each: python -m bench.NAME
"""
