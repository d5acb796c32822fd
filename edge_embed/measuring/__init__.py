"""Processes that measure this device: `edge-embed bench`, and what `edge-embed doctor` shares with it.

device.py    `edge-embed bench` as one dict: which processes run, and what is made of their answers
jobs.py      what runs in one of these processes
speed.py     texts and timing loops, for bench and doctor
lengths.py   real texts cut to token lengths
vectors.py   more vectors made of some
children.py  processes of their own: a crash is an answer, not an end
versions.py  the CPU and the versions that figures depend on
judged.py    judged sets: documents, queries, judgements
quality.py   retrieval quality on a judged set (`edge-embed eval`)
"""
