"""SQLite's and the system's errors as the project's own, each with what to do about it."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestra.errors import (
    OrchestraError,
    StorageFull,
    StoreBusy,
    StoreCorrupt,
    StoreFault,
    StoreUnwritable,
)
from orchestra.errors.system import why

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# the system's "file too large" and "over quota" come out of SQLite as a failed write
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE}
_READ = {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}


@contextmanager
def translated(path: Path, timeout: float) -> Iterator[None]:
    """What fails inside leaves as a `StoreFault` about `path`; errors of the project pass as they are."""
    try:
        yield
    except OrchestraError:
        raise
    except sqlite3.Error as error:
        raise _of_sqlite(error, path, timeout) from error
    except OSError as error:
        raise _of_system(error, path) from error
    except (ValueError, TypeError, RecursionError) as error:
        # a row that does not have the shape that it was written in
        raise StoreCorrupt(path=str(path), detail=f"damaged row: {error}") from error


def is_busy(error: BaseException) -> bool:
    """Whether waiting may help."""
    return isinstance(error, sqlite3.OperationalError) and _primary(error) in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    )


def _primary(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _of_sqlite(error: sqlite3.Error, path: Path, timeout: float) -> OrchestraError:
    code = getattr(error, "sqlite_errorcode", 0)
    primary = _primary(error)
    if is_busy(error):
        return StoreBusy(path=str(path), seconds=round(timeout, 1))
    if code in _FULL:
        return _full(path)
    if code in _READ or primary in _SORTS:
        return _SORTS.get(primary, _corrupt)(path, str(error))
    if primary == sqlite3.SQLITE_IOERR:
        return _unwritable(path, str(error))
    return StoreFault(path=str(path), detail=str(error))


def _of_system(error: OSError, path: Path) -> OrchestraError:
    if error.errno in _NO_ROOM:
        return _full(path)
    return StoreUnwritable(path=str(path), detail=why(error).en, detail_zh=why(error).zh)


def _full(path: Path) -> StorageFull:
    return StorageFull(path=str(path), free=free_bytes(path))


def _corrupt(path: Path, detail: str) -> OrchestraError:
    return StoreCorrupt(path=str(path), detail=detail)


def _unwritable(path: Path, detail: str) -> OrchestraError:
    return StoreUnwritable(path=str(path), detail=detail)


_SORTS: dict[int, Callable[[Path, str], OrchestraError]] = {
    sqlite3.SQLITE_NOTADB: _corrupt,
    sqlite3.SQLITE_CORRUPT: _corrupt,
    sqlite3.SQLITE_MISMATCH: _corrupt,
    sqlite3.SQLITE_READONLY: _unwritable,
    sqlite3.SQLITE_CANTOPEN: _unwritable,
    sqlite3.SQLITE_PERM: _unwritable,
    sqlite3.SQLITE_AUTH: _unwritable,
}


def free_bytes(path: Path) -> int:
    """Bytes free where the file is, or would be; 0 where that cannot be said."""
    for folder in (path, *path.parents):
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            continue
    return 0
