"""Who is still alive: each open store holds a lock on a small file of its own, and the lock dies with the process.

A process id would have to be compared with a start time, a boot and (in containers) a name space to mean
anything; the kernel's lock says the same in one question and is right after kill -9, a reboot, and between two
containers that share the folder.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import weakref
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, *, wait: bool) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)

    def _probe(descriptor: int) -> None:
        _lock(descriptor, wait=False)
else:
    import fcntl

    def _lock(descriptor: int, *, wait: bool) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))

    def _probe(descriptor: int) -> None:
        # shared, so that two who ask at once do not take each other for the owner
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


class Owner:
    """One open store. Raises `OSError` where the folder cannot be written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        sweep(folder)
        while True:
            self.id = secrets.token_hex(16)
            self._file = folder / self.id
            self._descriptor = os.open(self._file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            _lock(self._descriptor, wait=True)
            if _same(self._file, self._descriptor):
                break
            os.close(self._descriptor)  # swept away between its creation and its lock
        os.write(self._descriptor, str(os.getpid()).encode())
        _OWNERS.add(self)

    def alive(self, owner: str) -> bool:
        """Whether the store that calls itself `owner` is still open somewhere."""
        return owner == self.id or _held(self._folder / owner)

    def leave(self) -> None:
        """Gives the lock up and removes its file."""
        with contextlib.suppress(OSError):
            self._file.unlink()
        self.forget()

    def forget(self) -> None:
        """Closes the lock; in a forked child that is only its copy, and the lock stays the parent's."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


_OWNERS: weakref.WeakSet[Owner] = weakref.WeakSet()


def _forget_all() -> None:
    for owner in list(_OWNERS):
        owner.forget()


if hasattr(os, "register_at_fork"):
    # a child would keep its dead parent's turns open as long as it lives
    os.register_at_fork(after_in_child=_forget_all)


def sweep(folder: Path) -> None:
    """Removes the files of those who are gone."""
    for file in list(folder.iterdir()):
        if not _held(file):
            with contextlib.suppress(OSError):
                file.unlink()


def _held(file: Path) -> bool:
    try:
        descriptor = os.open(file, os.O_RDWR)
    except (FileNotFoundError, ValueError):
        return False
    except OSError:
        return True  # another user's: what cannot be asked is left in peace
    try:
        _probe(descriptor)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _same(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
