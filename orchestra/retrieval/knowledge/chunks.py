"""The values of the knowledge base: a document, its sections as they are read, and the chunks that it is found by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A part of a document that is found as a whole, and where it stands there."""

    text: str
    heading: str = ""  # the headings above it: "Guide > Install"
    start: int = 0  # its first line, counted from 1; 0 where the format has no lines
    end: int = 0  # its last line
    page: int = 0  # counted from 1; 0 where the format has no pages

    @property
    def where(self) -> str:
        """Its lines or its page, as people say it."""
        if self.start:
            return f"lines {self.start}-{self.end}" if self.end > self.start else f"line {self.start}"
        return f"page {self.page}" if self.page else ""

    @property
    def place(self) -> str:
        """Where it stands, as people say it: a heading, and its lines or its page."""
        return ", ".join(part for part in (self.heading, self.where) if part)

    @property
    def body(self) -> str:
        """Its text without the lines of its own headings, which `heading` has already."""
        said = {*self.heading.split(" > "), ""}
        rest = self.text
        while rest:
            line, _, after = rest.partition("\n")
            if " ".join(line.strip(" \t#").split()) not in said and line.strip(" \t=-"):
                return rest
            rest = after
        return self.text

    def titled(self, title: str) -> str:
        """A document's title and the headings down to this part: "Guide > Install"."""
        if self.heading == title or self.heading.startswith(f"{title} > "):
            return self.heading
        return " > ".join(part for part in (title, self.heading) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A file that was taken in. `digest` and the two figures of the file tell whether it has changed since."""

    uri: str  # the absolute path; symbolic links stay as they were named
    title: str
    language: str  # "zh" or "en"
    digest: str  # SHA-256 of its bytes, in hexadecimal
    mtime_ns: int
    size: int  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A stretch of a document under one heading, or one page of it."""

    text: str
    heading: str = ""
    line: int = 0  # the line in which `text` begins, counted from 1; 0 where the format has no lines
    page: int = 0
    whole: tuple[tuple[int, int], ...] = ()  # spans of `text` that are better not cut: code blocks, tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What was read from a file."""

    title: str
    sections: tuple[Section, ...] = ()
