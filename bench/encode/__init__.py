"""`python -m bench.encode`: our embedder against other runtimes with the same weights and the same texts.

__main__.py  the command line
run.py       the whole run, as one dict that goes to JSON
plan.py      settings, texts, cases, and the weights that every candidate gets
runtimes.py  each runtime behind one small interface: convert, load, encode
peers.py     the list of them, what each needs, where its files go
children.py  processes of their own: threads fixed before imports, crashes reported
worker.py    what runs in such a process
mask.py      a CPU without AVX-512 and VNNI, by mask.c: what peers do on AVX2
measure.py   interleaved timing, cosines, bits
peak.py      the integer peak of the core
table.py     the result as text
plot.py      the result as an SVG bar chart
towers/      towers for pictures and sounds: --modality

What it does not measure: the time to load (but for `seconds_to_first_vectors`), retrieval quality (`edge-embed eval`),
texts longer than the model's limit.
"""
