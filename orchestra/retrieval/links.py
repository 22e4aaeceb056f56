"""Links of an answer that no source has are shown as text: nothing is fetched for them, and nobody clicks them by mistake.

A page that was read may tell the model to write an image whose address carries what the user said away; whatever
renders the answer would fetch it. So of Markdown and HTML everything that makes a link or an image is broken up by a
blank, and an address is put between backticks without its scheme, unless it is one of the sources' (its own spelling is
written then). Images are never loaded. What renders as code stays as it is: top-level fences, and code spans in a line.

    [click](https://example.org/a)   ->   [click] (`example.org/a`)
    ![](https://example.org/a.png)   ->   ! [] (`example.org/a.png`)
    <img src=x>                      ->   < img src=x>
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import replace

from orchestra.errors import OrchestraError
from orchestra.model.messages import Piece
from orchestra.retrieval.ranking import canonical

LONGEST = 2048  # characters of an address; what follows it is text
LONGEST_SPAN = 300  # characters that are held back until a span of code ends

_PART = r"[^\s<>\"`\[\](){}|，。；：！？（）【】「」『』、]"
_IN_BRACKETS = r"\([^\s<>\"`()\[\]|]{0,200}\)"
_ADDRESS = re.compile(rf"{_PART}{{1,{LONGEST}}}(?:{_IN_BRACKETS}{_PART}{{0,200}})?")
_BRACKET_BEGUN = re.compile(r"\([^\s<>\"`()\[\]|]{0,200}\Z")
_SOURCE = re.compile(r"https?://[^\s<>\"'`()\[\]\\|*_]+(?:\([\w,.-]{1,200}\)|_)*[^\s<>\"'`()\[\]\\|*]*")
_TARGET = re.compile(rf"\]\(({_PART}{{1,{LONGEST}}}(?:{_IN_BRACKETS}{_PART}{{0,200}})?)\)")
_TARGET_BEGUN = re.compile(r"\]\([^\s<>\"`\[\]]*")
# what may stand behind a source's address: anything else could lengthen it
_FREE = re.compile(r"[.,;:!?*_)]{0,4}(?:\s|\Z)|[。，；：！？）】」、]")
_SCHEME = re.compile(r"(?:https?|ftp|wss?)\\?:[\\/]*|//", re.IGNORECASE)
# letters may be written as entities, and signs behind backslashes; both are undone here before a renderer does it
_SPECIAL = re.compile(
    r"(?P<line>\n(?=[`~]))|(?P<code>`+)|(?P<image>!(?=\[))|(?P<label>\](?=[(:]))|(?P<tag><(?=[a-z/!?]))|(?P<entity>&(?=\#|[a-z]{2,8};))"
    r"|(?P<url>(?:https?|ftp|wss?)\\?:(?=[\\/])|www\\?\.(?=\S)|(?<![a-z\d])(?:mailto|xmpp):(?=\S)|(?<![:/\w])//(?=\w))",
    re.IGNORECASE,
)
# ends of what has come that may yet become one of these: the fewer, the sooner text is shown
_OPENINGS = ("https:", "http:", "ftp:", "wss:", "ws:", "www.", "mailto:", "xmpp:")
_BEGUN = sorted({word[:n] for word in _OPENINGS for n in range(1, 8)}, key=len, reverse=True)
_UNDECIDED = re.compile(rf"(?:!|\]|<|&[a-z]{{0,8}}|/{{1,2}}|(?:{'|'.join(re.escape(begun) for begun in _BEGUN)})\\?:?)\Z", re.IGNORECASE)
_PLAIN_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|mdash|ndash|hellip|copy|deg|times|middot);", re.IGNORECASE)
_FENCE = re.compile(rf"(`{{3,}}+)[^`\n]{{0,{LONGEST}}}+\n|(~{{3,}}+)[^\n]{{0,{LONGEST}}}+\n")
_FENCE_BEGUN = re.compile(r"(?:`{1,2}|`{3,}+[^`\n]*+|~{1,2}|~{3,}+[^\n]*+)\Z")
_FENCE_TOO_LONG = re.compile(rf"`{{3,}}+[^`\n]{{{LONGEST}}}|~{{3,}}+[^\n]{{{LONGEST}}}|`{{{LONGEST}}}|~{{{LONGEST}}}")


def without_links(text: str, sources: Iterable[str] = ()) -> str:
    """`text` with every link and image shown as text, except to one of the addresses in `sources`."""
    shown = _Shown(sources)
    return shown.push(text) + shown.close()


async def linkless(pieces: AsyncGenerator[Piece], *, sources: Iterable[str] = ()) -> AsyncGenerator[Piece]:
    """`pieces` whose text has no links but to `sources`; what may become a link waits until it shows."""
    shown = _Shown(sources)
    fault: OrchestraError | None = None
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                text = shown.push(piece.text) if piece.kind == "text" else piece.text
                if piece.keep is None and piece.finish_reason is None:
                    if text or piece.logprobs or piece.receipt:
                        yield piece._replace(text=text)
                    continue
                text += shown.close()
                keep = None if piece.keep is None else shown.place(piece.keep)
                if piece.finish_reason is None:  # the answer goes on from there: what was held belongs to what is cut
                    if text:
                        yield Piece(text)
                        text = ""
                    shown.cut(piece.keep or 0)
                yield piece._replace(text=text, keep=keep)
    except OrchestraError as error:
        fault = error
    if held := shown.close():
        yield Piece(held)
    if fault is not None:
        if fault.reply is not None:
            fault.reply = replace(fault.reply, text=without_links(fault.reply.text, shown.sources))
        raise fault


class _Shown:
    """Text as it comes, with its links as text; `place` tells where a place of the text has come to."""

    def __init__(self, sources: Iterable[str]) -> None:
        self.sources = tuple(sources)
        self._own = {canonical(url): url for url in self.sources if _SOURCE.fullmatch(url)}
        self._text = ""  # all that has come,
        self._at = 0  # ... and how much of it is shown
        self._written = 0
        self._last = ""  # the last character that was shown
        self._changes: list[tuple[int, int, int, int]] = []  # from, to; shown from, to
        self._fence = ""
        self._loose: set[int] = set()  # lengths of runs of backticks that opened nothing: one may end a later span too early

    def push(self, text: str) -> str:
        """What can be shown now that `text` has come."""
        self._text += text
        return self._advance(final=False)

    def close(self) -> str:
        """What was held back; nothing follows it."""
        return self._advance(final=True)

    def place(self, kept: int) -> int:
        """How many characters of what is shown belong to the first `kept` characters of the text."""
        change = bisect_right(self._changes, kept, key=lambda change: change[0]) - 1
        if change < 0:
            return min(kept, self._written)
        begin, end, shown, shown_end = self._changes[change]
        return shown if begin < kept < end else shown_end + kept - end if kept >= end else shown

    def cut(self, kept: int) -> None:
        """The text goes on after its first `kept` characters."""
        written = self.place(kept)
        again = _Shown(self.sources)
        again.push(self._text[:kept])
        again.close()
        self._fence, self._loose, self._last = again._fence, again._loose, again._last
        self._text, self._at, self._written = self._text[:kept], kept, written
        self._changes = [change for change in self._changes if change[1] <= kept] + [(kept, kept, written, written)]

    def _advance(self, *, final: bool) -> str:
        shown: list[str] = []
        while self._at < len(self._text):
            step = self._in_fence(final) if self._fence else self._step(final)
            if step is None:
                break
            end, text = step
            if text != self._text[self._at : end]:
                self._changes.append((self._at, end, self._written, self._written + len(text)))
            shown.append(text)
            self._at = end
            self._written += len(text)
            self._last = text[-1:] or self._last
        return "".join(shown)

    def _begins_line(self) -> bool:
        return self._at == 0 or self._text[self._at - 1] == "\n"

    def _in_fence(self, final: bool) -> tuple[int, str] | None:
        """A block of code passes as it is; its last line ends it."""
        end = self._text.find("\n", self._at) + 1 or len(self._text)
        line_begin = self._text.rfind("\n", 0, self._at) + 1
        if end and self._text[end - 1] == "\n":
            line = self._text[line_begin : end - 1]
            bare = line.strip(" \t")
            if len(line) - len(line.lstrip(" ")) < 4 and len(bare) >= len(self._fence) and set(bare) == {self._fence[0]}:
                self._fence = ""
        return end, self._text[self._at : end]

    def _step(self, final: bool) -> tuple[int, str] | None:
        """Up to where the text can be shown next, and as what; None where more must come first."""
        text, at = self._text, self._at
        if self._begins_line() and text[at] in "`~":
            if fence := _FENCE.match(text, at):
                self._fence = fence[1] or fence[2]
                return fence.end(), fence[0]
            if _FENCE_TOO_LONG.match(text, at):
                return at + 1, text[at] + " "  # no block of code begins unseen
            if not final and _FENCE_BEGUN.match(text, at):
                return None
        return self._prose(final)

    def _prose(self, final: bool) -> tuple[int, str] | None:
        text, at = self._text, self._at
        special = _SPECIAL.search(text, at)
        if special is None:
            begun = None if final else _UNDECIDED.search(text, max(at, len(text) - 40))
            end = begun.start() if begun else len(text)
            return (end, text[at:end]) if end > at else None
        if special.start() > at:
            return special.start(), text[at : special.start()]
        return self._changed(special, final)

    def _changed(self, special: re.Match[str], final: bool) -> tuple[int, str] | None:
        text, at = self._text, self._at
        match special.lastgroup:
            case "line":
                return special.end(), special[0]
            case "code":
                return self._code(special, final)
            case "label":
                return self._label(final)
            case "url":
                return self._url(special, final)
            case "entity" if plain := _PLAIN_ENTITY.match(text, at):
                return plain.end(), plain[0]
        return at + 1, text[at] + " "  # ![ and <a and &#

    def _code(self, run: re.Match[str], final: bool) -> tuple[int, str] | None:
        """A span of code in one line passes as it is, where nothing before it can end it elsewhere."""
        text, length = self._text, len(run[0])
        if run.end() == len(text) and not final and length < LONGEST:
            return None
        if self._last == "\\":
            self._loose |= {length, length - 1}
        if length in self._loose:
            return run.end(), run[0]
        line = text.find("\n", run.end(), run.end() + LONGEST_SPAN)
        limit = line if line >= 0 else min(len(text), run.end() + LONGEST_SPAN)
        closing = re.compile(rf"(?<!`)`{{{length}}}(?!`)").search(text, run.end(), limit)
        if closing and (closing.end() < len(text) or final):
            if "|" not in text[run.end() : closing.start()]:  # a table cuts its cells first
                return closing.end(), text[run.start() : closing.end()]
        elif line < 0 and limit == len(text) and not final:
            return None
        self._loose.add(length)
        return run.end(), run[0]

    def _label(self, final: bool) -> tuple[int, str] | None:
        """Behind the label of a link: only a source's own address stays what it is."""
        text, at = self._text, self._at
        if self._own and text[at + 1] == "(":
            if (target := _TARGET.match(text, at)) and (own := self._own.get(canonical(target[1]))):
                if not final and len(text) - target.end() < 6:
                    return None
                return target.end(), f"]({own})" + ("" if _FREE.match(text, target.end()) else " ")
            if not final and _TARGET_BEGUN.fullmatch(text, at) and len(text) - at < LONGEST:
                return None
        return at + 1, "] "

    def _url(self, opening: re.Match[str], final: bool) -> tuple[int, str] | None:
        """An address: a source's in the source's own spelling, any other between backticks and without its scheme."""
        text, at = self._text, self._at
        found = _ADDRESS.match(text, at)
        if found is None:
            return opening.end(), opening[0]
        if not final and found.end() - at < LONGEST and (found.end() == len(text) or _BRACKET_BEGUN.match(text, found.end())):
            return None
        address = found[0].rstrip(".,;:!?*_~'\\")
        end = at + len(address)
        if own := self._own.get(canonical(address)):
            return end, own if not text[found.end() : found.end() + 1].strip() else own + " "
        bare = _SCHEME.sub("", address, count=1)
        if not bare or len(address) <= len(opening[0]):
            return opening.end(), opening[0]
        mark = "`" * next(n for n in range(1, len(self._loose) + 2) if n not in self._loose)
        before = " " if self._last in ("`", "\\") else ""
        return end, f"{before}{mark}{bare}{mark}{' ' if text[end : end + 1] == '`' else ''}"
