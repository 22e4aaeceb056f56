"""Orchestra's own routes beside the lesson's: the stored dialogues, answers with sources, local documents, search.

Where one expert is served alone they are not: whoever asks an expert has no business in the dialogues of its owner.
`/search` speaks as Open WebUI's external search engine does: {"query", "count"}, answered by a list of link, title, snippet.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from orchestra.api import AskFields, AsyncOrchestra
from orchestra.errors import FieldInvalid, SearchUnreachable, SessionMissing
from orchestra.gateway.access import allotted, language_for
from orchestra.gateway.attending import attended
from orchestra.gateway.bodies import read, takes
from orchestra.gateway.branches import chat_of
from orchestra.gateway.owning import owned, stored_name
from orchestra.gateway.reporting import report_of
from orchestra.model.language import language_of
from orchestra.model.messages import Options
from orchestra.model.untrusted import visible
from orchestra.retrieval.ledger import Strategy
from orchestra.retrieval.passages import Passage
from orchestra.retrieval.pipeline import as_json
from orchestra.retrieval.places import places
from orchestra.sessions.export import about, export_json, export_jsonl, export_markdown
from orchestra.sessions.records import SessionRecord
from orchestra.sessions.store import Store

MEDIA = {"jsonl": "application/jsonl", "md": "text/markdown"}
MOST_RESULTS, LONGEST_QUERY, LONGEST_SNIPPET = 20, 2000, 1000
_log = logging.getLogger("orchestra.gateway")


class AskBody(BaseModel):
    """A question that is looked up: on the web, where `search` says, or in `knowledge` bases; a turn of `session` where one is named."""

    model_config = ConfigDict(extra="forbid", strict=True)

    question: str
    search: str | None = Field(default=None, min_length=1, max_length=200)
    knowledge: list[str] = Field(default=[], max_length=16)
    strategy: Strategy = "auto"
    results: int = Field(default=3, ge=1, le=MOST_RESULTS)
    session: str | None = Field(default=None, min_length=1, max_length=200)


class KnowledgeBody(BaseModel):
    """What is looked for in the knowledge base `name`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    query: str = Field(max_length=LONGEST_QUERY)
    name: str = Field(default="default", min_length=1, max_length=200)
    limit: int = Field(default=5, ge=1, le=50)


class SearchBody(BaseModel):
    """What is looked for on the web, as Open WebUI asks an external engine."""

    model_config = ConfigDict(extra="forbid", strict=True)

    query: str = Field(max_length=LONGEST_QUERY)
    count: int = Field(default=3, ge=1, le=MOST_RESULTS)


class ForkBody(BaseModel):
    """The copy's `name` (else the old one with a number), and how many turns it begins with (else all)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str | None = Field(default=None, min_length=1, max_length=200)
    at: int | None = Field(default=None, ge=0)


def mount(app: FastAPI, orchestra: AsyncOrchestra) -> None:
    """Puts the routes on `app`."""
    _sessions(app, orchestra)
    _asking(app, orchestra)


class _Shelf:
    """The sessions that are open to a request, by the names that the holder of its key gave them."""

    def __init__(self, request: Request, store: Store) -> None:
        self._store, self._request, self._holder = store, request, request.state.holder

    def all(self) -> list[dict[str, Any]]:
        """All of them, the one with the newest turn first."""
        return [self.about(record) for record in self._store.sessions() if owned(self._request, record.name)]

    def about(self, record: SessionRecord) -> dict[str, Any]:
        """What is known of one, with the `user` and the `chat` of the client that it was held with."""
        return {**about(record), **self._named(record.name)}

    def stored(self, name: str) -> str:
        """The name under which one is stored. Raises `SessionMissing`, and tells no other's name as near."""
        stored = stored_name(self._request, name)
        if self._store.find(stored) is None:
            raise SessionMissing(name=name, nearest="", nearest_zh="")
        return stored

    def whole(self, name: str) -> dict[str, Any]:
        """One with all that was said in it."""
        found = export_json(self._store, self.stored(name))
        shown = self._named(found["name"])
        return {**found, **shown, "session": shown["name"]}

    def exported(self, name: str, form: str) -> str:
        """One as a file."""
        stored = self.stored(name)
        return export_markdown(self._store, stored) if form == "md" else "".join(export_jsonl(self._store, stored))

    def forked(self, name: str, new: str | None, at: int | None) -> dict[str, Any]:
        """A copy of one."""
        chosen = None if new is None else stored_name(self._request, new)
        return self.about(self._store.fork(self.stored(name), chosen, at=at))

    def delete(self, name: str) -> None:
        """Takes one away."""
        self._store.delete(self.stored(name))

    def _named(self, stored: str) -> dict[str, str | None]:
        name = stored.removeprefix(f"{self._holder}/") if self._holder else stored
        chat = chat_of(name)
        return {"name": name, "user": chat and chat.user, "chat": chat and chat.chat}


