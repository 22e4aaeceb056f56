"""Any Python function as a tool: `tool(lookup_order, description="...")`.

It runs in a thread that nobody has to wait for, an async one on an event loop of its own there, and with a time
limit; several calls run at the same time. What a model writes as arguments is validated against the signature; that it
does not fit, and the kind of whatever the function raises, is told to the one who asked.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, overload

from orchestra.agents.budget import least
from orchestra.agents.tool import DOWN, CallContext, Contribution, Fault, bounded
from orchestra.errors import UsageError
from orchestra.model.connection import shown
from orchestra.model.language import language_of
from orchestra.request import Breakage, Broken
from orchestra.runtime import in_own_loop
from orchestra.texts import Words

_LOG = logging.getLogger("orchestra")
SECONDS = 60.0
LONGEST_ARGUMENTS = 100_000  # characters
LONGEST_ERROR = 300
_NAME = re.compile(r"[\w-]{1,64}")
_FENCE = "```"
_NOTHING = Words("(no value)", "（无返回值）")
_TOO_LONG = Words("the arguments are longer than {most} characters", "参数超过 {most} 个字符")
_UNFIT = Words("the arguments do not fit: {detail}", "参数无效：{detail}")
_SHAPE = Words("one JSON object with its arguments is wanted: {shape}", "请用一个 JSON 对象给出参数：{shape}")
_LATE = Words("no answer within {seconds} s", "{seconds} 秒内没有应答")
_RAISED = Words("it failed: {error}", "执行失败：{error}")
_AS_JSON = Words("The question is one JSON object: {shape}", "提问须为一个 JSON 对象：{shape}")


class _Arguments(NamedTuple):
    """How a function is called: the pydantic model of its parameters, and for each its name and whether it is given by place."""

    model: Any
    schema: Mapping[str, Any]
    names: tuple[str, ...]
    placed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionTool:
    """A function that agents may call; called directly it is the function still. `seconds` is the longest that it may take."""

    name: str
    description: str
    function: Callable[..., Any]
    seconds: float = SECONDS
    arguments: _Arguments = field(repr=False)

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self.function(*given, **named)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """JSON Schema of its parameters."""
        return self.arguments.schema

    def titled(self, language: str) -> str:
        """Its name."""
        return self.name

    def described(self, language: str) -> str:
        """What it is for, and how it is asked where one text is not enough."""
        if len(self.arguments.names) < 2:
            return self.description
        return f"{self.description} {_AS_JSON.text(language, {'shape': self._shape()})}"

    async def ask(self, question: str, context: CallContext) -> Contribution:
        """What the function gives for the arguments in `question`; its failure, or that it takes too long, as an error."""
        started = time.monotonic()
        language = context.options.language or language_of(question)
        seconds, failures = least(self.seconds, context.options.deadline), 0
        try:
            given = self._given(question)
            answer, error = await context.runtime.aside(partial(self._called, *given, seconds, language), seconds=seconds)
        except Fault as unfit:
            answer, error = "", unfit.words.text(language, unfit.facts)
        except Broken as broken:
            if broken.how is not Breakage.TIMEOUT:
                raise
            answer, error, failures = "", _late(seconds, language), DOWN
        return Contribution(answer=answer, error=error, duration=round(time.monotonic() - started, 6), failures=failures)

    def _given(self, question: str) -> tuple[list[Any], dict[str, Any]]:
        """The arguments by place and by name. Raises `Fault`."""
        model, _, names, placed = self.arguments
        if len(question) > LONGEST_ARGUMENTS:
            raise Fault(_TOO_LONG, most=LONGEST_ARGUMENTS)
        if not names:
            return [], {}
        text = question.strip()
        if text.startswith(_FENCE):
            text = text.removeprefix(_FENCE).removesuffix(_FENCE).strip().removeprefix("json").strip()
        read = None
        if text.startswith("{"):
            try:
                read = model.model_validate_json(text)
            except ValueError as error:
                if len(names) > 1:
                    raise Fault(_UNFIT, detail=_faults(error)) from None
        elif len(names) > 1:
            raise Fault(_SHAPE, shape=self._shape())
        if read is None:
            try:
                read = model.model_validate({names[0]: question})
            except ValueError as error:
                raise Fault(_UNFIT, detail=_faults(error)) from None
        values = [getattr(read, f"p{place}") for place in range(len(names))]
        return values[:placed], dict(zip(names[placed:], values[placed:], strict=True))

    def _called(self, by_place: list[Any], by_name: dict[str, Any], seconds: float, language: str) -> tuple[str, str]:
        """The answer and the error, in the function's own thread."""
        started = time.monotonic()
        try:
            value = self.function(*by_place, **by_name)
            if inspect.isawaitable(value):
                value = in_own_loop(_awaited(value), seconds=seconds)
            return bounded(_text(value, language), language), ""
        except (Exception, SystemExit) as error:
            if isinstance(error, TimeoutError) and time.monotonic() - started >= seconds:
                return "", _late(seconds, language)
            # its text may hold what is nobody else's; the steps go to whoever asked, over HTTP too
            _LOG.debug("the function %s failed", self.name, exc_info=error)
            return "", _RAISED.text(language, {"error": type(error).__name__})

    def _shape(self) -> str:
        kinds = self.arguments.schema.get("properties", {})
        return json.dumps({name: kinds.get(name, {}).get("type", "...") for name in self.arguments.names}, ensure_ascii=False)


