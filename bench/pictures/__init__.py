"""Pictures and sounds in a text model's space with published weights, and the figures of docs/figures.md about them.

packages.py   where the published weights lie, and whose they are
lite0.py      EfficientNet-Lite0 as an ONNX graph
yamnet.py     YAMNet as an ONNX graph
classnames.py a classifier and the vectors of its classes' names: a tower without training
make.py       the bundles
figures.py    what they find
kinds.py, folder.py   scripts of their own about indexes with pictures
"""
