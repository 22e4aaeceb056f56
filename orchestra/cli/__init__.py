"""Face: the terminal. Commands translate and print, nothing more."""

from __future__ import annotations

import sys


def main() -> None:
    """The `orchestra` command; `--version` alone is answered without loading anything else."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from orchestra import __version__

        print(f"orchestra {__version__}")
        return
    from orchestra.cli.app import run

    run()
