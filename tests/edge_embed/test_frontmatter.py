"""frontmatter.py: what stands before a Markdown text."""

from pathlib import Path
from typing import Any

import pytest

from edge_embed.files.documents import read_documents
from edge_embed.files.frontmatter import split_front_matter


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("title: A history of ferries", {"title": "A history of ferries"}),
        ('title: "A: b \\"c\\""\nby: \'it\'\'s\'', {"title": 'A: b "c"', "by": "it's"}),
        ("year: 1999\nprice: 9.5\ndraft: true\nzip: 01234\ndate: 2024-05-01", {
            "year": 1999, "price": 9.5, "draft": True, "zip": "01234", "date": "2024-05-01"}),
        ("tags: [boats, 'sea, deep', 3]", {"tags": ["boats", "sea, deep", 3]}),
        ("tags:\n  - boats\n  - sea\nyear: 5", {"tags": ["boats", "sea"], "year": 5}),
        ("tags:\n- a\n# a comment\n\n- b # another", {"tags": ["a", "b"]}),
        ("empty:\nnothing: null\nurl: https://example.org/a#b", {
            "empty": "", "nothing": None, "url": "https://example.org/a#b"}),
        ("", {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_is_read(block: str, expected: dict[str, Any], newline: str) -> None:
    """Names with texts, numbers, truths, and lists."""
    lines = ["---", *block.splitlines(), "---", "The text.", ""]
    assert split_front_matter(newline.join(lines)) == (expected, f"The text.{newline}")


@pytest.mark.parametrize(
    "text",
    [
        "No front matter.",
        "---\nnever: closed\n",
        "--- \nword\n---\ntext",
        "---\na:\n  b: 1\n---\ntext",
        "---\na: |\n  long\n---\ntext",
        "---\na: {b: 1}\n---\ntext",
        "---\na: [1, [2]]\n---\ntext",
        "---\na: [1\n---\ntext",
        "---\na: 1\na: 2\n---\ntext",
        "---\n- a\n---\ntext",
        "---\na: b: c\n---\ntext",
        "---\na: &x 1\n---\ntext",
        '---\na: "b" c\n---\ntext',
        "text\n---\na: 1\n---\n",
        "---\n" + "a" * 200_000 + ": 1\n---\ntext",
    ],
)
def test_what_is_left_in_the_text(text: str) -> None:
    """Anything that is not understood; nothing is lost."""
    assert split_front_matter(text) == ({}, text)


def test_of_markdown_alone(tmp_path: Path) -> None:
    """It is not part of the text there; in other files it is."""
    content = "---\nlang: en\nsource: web\n---\nThe ferry.\n"
    for name, text in (("a.md", "The ferry.\n"), ("a.markdown", "The ferry.\n"), ("a.txt", content)):
        (tmp_path / name).write_text(content)
        (document,) = read_documents(tmp_path / name, key="k")
        assert document.text == text
        expected = {"source": "k"} if name == "a.txt" else {"source_file": "k", "lang": "en", "source": "web"}
        assert document.metadata == expected
    (tmp_path / "b.md").write_text("---\nlang: en\n---\n\n")
    assert list(read_documents(tmp_path / "b.md")) == []