@overload
def tool(function: Callable[..., Any], /, *, name: str = "", description: str = "", seconds: float = SECONDS) -> FunctionTool: ...
@overload
def tool(*, name: str = "", description: str = "", seconds: float = SECONDS) -> Callable[[Callable[..., Any]], FunctionTool]: ...
def tool(
    function: Callable[..., Any] | None = None, /, *, name: str = "", description: str = "", seconds: float = SECONDS
) -> FunctionTool | Callable[[Callable[..., Any]], FunctionTool]:
    """A function, plain or async, as a tool for `integrate(task, experts=[...])`; also as a decorator.

    `name` and `description` are what the coordinator reads, by default the function's own name and the first
    paragraph of its docstring; one text is passed on as it is, several parameters are validated by their annotations.
    Raises `UsageError` for what no model could be told how to call.
    """
    if function is None:
        return partial(tool, name=name, description=description, seconds=seconds)
    name = name or getattr(function, "__name__", "")
    described = " ".join((description or (inspect.getdoc(function) or "").split("\n\n")[0]).split())
    if not _NAME.fullmatch(name):
        fix = 'give one: tool(f, name="lookup")'
        raise _unusable(f"{name or function!r} is no name for a tool", f"{name or function!r} 不能作为工具的名称", fix)
    if not described:
        raise _unusable(f"the tool {name} has no description", f"工具 {name} 没有说明", 'say what for: tool(f, description="...")')
    arguments = _signature(function, name)
    return FunctionTool(name=name, description=described, function=function, seconds=seconds, arguments=arguments)


def _unusable(detail: str, detail_zh: str, fix: str) -> UsageError:
    return UsageError(detail=detail, detail_zh=detail_zh, fix=fix, fix_zh=fix)


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _signature(function: Callable[..., Any], name: str) -> _Arguments:
    """The parameters as a pydantic model; its fields are numbered, since a parameter may bear any name."""
    from pydantic import ConfigDict, Field, create_model
    from pydantic.errors import PydanticUserError

    try:
        found = [each for each in inspect.signature(function, eval_str=True).parameters.values() if each.kind not in _VARIADIC]
        fields: dict[str, Any] = {}
        for place, each in enumerate(found):
            default = ... if each.default is each.empty else each.default
            fields[f"p{place}"] = (str if each.annotation is each.empty else each.annotation, Field(default, alias=each.name))
        model = create_model(name, __config__=ConfigDict(extra="forbid", allow_inf_nan=False), **fields)
        schema = model.model_json_schema(by_alias=True)
    except (PydanticUserError, NameError, TypeError, ValueError) as error:
        detail = " ".join(str(error).split())[:LONGEST_ERROR]
        raise _unusable(f"the parameters of {name} cannot be told to a model: {detail}", f"无法向模型说明 {name} 的参数：{detail}",
                        "annotate them with str, int, float or bool") from None  # fmt: skip
    placed = sum(each.kind is each.POSITIONAL_ONLY for each in found)
    return _Arguments(model, schema, tuple(each.name for each in found), placed)


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


def _text(value: Any, language: str) -> str:
    """A return value as a text: as it is, else as JSON, else as Python writes it."""
    from pydantic_core import to_json

    if value is None:
        return _NOTHING.text(language, {})
    return value if isinstance(value, str) else to_json(value, fallback=str).decode()


def _faults(error: ValueError) -> str:
    """What pydantic finds wrong, without the values."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return type(error).__name__
    told = [": ".join([*(".".join(map(str, each["loc"])),), each["msg"]]) if each["loc"] else each["msg"] for each in error.errors()[:3]]
    return "; ".join(told)[:LONGEST_ERROR]


def _late(seconds: float, language: str) -> str:
    return _LATE.text(language, {"seconds": shown(max(0.1, seconds))})
