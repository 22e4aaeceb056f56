"""A search provider of one's own: an object with a name and a search; a key, an address, a cache are its own affair.

Run it: `python docs/examples/own_provider.py "when is tea served"`. It needs neither a network nor a model.
"""

import sys

from orchestra import Passage, Settings
from orchestra.retrieval.available import register, searches
from orchestra.runtime import Blocking, finish

NOTES = {
    "Tea": "Tea is served at four, in the garden when the weather allows.",
    "Library": "The library is open from nine to six; the reading room closes an hour earlier.",
}


class Notes:
    """Finds the notes that share a word with the question."""

    name = "notes"
    leaves = False  # no question leaves this machine; without this line it is taken to

    def search(self, query, *, results):
        words = set(query.lower().split())
        hits = [title for title, text in NOTES.items() if words & set(text.lower().split())]
        return [Passage(text=NOTES[title], title=title, url=f"notes:{title}") for title in hits[:results]]


register("notes", lambda settings: Notes())

if __name__ == "__main__":
    question = " ".join(sys.argv[1:]) or "when is tea served"
    line = searches(Settings.read(), "notes", Blocking())
    for passage in finish(line.retrieve([question], results=3, language="en")).passages:
        print(f"{passage.title}: {passage.text}")
