"""Texts filled up to one length inside the graph, of models that were trained without a mask.

Such a model gives another vector for a text of another length, so the length is not what the other texts of a batch
need, but always the same. Whoever runs the graph gives it texts as to any other.
"""

import numpy as np

from edge_embed_export.transformer.builder import BOOL, FLOAT
from edge_embed_export.transformer.layers import Parts
from edge_embed_export.transformer.spec import Filled


class Filling(Parts):
    """The parts that fill up. ids: what the embeddings are looked up by, [b, s]"""

    ids = "input_ids"

    def fill(self, filled: Filled) -> str:
        """Makes `ids` and the value "length"; gives the float mask [b, s] of the tokens that count: all of them."""
        g = self.graph
        token = g.scalar(filled.token, "int64")
        kept = g.op("Where", g.op("Cast", "attention_mask", to=BOOL), "input_ids", token)
        given = g.op("Shape", "input_ids", start=1, end=2)
        missing = g.op("Concat", g.shape(0, 0, 0), g.op("Sub", g.shape(filled.tokens), given), axis=0)
        self.ids = g.op("Pad", kept, missing, token)
        g.constant("length", np.array([self.spec.reach], np.int64))
        return g.op("Expand", g.scalar(1.0), self.joined("batch", self.spec.reach))

    def appended(self, x: str) -> str:
        """Embeddings [s, b, e] with the token behind all, where there is one."""
        stored = self.weights.get("embedding.appended")
        if stored is None:
            return x
        g = self.graph
        token = g.constant("embedding.appended", np.asarray(stored)[:, None, :])
        return g.op("Concat", x, g.op("Expand", token, self.joined(1, "batch", stored.shape[1])), axis=0)

    def seen_of_filled(self, mask: str, filled: Filled) -> str:
        """The mask [b, s] of the tokens that others see.

        OpenCLIP's CoCa hides, of keys 1, 2, ..., those that stand behind a token that fills: it counts them as if the
        token behind all stood before all. So a text sees the first token behind it, and the last token not itself.
        """
        if not filled.appended:
            return mask
        g = self.graph
        used = g.op("Not", g.op("Equal", self.ids, g.scalar(filled.token, "int64")))
        first = g.op("Expand", g.scalar(1.0), self.joined("batch", 1))
        return g.op("Concat", first, g.op("Cast", used, to=FLOAT), axis=1)
