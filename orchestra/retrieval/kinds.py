"""What a body is: text of a page, or something else. Its first bytes are believed before the type that it claims."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from orchestra.errors import TypeRefused

Kind = Literal["html", "plain"]
HTML = {"text/html", "application/xhtml+xml"}
PLAIN = {"text/plain", "text/markdown", "text/x-markdown"}


class _Sign(NamedTuple):
    start: bytes
    en: str
    zh: str


_SIGNS = [
    _Sign(b"%PDF-", "a PDF", "PDF 文件"),
    _Sign(b"PK\x03\x04", "a ZIP archive or an office document", "ZIP 压缩包或办公文档"),
    _Sign(b"PK\x05\x06", "a ZIP archive", "ZIP 压缩包"),
    _Sign(b"\xd0\xcf\x11\xe0", "an office document", "办公文档"),
    _Sign(b"{\\rtf", "an RTF document", "RTF 文档"),
    _Sign(b"MZ", "a program", "可执行程序"),
    _Sign(b"\x7fELF", "a program", "可执行程序"),
    _Sign(b"\xca\xfe\xba\xbe", "a program", "可执行程序"),
    _Sign(b"\xcf\xfa\xed\xfe", "a program", "可执行程序"),
    _Sign(b"\x00asm", "a program", "可执行程序"),
    _Sign(b"\x1f\x8b", "a gzip archive", "gzip 压缩文件"),
    _Sign(b"BZh", "a bzip2 archive", "bzip2 压缩文件"),
    _Sign(b"\xfd7zXZ", "an xz archive", "xz 压缩文件"),
    _Sign(b"\x28\xb5\x2f\xfd", "a zstd archive", "zstd 压缩文件"),
    _Sign(b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z 压缩文件"),
    _Sign(b"Rar!", "a RAR archive", "RAR 压缩文件"),
    _Sign(b"\x89PNG", "a picture", "图片"),
    _Sign(b"\xff\xd8\xff", "a picture", "图片"),
    _Sign(b"GIF8", "a picture", "图片"),
    _Sign(b"RIFF", "a picture or a recording", "图片或音视频"),
    _Sign(b"ID3", "a recording", "音频"),
    _Sign(b"OggS", "a recording", "音频"),
    _Sign(b"\x1aE\xdf\xa3", "a recording", "视频"),
    _Sign(b"SQLite format 3", "a database", "数据库"),
]
_MARKED = (b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")
_TAG = re.compile(rb"<(?:!doctype\s{1,9}html|html|head|body|title|meta|div|p|h1|article|script)\b", re.IGNORECASE)


def kind_of(url: str, content_type: str, body: bytes) -> Kind:
    """Whether the body is HTML or plain text. Raises `TypeRefused`, which names what else it is."""
    head = body[:1024]
    for sign in _SIGNS:
        # two letters may begin a text as well; then no zero follows
        if head.startswith(sign.start) and (len(sign.start) > 3 or _binary(head)):
            raise TypeRefused(url=url, kind=sign.en, kind_zh=sign.zh)
    if head[4:8] == b"ftyp":
        raise TypeRefused(url=url, kind="a recording", kind_zh="视频")
    claimed = re.split("[;,]", content_type)[0].strip().lower()[:60]
    if claimed and claimed not in HTML | PLAIN:
        raise TypeRefused(url=url, kind=claimed)
    if _binary(head):
        raise TypeRefused(url=url, kind="binary data", kind_zh="二进制数据")
    if claimed in HTML or (not claimed and _TAG.search(head)):
        return "html"
    return "plain"


def _binary(head: bytes) -> bool:
    """Bytes that no text has; text of two-byte units has zeros on one side only."""
    if head.startswith(_MARKED):
        return False
    even, odd = head[::2].count(0), head[1::2].count(0)
    controls = sum(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in head) - even - odd
    return controls > 0.02 * len(head) or min(even, odd) > 0 or (0 < even + odd < 0.2 * len(head) / 2)
