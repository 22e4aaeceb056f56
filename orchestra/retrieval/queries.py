"""The queries of a question: a follow-up made whole, a draft, the keywords of both - the requests to the model beside the answer.

None of them may keep the answer from being given: what fails is replaced by what a rule can make of the words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from orchestra.errors import OrchestraError
from orchestra.model.client import Client
from orchestra.model.messages import Message, Options, Reply, gathered
from orchestra.model.thinking import unspent
from orchestra.model.untrusted import visible
from orchestra.retrieval.ledger import Book
from orchestra.retrieval.prompt import KEYWORD_SCHEMA, QUERY_SCHEMA, Asked, drafting, keywording, rewriting
from orchestra.retrieval.terms import HAN, HAN_CHARACTER, terms

LONGEST_DRAFT = 120  # tokens
MOST_KEYWORDS = 6
LONGEST_KEYWORD = 40  # characters
LONGEST_QUERY = 300
FROM_DIALOGUE = 0.5  # of a rewritten question's words, the share that the dialogue must have
_SMALL = Options(temperature=0.0, max_tokens=120)
_ALL_HAN = re.compile(f"[{HAN}]+")
_AND_HAN = re.compile(f"(?:那么?|而)?([{HAN}]{{1,6}}?)呢[?？。]?")
_NAMED = re.compile(
    r"(?:\b(in|of|at|for|from|to|about|on|by|with)\s{1,3}(?:the\s{1,3})?)?\b([A-Z][\w'’-]*(?:\s{1,3}(?:&\s{1,3})?[A-Z0-9][\w'’-]*)*)",
)
_OF = {"", "in", "of", "about"}  # before what a question is about
_DATED = frozenset(
    "I Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March April May June July August September "
    "October November December Christmas Easter".split()
)
_NO_WORDS = re.compile(r"[\s\"“”'‘’()（）\[\]【】{}<>|&*~^:;,，、；]+")


class Asker:
    """Asks the model the small questions beside the answer; what each took is written into the book."""

    def __init__(self, client: Client, model: str, options: Options, book: Book) -> None:
        self._client = client
        self._model = model
        # the caller's bounds and sampling are those of the answer; the window and the deadline are those of all
        self._options = Options(num_ctx=options.num_ctx, deadline=options.deadline, seed=options.seed)
        self._book = book
        self.conversation: tuple[Message, ...] = ()  # draft and keywords, for the answer to go on from

    async def standalone(self, asked: Asked) -> str:
        """A follow-up as a question of its own; where the model fails, with the words of the question before it."""
        with self._book.timed("rewrite"):
            reply = await self._said(rewriting(asked.question, asked.said, asked.language), format=QUERY_SCHEMA)
        said = _object(reply.text if reply else "").get("query")
        found = _one_line(said)[:LONGEST_QUERY] if isinstance(said, str) else ""
        query = found if _taken_from(found, asked) else with_last_words(asked.question, asked.said)
        self._book.rewritten(query)
        return query

    async def draft(self, asked: Asked) -> str:
        """What the model would say without sources; empty where it says nothing."""
        with self._book.timed("draft"):
            reply = await self._said(drafting(asked), max_tokens=LONGEST_DRAFT)
        draft = reply.text.strip() if reply else ""
        self._book.drafted(draft)
        return draft

    async def keywords(self, asked: Asked, query: str, draft: str = "") -> tuple[str, ...]:
        """At most six words to look for, in the question's language and in English; by rule where the model gives none."""
        with self._book.timed("keywords"):
            messages = keywording(asked, draft)
            reply = await self._said(messages, format=KEYWORD_SCHEMA)
        self.conversation = (*messages, Message("assistant", reply.text)) if reply else tuple(messages[:-1])
        listed = _object(reply.text if reply else "").get("keywords")
        words = kept_words(listed if isinstance(listed, list) else []) or kept_words(list(terms(f"{query} {draft}")))
        self._book.keyed(words)
        return words

    async def _said(self, messages: Sequence[Message], **fields: Any) -> Reply | None:
        try:
            think = unspent(await self._client.facts(self._model))
            options = replace(self._options.over(_SMALL), think=think, **fields)
            reply = gathered([piece async for piece in self._client.chat(messages, model=self._model, options=options)])
        except OrchestraError as fault:
            if fault.reply is None:
                return None
            reply = fault.reply
        self._book.called(reply.receipt, reply.usage)
        return reply


