"""Pictures and sounds of documents, as maintenance sees them: whether what is known of them is whole and has a vector,
and whether those with damaged vectors can be embedded again."""

from collections.abc import Collection

from edge_embed_runtime.errors import MediaError
from edge_embed_runtime.maintenance.findings import Damage, Findings
from edge_embed_runtime.maintenance.scan import document_row, shown_key
from edge_embed_runtime.storage.database import translated
from edge_embed_runtime.storage.media import Media, read_again
from edge_embed_runtime.storage.mediatable import MediaTable
from edge_embed_runtime.storage.root import root_folder
from edge_embed_runtime.storage.rows import MEDIA_STARTS, checked
from edge_embed_runtime.storage.store import Store

WORDS = {"image": "picture", "audio": "sound"}


def check_media(store: Store, table: MediaTable, found: Findings) -> None:
    """Documents of whose pictures and sounds something is damaged or missing."""
    known = set()
    for doc, media, vectors, thumbnail in table.all():
        row = document_row(store.connection, doc)
        if row is None:
            found.stray_media += 1
            continue
        known.add(doc)
        if checked(row) is None:
            continue
        key = shown_key(row)
        if media is None:
            found.broken.pop(doc, None)
            found.lost[doc] = Damage(key, "what is known of its picture or sound is damaged")
        elif [start for _, start in table.rows_of(doc)] != [MEDIA_STARTS[media.kind]] * vectors:
            found.broken.setdefault(doc, Damage(key, f"vectors of its {WORDS[media.kind]} are missing"))
        elif not thumbnail:
            found.thumbnails[doc] = Damage(key, "its thumbnail is damaged")
    for doc in table.docs_with_rows() - known:
        row = document_row(store.connection, doc)
        if row is not None:
            found.broken.pop(doc, None)
            found.lost[doc] = Damage(shown_key(row), "nothing is known of its picture or sound")


def without_file(store: Store, docs: Collection[int], embeds: Collection[str]) -> dict[int, str]:
    """Documents whose pictures or sounds would have to be read again and cannot be, with the reason.

    embeds: the kinds that there is a model for
    """
    table, reasons = store.media, dict[int, str]()
    if table is None or not docs:
        return reasons
    with translated(store.path):
        root, media = root_folder(store), table.of(docs)
        for doc, one in media.items():
            reason = None if one is None else _reason(table, one, root, embeds)
            if reason is not None:
                reasons[doc] = reason
    return reasons


def _reason(table: MediaTable, media: Media, root: str | None, embeds: Collection[str]) -> str | None:
    found = table.known(media)
    if found is not None and found.codes:
        return None
    if media.kind not in embeds:
        return f"its {WORDS[media.kind]} cannot be embedded by this bundle"
    try:
        read_again(media, root)
    except MediaError as error:
        return str(error)
    return None


def named(damage: Damage, reason: str | None) -> Damage:
    """With the reason why it cannot be restored, where there is one of its own."""
    return damage if reason is None else damage._replace(what=f"{damage.what}; {reason}")


def drop_thumbnails(store: Store, table: MediaTable, docs: Collection[int]) -> None:
    """In a transaction: delete damaged thumbnails."""
    for doc, media in table.of(docs).items():
        if media is not None:
            store.count_more(*table.drop_thumbnail(doc, media))
