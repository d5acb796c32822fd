"""Bundles with the methods of sentence-transformers' models, for programs that call those.

    model = SentenceTransformer("minilm")
    model.similarity(model.encode_query(questions), model.encode_document(texts))

They need neither torch nor sentence-transformers. Where torch is installed, what is a tensor there is one here; without
it, `similarity` gives numpy arrays. Extra `sentence-transformers`, for their evaluators.
"""

from edge_embed.integrations.sentence_transformers.crossencoder import CrossEncoder
from edge_embed.integrations.sentence_transformers.embedding import SentenceTransformer

__all__ = ["CrossEncoder", "SentenceTransformer"]
