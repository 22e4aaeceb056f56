"""Which files a folder holds for a reader: not the hidden ones, not what tools keep there, and no links to elsewhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestra.errors import UsageError
from orchestra.errors.system import why
from orchestra.sessions.records import storable
from orchestra.texts import Words

TOOLS = frozenset("node_modules __pycache__ site-packages venv env.bak __MACOSX".split())
"""Folders in which people keep nothing that they wrote; those that begin with a dot are left out anyway."""
ENVIRONMENT = "pyvenv.cfg"  # what makes a folder a virtual environment, whatever its name


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file to be read, as it was when it was found."""

    path: str  # absolute, as it was named: symbolic links are not resolved
    size: int
    mtime_ns: int

    @property
    def uri(self) -> str:
        """The path as text, whatever bytes its name has."""
        return storable(self.path)


@dataclass(slots=True, kw_only=True)
class Listing:
    """What was found, what could not be looked at and why, and how many were passed over as nobody's text."""

    roots: list[str] = field(default_factory=list)  # the paths that were named
    files: list[File] = field(default_factory=list)
    refused: list[tuple[str, Words]] = field(default_factory=list)
    hidden: int = 0


def full(path: str | Path) -> str:
    """The absolute path, as it is named: symbolic links are not resolved."""
    return os.path.abspath(os.path.expanduser(path))


def below(uri: str, roots: Sequence[str]) -> bool:
    """Whether a document is one of these paths, or in a folder that is."""
    return any(uri == root or uri.startswith(root.rstrip("/") + "/") for root in roots)


def listed(paths: Sequence[str | Path]) -> Listing:
    """The files that are named, and those in the folders that are named. Raises `UsageError` for what is not there."""
    listing = Listing()
    seen: set[tuple[int, int]] = set()
    taken: set[str] = set()
    for path in paths:
        absolute = full(path)
        try:
            found = os.stat(absolute)
        except OSError as error:
            raise _absent(str(path), error) from None
        listing.roots.append(storable(absolute))
        for file in _walked(absolute, found, listing, seen):
            if file.path not in taken:
                taken.add(file.path)
                listing.files.append(file)
    return listing


def _absent(path: str, error: OSError) -> UsageError:
    reason = why(error)
    return UsageError(
        detail=f"{path}: {reason.en}",
        detail_zh=f"{path}：{reason.zh}",
        fix="name a file or a folder; what is gone leaves the knowledge base with `orchestra knowledge remove NAME PATH`",
        fix_zh="请给出文件或目录；已删除的文件可用 `orchestra knowledge remove 名称 路径` 移出知识库",
    )


def _walked(path: str, found: os.stat_result, listing: Listing, seen: set[tuple[int, int]]) -> Iterator[File]:
    """The files at a path and below it, folder by folder."""
    if not stat.S_ISDIR(found.st_mode):
        yield from _file(path, found, listing)
        return
    top = os.path.realpath(path)
    folders = [(path, found)]
    while folders:
        folder, found = folders.pop()
        if (found.st_dev, found.st_ino) in seen:
            continue
        seen.add((found.st_dev, found.st_ino))
        deeper: list[tuple[str, os.stat_result]] = []
        for name in _names(folder, listing):
            inside = os.path.join(folder, name)
            try:
                status = os.lstat(inside)
            except OSError as error:
                listing.refused.append((storable(inside), why(error)))
                continue
            if stat.S_ISLNK(status.st_mode):
                _link(inside, top, listing)
            elif stat.S_ISDIR(status.st_mode):
                deeper.append((inside, status))
            else:
                yield from _file(inside, status, listing)
        folders.extend(reversed(deeper))


def _link(path: str, top: str, listing: Listing) -> None:
    """No link is followed: what it leads to is met anyway, or lies outside, where a folder of somebody else's must not lead."""
    if below(os.path.realpath(path), [top]):
        listing.hidden += 1
    else:
        why = Words("it is a link that leads out of the folder; name what it leads to", "这是指向目录之外的链接；请直接给出它指向的路径")
        listing.refused.append((storable(path), why))


def _names(folder: str, listing: Listing) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        listing.refused.append((storable(folder), why(error)))
        return []
    if ENVIRONMENT in names:
        listing.hidden += 1
        return []
    kept = [name for name in names if not name.startswith(".") and name not in TOOLS]
    listing.hidden += len(names) - len(kept)
    return kept


def _file(path: str, found: os.stat_result, listing: Listing) -> Iterator[File]:
    # a pipe or a device would keep its reader waiting
    if stat.S_ISREG(found.st_mode):
        yield File(path=path, size=found.st_size, mtime_ns=found.st_mtime_ns)
    else:
        listing.refused.append((storable(path), Words("it is no regular file", "不是普通文件")))
