"""`make bench`: every ratio that the project promises, each measured against a named peer in this one run.

Words on the command line choose the parts in whose titles they stand: `make bench ARGS=gateway`. BENCH_FULL=1 makes
the large store one of a million turns; ORCHESTRA_TEST_OLLAMA names a real daemon. With --json one object a line. The
exit code is 1 where something does not hold.
"""

from __future__ import annotations

import sys
import time

import citations
import first_token
import gateway
import gateway_load
import ingest
import knowledge
import prefix
import recall
import retrieval
import routing
import slots
import startup
import store
import team
import tokens
import whole
from bounds import Row, shown

PARTS = {
    "start-up, CPU of whole processes": startup.rows,
    "a whole answer, CPU of whole processes": whole.measured,
    "CPU of a streamed token": tokens.measured,
    "time until the first token": first_token.measured,
    f"a store of {store.LARGE:,} turns beside one of {store.SMALL:,}": store.measured,
    f"what the daemon reads for turn {prefix.TURNS}": prefix.measured,
    f"a knowledge base of {knowledge.LARGE:,} chunks": knowledge.measured,
    "what 40 long dialogues still have of what was said once": recall.measured,
    ingest.TITLE: ingest.measured,
    "finding documents and answering from them": retrieval.measured,
    routing.TITLE: routing.measured,
    team.TITLE: team.measured,
    slots.TITLE: slots.measured,
    "citations: what is found, and how soon": citations.measured,
    gateway.TITLE: gateway.measured,
    gateway_load.TITLE: gateway_load.measured,
}


def main() -> int:
    """Measure one part after the other; the exit code."""
    broken: list[Row] = []
    started = time.monotonic()
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    for title, measured in PARTS.items():
        if words and not any(word in title for word in words):
            continue
        rows = measured()
        shown(title, rows)
        broken += [row for row in rows if not row.holds]
    print(f"{time.monotonic() - started:.0f} s; {'all bounds hold' if not broken else f'{len(broken)} DO NOT HOLD'}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
