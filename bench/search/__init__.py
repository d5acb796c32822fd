"""`python -m bench.search`: our index against other vector indexes, with the same vectors, texts and queries.

__main__.py    the command line
run.py         the whole run, as one dict that goes to JSON
texts.py       real texts: some are stored, others are queries
vectors.py     their vectors, grown to a size; exact neighbours; recall
candidates.py  the list of what is measured
libraries.py   indexes of vectors alone: usearch, faiss, hnswlib
databases.py   those that keep the texts too: ours, sqlite-vec, LanceDB
collection.py  what every candidate gets, and what an application keeps next to a library of vectors alone
child.py       a process that answers orders
worker.py      what runs in it
durability.py  kill -9 while a candidate writes
table.py       the result as text
plot.py        the result as an SVG of recall and latency

What it does not measure: filters, words, deletes, several threads, storage that is slower than memory (files that were
just written are in the page cache), what a power cut does.
"""
