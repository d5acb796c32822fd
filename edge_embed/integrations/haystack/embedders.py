"""Texts, and documents, with their vectors."""

import os
from dataclasses import replace
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict, logging

from edge_embed.embedder import Embedder
from edge_embed.integrations.embedding import Loaded
from edge_embed.integrations.haystack.parts import Restored, check_documents, text_of
from edge_embed.integrations.threads import in_thread
from edge_embed_runtime.embed.texts import Truncation

logger = logging.getLogger(__name__)


@component
class EdgeTextEmbedder(Restored):
    """Embeds a text, such as a query, with the prompt that the bundle has for queries.

    bundle:           a name ("minilm", the default; "static") or a bundle's folder
    prefix, suffix:   put before and behind each text, behind the bundle's prompt
    prompt:           in place of the bundle's prompt for queries; "" means none
    embedder_options: options of `edge_embed.Embedder`, such as {"threads": 1, "truncate_dim": 128}
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | None = None,
        *,
        prefix: str = "",
        suffix: str = "",
        prompt: str | None = None,
        embedder_options: dict[str, Any] | None = None,
    ) -> None:
        self._loaded = Loaded(Embedder, bundle, embedder_options)
        self.prefix, self.suffix, self.prompt = prefix, suffix, prompt

    def warm_up(self) -> None:
        """Load the bundle; `run` does it otherwise."""
        self._loaded.get()

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """{"embedding": the vector, `dim` floats of length 1}. Raises TypeError for what is no text."""
        if not isinstance(text, str):
            raise TypeError(
                f"EdgeTextEmbedder takes a text, got {type(text).__name__}; documents: EdgeDocumentEmbedder"
            )
        whole = f"{self.prefix}{text}{self.suffix}"
        return {"embedding": self._loaded.get().encode_query([whole], prompt=self.prompt)[0].tolist()}

    run_async = component.output_types(embedding=list[float])(in_thread(run))

    def to_dict(self) -> dict[str, Any]:
        return default_to_dict(
            self,
            bundle=self._loaded.bundle,
            prefix=self.prefix,
            suffix=self.suffix,
            prompt=self.prompt,
            embedder_options=dict(self._loaded.options),
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "EdgeTextEmbedder":
        return default_from_dict(cls, data)


@component
class EdgeDocumentEmbedder(Restored):
    """Gives documents their vectors, with the prompt that the bundle has for documents.

    bundle, prefix, suffix, prompt, embedder_options: see `EdgeTextEmbedder`
    meta_fields_to_embed: fields of meta whose values are put before the content
    embedding_separator:  what stands between these
    on_truncation:        what to do where a document is longer than the model reads: "warn", "ignore" or "error"
    progress_bar:         a bar on stderr, where that is a terminal
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | None = None,
        *,
        prefix: str = "",
        suffix: str = "",
        prompt: str | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        on_truncation: Truncation = "warn",
        progress_bar: bool = False,
        embedder_options: dict[str, Any] | None = None,
    ) -> None:
        self._loaded = Loaded(Embedder, bundle, embedder_options)
        self.prefix, self.suffix, self.prompt = prefix, suffix, prompt
        self.meta_fields_to_embed = list(meta_fields_to_embed or [])
        self.embedding_separator = embedding_separator
        self.on_truncation, self.progress_bar = on_truncation, progress_bar

    def warm_up(self) -> None:
        """Load the bundle; `run` does it otherwise."""
        self._loaded.get()

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """{"documents": copies of the documents with their vectors}.

        One without any text, such as a picture, stays as it is: a vector of no words would be found by any query.
        """
        check_documents(documents, "EdgeDocumentEmbedder")
        texts = [text_of(document, self.meta_fields_to_embed, self.embedding_separator) for document in documents]
        chosen = [i for i, text in enumerate(texts) if text.strip()]
        if left := len(documents) - len(chosen):
            logger.warning("{count} documents have no text, and got no embedding", count=left)
        vectors = self._loaded.get().encode_document(
            [f"{self.prefix}{texts[i]}{self.suffix}" for i in chosen],
            prompt=self.prompt,
            on_truncation=self.on_truncation,
            show_progress=self.progress_bar,
        )
        embedded = list(documents)
        for i, vector in zip(chosen, vectors, strict=True):
            embedded[i] = replace(documents[i], embedding=vector.tolist())
        return {"documents": embedded}

    run_async = component.output_types(documents=list[Document])(in_thread(run))

    def to_dict(self) -> dict[str, Any]:
        return default_to_dict(
            self,
            bundle=self._loaded.bundle,
            prefix=self.prefix,
            suffix=self.suffix,
            prompt=self.prompt,
            meta_fields_to_embed=self.meta_fields_to_embed,
            embedding_separator=self.embedding_separator,
            on_truncation=self.on_truncation,
            progress_bar=self.progress_bar,
            embedder_options=dict(self._loaded.options),
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "EdgeDocumentEmbedder":
        return default_from_dict(cls, data)
