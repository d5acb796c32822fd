"""The table: public models as their folders are, with hidden sizes, layers and vocabularies shrunk.

Keys of config.json, modules, poolings, prompts, limits and classes of tokenizers are the models' own.
"""

# isort: off
from zoo import encoders, own, decoders  # in the order of the page

# isort: on
from zoo.rows import ROWS, SMALL, Row

__all__ = ["ROWS", "SMALL", "Row", "decoders", "encoders", "own"]