def with_keywords(query: str, keywords: Sequence[str]) -> tuple[str, ...]:
    """The queries of a round: the question itself, and the keywords by their script; never what a draft says."""
    han = " ".join(word for word in keywords if HAN_CHARACTER.search(word))
    other = " ".join(word for word in keywords if not HAN_CHARACTER.search(word))
    return tuple(dict.fromkeys(filter(None, (query, han, other))))


def with_last_words(question: str, said: Sequence[Message]) -> str:
    """A follow-up with the words of the question before it that it lacks, but for a name in whose place it has another one."""
    before = next((message.content[:LONGEST_QUERY] for message in reversed(said) if message.role == "user"), "")
    known = {*terms(question), *_replaced(question[:LONGEST_QUERY], before)}
    words = dict.fromkeys(word for word in terms(before) if word not in known)
    return " ".join([question.strip(), *words])[:LONGEST_QUERY]


def _replaced(question: str, before: str) -> set[str]:
    """The words of the names of `before` for which `question` has others: "And in Germany?" leaves no France."""
    gone: set[str] = set()
    new, old = _names(question), _names(before)
    for name in old:
        rivals = [other.where for other in new if other.model == name.model]
        only = sum(name.model == other.model for other in old) == 1
        if (name.where and name.where in rivals) or (only and name.where in _OF and _OF.intersection(rivals)):
            gone.update(terms(name.text))
    if (asked := _AND_HAN.fullmatch(question.strip())) and len(word := asked[1]) > 1:
        for end in re.finditer(word[-1], before):
            other = before[max(0, end.end() - len(word)) : end.end()]
            if len(other) == len(word) and _ALL_HAN.fullmatch(other):
                gone.update(terms(other))
    return gone


class _Name(NamedTuple):
    text: str
    where: str  # the preposition before it
    model: bool  # with a number in it: a thing that is made


def _names(text: str) -> list[_Name]:
    """The capitalised words within the sentences of a text, but for days and months."""
    return [
        _Name(found[2], (found[1] or "").lower(), any(map(str.isdigit, found[2])))
        for found in _NAMED.finditer(text)
        if text[: found.start(2)].rstrip()[-1:] not in ("", *".?!") and found[2] not in _DATED
    ]


def kept_words(listed: Sequence[object]) -> tuple[str, ...]:
    """What may be looked for: short texts without operators of search services, each once, at most six."""
    words: dict[str, str] = {}
    for item in listed:
        word = _NO_WORDS.sub(" ", visible(item[: 4 * LONGEST_KEYWORD])).strip(" -+.!?。！？") if isinstance(item, str) else ""
        if 0 < len(word) <= LONGEST_KEYWORD and any(map(str.isalnum, word)):
            words.setdefault(word.casefold(), word)
    return tuple(words.values())[:MOST_KEYWORDS]


def _taken_from(query: str, asked: Asked) -> bool:
    """Whether a rewritten question is made of the words of the dialogue, and still names what the follow-up names.

    A small model may write whatever comes to its mind.
    """
    words = set(terms(query))
    question = asked.question.strip()[:LONGEST_QUERY]
    instead = _AND_HAN.fullmatch(question)
    if not all(words.intersection(terms(name.text)) for name in _names(question)) or (instead and instead[1] not in query):
        return False
    known = {word for text in (asked.question, *(message.content for message in asked.said)) for word in terms(text)}
    return bool(words) and len(words & known) >= FROM_DIALOGUE * len(words)


def _object(text: str) -> dict[str, Any]:
    """The JSON object of a reply; empty where it is none."""
    try:
        value = json.loads(text[text.find("{") : text.rfind("}") + 1])
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _one_line(text: str) -> str:
    return " ".join(visible(text).split())
