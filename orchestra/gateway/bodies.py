"""What comes in and what goes out, as JSON: strictly read, so that a misspelt field is an error and not a surprise."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from orchestra.errors import BodyInvalid, BodyTooLarge, FieldInvalid, MediaTypeRefused
from orchestra.errors.validation import in_words

Body = TypeVar("Body", bound=BaseModel)
_JSON_FAULTS = {  # in Python's words (Lib/json/decoder.py) and in ours
    "Expecting value": "缺少值",
    "Expecting property name enclosed in double quotes": "缺少双引号括起的键名",
    "Expecting ':' delimiter": "缺少冒号",
    "Expecting ',' delimiter": "缺少逗号",
    "Illegal trailing comma before end of object": "有多余的逗号",
    "Illegal trailing comma before end of array": "有多余的逗号",
    "Unterminated string starting at": "开始的字符串没有闭合",
    "Invalid control character at": "包含控制字符",
    "Invalid \\escape": "转义无效",
    "Invalid \\uXXXX escape": "转义无效",
    "Extra data": "之后有多余内容",
}


class ChatBody(BaseModel):
    """A message to one expert: a dialogue that is kept where `session` names one, else a question of its own."""

    model_config = ConfigDict(extra="forbid", strict=True)

    intent: str
    persona: str | None = Field(default=None, min_length=1, max_length=64)
    session: str | None = Field(default=None, min_length=1, max_length=200)


class TaskBody(BaseModel):
    """A task for the coordinator and its experts; `max_total_tokens` bounds what all of them generate together."""

    model_config = ConfigDict(extra="forbid", strict=True)

    task: str
    max_total_tokens: int | None = Field(default=None, ge=1)


class ChatAnswer(BaseModel):
    """What the expert says, who it is, why the answer ended, the tokens that it took.

    Of one that looks things up its sources are in `ground`; of one with experts of its own it is said whose part is `missing`.
    """

    response: str
    persona: str
    model: str
    finish_reason: str
    session: str | None = None
    usage: dict[str, int] = {}
    ground: dict[str, Any] | None = None
    missing: list[str] | None = None


class TaskAnswer(BaseModel):
    """The integrated answer, the questions to the experts that led to it, and the experts whose part is missing."""

    response: str
    steps: list[dict[str, Any]]
    missing: list[str]
    finish_reason: str


class WhoAnswers(BaseModel):
    """Who answers here, in the words that other agents read."""

    name: str
    description: dict[str, str]


def takes(body: type[BaseModel]) -> dict[str, Any]:
    """The body of a route for its description: the routes read it themselves, strictly."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": body.model_json_schema()}}}}


async def read(request: Request, kind: type[Body], limit: int, *, lenient: bool = False) -> Body:
    """The request's body as `kind`. Raises what is wrong with it, naming the field and never repeating its value.

    `lenient` as the originals of other protocols are: any content type, and what `kind` allows may be empty.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json" and not lenient:
        raise MediaTypeRefused(kind=media)
    body = understood(kind, value_of(await bounded(request, limit)))
    if not lenient:
        _said(body)
    return body


def value_of(raw: bytes) -> Any:
    """What the JSON of a body says. Raises `BodyInvalid`."""
    try:
        return json.loads(raw.decode("utf-8"))
    except json.JSONDecodeError as error:
        offset = len(error.doc[: error.pos].encode())
        raise BodyInvalid(detail=error.msg, detail_zh=_JSON_FAULTS.get(error.msg, "无法读取"), offset=offset) from None
    except UnicodeDecodeError as error:
        raise BodyInvalid(detail="not UTF-8", detail_zh="不是 UTF-8", offset=error.start) from None
    except (RecursionError, ValueError):  # too deep, or a number of thousands of digits
        raise BodyInvalid(detail="nested too deep", detail_zh="嵌套过深", offset=0) from None


def understood(kind: type[Body], value: Any) -> Body:
    """What JSON says, as `kind`. Raises `FieldInvalid`, naming the field and never repeating its value."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        what = in_words(first, list(kind.model_fields))
        raise FieldInvalid(field=".".join(map(str, first["loc"])) or "body", detail=what.en, detail_zh=what.zh) from None


async def bounded(request: Request, limit: int) -> bytes:
    """The body, read only as far as the limit. Raises `BodyTooLarge`."""
    return await whole(request.receive, limit)


async def whole(receive: Receive, limit: int) -> bytes:
    """A body as it comes, read only as far as the limit. Raises `BodyTooLarge`, and `ClientDisconnect` for a sender that leaves."""
    read, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        read += message.get("body", b"")
        if len(read) > limit:
            raise BodyTooLarge(limit=limit)
        more = message.get("more_body", False)
    return bytes(read)


def replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` for whoever comes after: a body that was read already, then what follows it."""
    read: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return read.pop() if read else await receive()

    return replay


def _said(body: BaseModel) -> None:
    """Raises for a text that says nothing, or holds half a character, which no store can keep."""
    for field, value in body:
        if not isinstance(value, str):
            continue
        if not value.strip():
            raise FieldInvalid(field=field, detail="it is empty", detail_zh="内容为空")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise FieldInvalid(field=field, detail="it holds half a character (a lone surrogate)", detail_zh="含有不完整的字符（孤立的代理项）")
