"""What a test reads out of a page: its elements, its text, and what it would load."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from html.parser import HTMLParser

VOID = {"meta", "img", "line", "rect", "circle"}
"""Elements that close themselves in our pages: browsers take a `/>` for an end only in these."""


class _Reader(HTMLParser):
    """Fails where a tag is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID, tag
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tags_of(page: str) -> list[tuple[str, dict[str, str | None]]]:
    """Every tag as a browser's parser sees it; the page must be well-formed for that parser and as XML."""
    ElementTree.fromstring(page)
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader.tags


def loaded(page: str) -> Iterator[str]:
    """Addresses that a browser would load something from."""
    for tag, attributes in tags_of(page):
        for name in ("src", "srcset", "poster", "data", "action", "background", "xlink:href"):
            if attributes.get(name):
                yield str(attributes[name])
        if tag != "a" and attributes.get("href"):
            yield str(attributes["href"])


def text_of(page: str) -> str:
    """What people read, with single spaces; style sheets left out."""
    root = ElementTree.fromstring(page)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == "style":
                parent.remove(child)
    return " ".join("".join(_texts(root)).split())


def _texts(element: ElementTree.Element) -> Iterator[str]:
    """Texts in their order; what is no part of a line has a space around it."""
    space = "" if element.tag in ("b", "bdi") else " "
    yield space + (element.text or "")
    for child in element:
        yield from _texts(child)
        yield child.tail or ""
    yield space
