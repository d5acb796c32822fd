"""Haystack's own tests of document stores, all of them, and their async twins."""

from pathlib import Path

import pytest

pytest.importorskip("haystack", exc_type=ImportError)

from haystack import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.testing import document_store as suite
from haystack.testing import document_store_async as twin

from edge_embed.integrations.haystack import EdgeDocumentStore

pytestmark = pytest.mark.frameworks


class Stored:
    @pytest.fixture
    def document_store(self, tmp_path: Path) -> EdgeDocumentStore:
        return EdgeDocumentStore(tmp_path / "notes.db")


class TestStore(
    Stored,
    suite.DocumentStoreBaseExtendedTests,
    suite.CountDocumentsByFilterTest,
    suite.CountUniqueMetadataByFilterTest,
    suite.GetMetadataFieldsInfoTest,
    suite.GetMetadataFieldMinMaxTest,
    suite.GetMetadataFieldUniqueValuesTest,
):
    def test_write_documents(self, document_store: EdgeDocumentStore) -> None:
        """What the suite leaves to each store: without a policy an id that is there is an error."""
        document = Document(content="text")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([document], policy=DuplicatePolicy.NONE)
        assert document_store.filter_documents() == [document]


class TestStoreAsync(
    Stored,
    twin.CountDocumentsAsyncTest,
    twin.CountDocumentsByFilterAsyncTest,
    twin.CountUniqueMetadataByFilterAsyncTest,
    twin.DeleteAllAsyncTest,
    twin.DeleteByFilterAsyncTest,
    twin.DeleteDocumentsAsyncTest,
    twin.FilterDocumentsAsyncTest,
    twin.GetMetadataFieldMinMaxAsyncTest,
    twin.GetMetadataFieldsInfoAsyncTest,
    twin.GetMetadataFieldUniqueValuesAsyncTest,
    twin.UpdateByFilterAsyncTest,
    twin.WriteDocumentsAsyncTest,
):
    @pytest.mark.asyncio
    async def test_write_documents_async(self, document_store: EdgeDocumentStore) -> None:
        document = Document(content="text")
        assert await document_store.write_documents_async([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async([document])
        assert await document_store.filter_documents_async() == [document]


def test_every_class_of_the_suites_is_run() -> None:
    """A release of Haystack that tests more is noticed here."""
    for module, run in ((suite, TestStore), (twin, TestStoreAsync)):
        classes = {
            one for name, one in vars(module).items() if isinstance(one, type) and name.endswith(("Test", "Tests"))
        }
        assert {one.__name__ for one in classes if not issubclass(run, one)} <= {"DocumentStoreBaseAsyncTests"}
