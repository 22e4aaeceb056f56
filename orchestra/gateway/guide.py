"""`/docs` and `/openapi.json`: how the gateway is asked, for people and for programs, made of its own routes.

The page is one file without a script: it asks no other address for anything, and its policy lets no browser do so.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from html import escape
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.responses import HTMLResponse

from orchestra.gateway.access import language_for
from orchestra.gateway.bodies import takes
from orchestra.gateway.examples import Reader, Section
from orchestra.gateway.openai_passing import CHAT
from orchestra.gateway.openai_wire import Completion
from orchestra.gateway.roster import Roster
from orchestra.gateway.routes import ANSWERS, BODIES, PARAMETERS, PURPOSES, described_error
from orchestra.gateway.voices import PREFIX
from orchestra.settings import Settings
from orchestra.texts import Words

LANGUAGES = ("en", "zh")
TITLE = Words("How to ask Orchestra", "如何调用 Orchestra")
_FIRST_LINES = Words(
    "One process, three ways to ask it: the lesson's routes, the OpenAI protocol, Ollama's own. The examples have the address "
    "that you have reached.",
    "一个进程，三种调用方式：课程的接口、OpenAI 协议、Ollama 协议。示例中的地址就是你访问的地址。",
)
_KEY = Words("A key is asked for: the examples take it from ORCHESTRA_TOKEN.", "需要令牌：示例从 ORCHESTRA_TOKEN 读取。")
_NO_KEY = Words("No key is asked for.", "不需要令牌。")
_ALL = Words("All routes", "全部接口")
_HEADERS = Words("route|what it is for|fields of its body (* = needed)", "接口|用途|请求体字段（* 为必填）")
_CODE = re.compile(r"`([^`]*)`")
_STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; max-width: 58rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
h1 { margin-bottom: .2rem } h2 { margin: 2.2rem 0 .3rem; font-size: 1.2rem } nav { float: right }
pre { background: #f4f4f2; padding: .7rem .9rem; overflow-x: auto; border-radius: 6px; margin: .4rem 0 }
code { font: 14px/1.45 ui-monospace, monospace } p code, td code { background: #f4f4f2; padding: 0 .25em; border-radius: 3px }
summary { cursor: pointer; color: #555 } table { border-collapse: collapse; font-size: 14px; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-top: 1px solid #ddd } a { color: #05a }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #181818 } pre, p code, td code { background: #262626 } td, th { border-color: #444 }
  summary { color: #aaa } a { color: #7bf }
}
"""
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_DIGEST}'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept-Language, Host",
}


def mount(app: FastAPI, roster: Roster, settings: Settings) -> None:
    """Adds the page, and describes the routes that are there by then."""
    keyed = bool(settings.token or settings.tokens)
    model = PREFIX + (roster.alone.name if roster.alone else "lawyer")

    def described() -> dict[str, Any]:
        if not app.openapi_schema:
            app.openapi_schema = description(app, keyed=keyed)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]

    @lru_cache(maxsize=8)  # the page is open to whoever reaches the port: making it costs milliseconds
    def written(address: str, language: str) -> str:
        return page(Reader(address=address, keyed=keyed, model=model, language=language), app.openapi())

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        chosen = request.query_params.get("lang", "")
        language = chosen if chosen in LANGUAGES else language_for(request.headers, settings)
        address = f"{request.url.scheme}://{request.headers['host']}"
        return HTMLResponse(written(address, language), headers={**HEADERS, "Content-Language": language})


# --- for programs


def description(app: FastAPI, *, keyed: bool) -> dict[str, Any]:
    """The OpenAPI description: every route with what it is for, its body, and the shape of its errors."""
    whole = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schemas = whole.setdefault("components", {}).setdefault("schemas", {})
    for path, operation in _operations(whole):
        purpose = PURPOSES.get(path)
        if purpose:
            operation["summary"] = purpose.en
            operation.pop("description", None)
        if path == CHAT:
            operation.update(takes(Completion))
        elif path in BODIES:
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": BODIES[path]}}}
        if path in ANSWERS:
            operation["responses"]["200"]["content"] = {kind: {"schema": {}} for kind in ANSWERS[path]}
        if path in PARAMETERS:
            operation["parameters"] = [*operation.get("parameters", []), *PARAMETERS[path]]
        operation["responses"].pop("422", None)  # what the framework would answer, and nobody here does
        for status in ("4XX", "5XX"):
            operation["responses"].setdefault(status, described_error(path))
        _hoisted(operation, schemas)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    if keyed:
        whole["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        whole["security"] = [{"key": []}]
        whole["paths"]["/healthz"]["get"]["security"] = []
    return whole


def _operations(whole: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in whole["paths"].items():
        yield from ((path, operation) for operation in item.values())


def _hoisted(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Definitions inside of a body's schema stand with the others: a reference is read from the top of the document."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        inside = content["schema"].pop("$defs", {})
        content["schema"] = _referring(content["schema"])
        schemas.update({name: _referring(schema) for name, schema in inside.items()})


def _referring(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: each.replace("#/$defs/", "#/components/schemas/") if name == "$ref" else _referring(each) for name, each in value.items()
        }
    return [_referring(each) for each in value] if isinstance(value, list) else value


# --- for people


def page(reader: Reader, whole: Mapping[str, Any]) -> str:
    """The page for a reader: examples, then every route of the description."""
    language = reader.language
    other, name = ("zh", "中文") if language == "en" else ("en", "English")
    sections = "".join(_section(each, language) for each in reader.sections() if each.path in whole["paths"])
    key = _KEY if reader.keyed else _NO_KEY
    return f"""<!doctype html>
<html lang="{language}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{_text(TITLE, language)}</title><link rel="icon" href="data:,"><style>{_STYLE}</style></head><body>
<nav><a href="?lang={other}">{name}</a></nav><h1>{_text(TITLE, language)}</h1>
<p>{_text(_FIRST_LINES, language)} {_text(key, language)} <code>{escape(reader.address)}</code></p>
{sections}<h2>{_text(_ALL, language)}</h2><p><a href="openapi.json">openapi.json</a></p>
{_table(whole, language)}</body></html>
"""


def _section(section: Section, language: str) -> str:
    blocks, shown = [], ""
    for example in section.examples:
        code = f"<pre><code>{escape(example.code)}</code></pre>"
        first = not shown or example.language == shown
        shown = shown or example.language
        blocks.append(code if first else f"<details><summary>{escape(example.language)}</summary>{code}</details>")
    return f"<h2>{_text(section.title, language)}</h2><p>{_text(section.note, language)}</p>{''.join(blocks)}\n"


def _table(whole: Mapping[str, Any], language: str) -> str:
    head = "".join(f"<th>{each}</th>" for each in _HEADERS.text(language).split("|"))
    rows = []
    for path, item in whole["paths"].items():
        for method, operation in item.items():
            purpose = PURPOSES.get(path) or Words(*[operation.get("description") or operation["summary"]] * 2)
            fields = ", ".join(f"<code>{escape(name)}</code>{star}" for name, star in _fields(operation, whole))
            cells = f"<code>{method.upper()} {escape(path)}</code>", _text(purpose, language), fields
            rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _fields(operation: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The fields of a body, and a star for each that is needed."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = content["schema"]
        if "$ref" in schema:
            schema = whole["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        for name in schema.get("properties", {}):
            yield name, "*" if name in schema.get("required", ()) else ""


def _text(words: Words, language: str) -> str:
    """A text of ours as HTML, what stands in backticks as code."""
    return _CODE.sub(r"<code>\1</code>", escape(words.zh if language == "zh" else words.en, quote=False))
