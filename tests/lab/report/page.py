"""A finished page, read the way a browser reads it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """What the tests ask a page: its text, its headings in order, and every tag's attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[tuple[str | None, str]] = []
        self.section: str | None = None
        self.stack: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "section" or (tag in ("h2", "h3", "h4") and "id" in dict(attrs)):
            self.section = dict(attrs).get("id")
        if tag not in ("img", "meta", "link", "br", "input"):
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.stack:
            self.pieces.append((self.section, data))

    def text(self, section: str | None = None) -> str:
        joined = " ".join(piece for place, piece in self.pieces if section in (None, place))
        return re.sub(r"\s+", " ", joined).strip()

    def images(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == "img"]


def page_of(out: Path) -> Page:
    return Page((out / "index.html").read_text(encoding="utf-8"))
