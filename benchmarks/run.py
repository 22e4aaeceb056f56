"""`make bench`: every ratio that the project promises, each measured against a named peer in this one run."""

from __future__ import annotations

import startup

if __name__ == "__main__":
    startup.main()
