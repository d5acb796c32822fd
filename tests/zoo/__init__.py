"""Public models in the layout of their own folders, with sizes shrunk: what docs/models.md is made from.

models.py        the table: one row for each model
networks.py      names and shapes of tensors, architecture by architecture
vocabularies.py  tokenizer.json and what lies beside it, kind by kind
folders.py       a row as a folder
measuring.py     a folder's bundle beside the reference
__main__.py      python tests/zoo: the table of docs/models.md
"""
