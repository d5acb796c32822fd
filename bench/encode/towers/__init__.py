"""`python -m bench.encode --modality image`: a tower of ours against other runtimes, same weights, same pictures.

run.py         the whole run, as one dict that goes to JSON
candidates.py  each runtime behind one small interface: make its files, load, encode
models.py      what torch calls the models: random weights of the real layout, and their ONNX graph
inputs.py      the pictures or sounds that are measured, drawn by code
worker.py      what runs in a process of its own
reading.py     what it costs to read a picture, beside what the model costs
table.py       the result as text

Every candidate gets the same numbers: ours reads, and the peers are given what our front end reads, which is equal to
the bit to what transformers' processor makes of it. All run on one core.
"""