def _sessions(app: FastAPI, orchestra: AsyncOrchestra) -> None:
    """A session's name may hold slashes: what is done with one stands before what reads it."""
    store, call = orchestra.store, orchestra.runtime.call_store

    @app.get("/sessions")
    async def sessions(request: Request) -> Any:
        return {"sessions": await call(_Shelf(request, store).all)}

    @app.get("/sessions/{name:path}/export")
    async def export(request: Request, name: str) -> Response:
        form = request.query_params.get("format", "jsonl")
        if form not in MEDIA:
            raise FieldInvalid(field="format", detail="must be 'jsonl' or 'md'", detail_zh="应为以下之一：'jsonl'、'md'")
        text = await call(partial(_Shelf(request, store).exported, name, form))
        # what was said becomes a file, never a page in a browser
        headers = {
            "content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}.{form}",
            "x-content-type-options": "nosniff",
        }
        return Response(text, media_type=f"{MEDIA[form]}; charset=utf-8", headers=headers)

    @app.post("/sessions/{name:path}/fork", status_code=201, openapi_extra=takes(ForkBody))
    async def fork(request: Request, name: str) -> Any:
        body = await read(request, ForkBody, orchestra.settings.body_limit)
        return await call(partial(_Shelf(request, store).forked, name, body.name, body.at))

    @app.get("/sessions/{name:path}")
    async def session(request: Request, name: str) -> Any:
        return JSONResponse(await call(partial(_Shelf(request, store).whole, name)))

    @app.delete("/sessions/{name:path}", status_code=204)
    async def delete(request: Request, name: str) -> None:
        await call(partial(_Shelf(request, store).delete, name))


def _asking(app: FastAPI, orchestra: AsyncOrchestra) -> None:
    @app.post("/ask", openapi_extra=takes(AskBody))
    async def ask(request: Request) -> Any:
        body = await read(request, AskBody, orchestra.settings.body_limit)
        fields = AskFields(results=body.results)
        if body.session:
            fields["session"] = stored_name(request, body.session)
        options = Options(max_tokens=allotted(request.headers))

        async def answer() -> Response:
            told = await orchestra.ask(
                body.question, search=body.search or "", knowledge=body.knowledge, strategy=body.strategy, options=options, **fields
            )
            report_of(request.scope).spoken(told.model, told)
            return JSONResponse({"response": told.text, **as_json(told)})

        return await attended(request, answer())

    @app.post("/knowledge/search", openapi_extra=takes(KnowledgeBody))
    async def knowledge(request: Request) -> Any:
        body = await read(request, KnowledgeBody, orchestra.settings.body_limit)
        language = language_for(request.headers, orchestra.settings)

        async def found() -> dict[str, Any]:
            hits = await orchestra.knowledge.search(body.query, name=body.name, limit=body.limit)
            why = hits.why.message(language) if hits.why else ""
            return {"hits": [hit.as_json() for hit in hits.hits], "mode": hits.mode, "why": why}

        return await attended(request, found())

    @app.post("/search", openapi_extra=takes(SearchBody))
    async def search(request: Request) -> Any:
        body = await read(request, SearchBody, orchestra.settings.body_limit)
        return await attended(request, _searched(orchestra, body))


async def _searched(orchestra: AsyncOrchestra, body: SearchBody) -> list[dict[str, str]]:
    """What the search services give; raises `SearchUnreachable` where none of them has answered."""
    found: list[Passage] = []
    tried, last = list[str](), ""
    for place in places("", orchestra.settings, orchestra.runtime, tell=lambda words: _log.info(words.en)):
        findings = await place.retrieve([body.query.strip()], results=body.count, language=language_of(body.query))
        found += findings.passages
        if any(attempt.outcome in ("found", "nothing") for attempt in findings.attempts):
            return [_result(passage) for passage in found[: body.count]]
        tried += [attempt.name for attempt in findings.attempts]
        last = next((attempt.error for attempt in reversed(findings.attempts) if attempt.error), last)
    if tried and not found:
        raise SearchUnreachable(provider=", ".join(dict.fromkeys(tried)), detail=last, detail_zh=last)
    return [_result(passage) for passage in found[: body.count]]


def _result(passage: Passage) -> dict[str, str]:
    title, text = (" ".join(visible(part).split()) for part in (passage.title, passage.text))
    return {"link": passage.url, "title": title or passage.url, "snippet": text[:LONGEST_SNIPPET]}
