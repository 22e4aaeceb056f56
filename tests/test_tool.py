"""Any Python function as a tool: what it is asked with, what it answers, and that nothing it does ends a task - under both runtimes."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import orchestra
from orchestra.agents.function import LONGEST_ARGUMENTS, FunctionTool, tool
from orchestra.agents.tool import LONGEST_ANSWER, CallContext, Contribution, Tool
from orchestra.errors import UsageError
from orchestra.model.messages import Options
from orchestra.runtime import Blocking, Looped, finish

Ask = Callable[..., Contribution]


@pytest.fixture(params=["looped", "blocking"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """What a tool says to one question."""

    def asked(one: Tool, question: str, **options: Any) -> Contribution:
        if request.param == "looped":
            return asyncio.run(one.ask(question, CallContext(runtime=Looped(), options=Options(**options))))
        return finish(one.ask(question, CallContext(runtime=Blocking(), options=Options(**options))))

    return asked


def order(number: int, *, express: bool = False, weight: float = 1.0, note: str = "") -> dict[str, Any]:
    """Where an order is.

    The rest is for programmers."""
    return {"number": number, "express": express, "weight": weight, "note": note}


def test_the_public_names() -> None:
    assert orchestra.tool is tool
    one: Tool = tool(order)
    assert (one.name, one.titled("zh")) == ("order", "order")
    assert one.described("en").startswith("Where an order is. The question is one JSON object")


def test_one_text_is_passed_on_as_it_is(ask: Ask) -> None:
    given: list[str] = []

    def lookup(text: str) -> str:
        given.append(text)
        return "发往上海"

    found = ask(tool(lookup, description="looks up"), ' {"a": 1} 订单：12345 ')
    assert found.ok
    assert found.answer == "发往上海"
    assert given == [' {"a": 1} 订单：12345 ']
    assert found.receipt.calls == 0


def test_typed_parameters_come_as_json(ask: Ask) -> None:
    for text in ('{"number": "12", "express": true}', '```json\n{"number": 12, "express": "yes"}\n```'):
        found = ask(tool(order), text)
        assert found.ok, found.error
        assert json.loads(found.answer) == {"number": 12, "express": True, "weight": 1.0, "note": ""}


def test_one_number_may_stand_alone(ask: Ask) -> None:
    double = tool(lambda n: n * 2, name="double", description="doubles")
    assert ask(double, "2").answer == "22"  # without an annotation it is a text

    def twice(n: int) -> int:
        return 2 * n

    assert ask(tool(twice, description="doubles"), " 21 ").answer == "42"
    assert ask(tool(twice, description="doubles"), '{"n": 21}').answer == "42"
    unfit = ask(tool(twice, description="doubles"), "twenty-one")
    assert not unfit.ok
    assert unfit.error.startswith("the arguments do not fit: n: Input should be a valid integer")
    assert ask(tool(twice, description="doubles"), "二十一").error.startswith("参数无效")


def test_what_is_missing_or_unknown_is_said(ask: Ask) -> None:
    assert "number: Field required" in ask(tool(order), "{}").error
    assert "speed: Extra inputs" in ask(tool(order), '{"number": 1, "speed": 2}').error
    assert ask(tool(order), "order 12345").error.startswith("one JSON object with its arguments is wanted")
    assert "longer than" in ask(tool(order), "x" * (LONGEST_ARGUMENTS + 1)).error


def test_what_a_function_raised_stands_whole_in_the_log_where_it_is_wanted(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    def lookup(text: str) -> str:
        raise ValueError("password=hunter2")

    with caplog.at_level("INFO", logger="orchestra"):
        assert "hunter2" not in repr(ask(tool(lookup, description="looks up"), "12345"))
    assert "hunter2" not in caplog.text
    with caplog.at_level("DEBUG", logger="orchestra"):
        ask(tool(lookup, description="looks up"), "12345")
    assert "ValueError: password=hunter2" in caplog.text


@pytest.mark.parametrize("error", [ValueError("no such order"), SystemExit(3), RuntimeError(), RecursionError("deep")])
def test_what_a_function_raises_is_an_observation(ask: Ask, error: BaseException) -> None:
    def lookup(text: str) -> str:
        raise error

    found = ask(tool(lookup, description="looks up"), "12345")
    assert not found.ok
    assert found.error == f"it failed: {type(error).__name__}", "its text is nobody else's business: the steps go out over HTTP"


def test_an_error_that_cannot_even_be_written(ask: Ask) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError

    def lookup(text: str) -> str:
        raise Odd

    assert "Odd" in ask(tool(lookup, description="looks up"), "12345").error


def test_a_function_that_hangs_is_left_behind(ask: Ask) -> None:
    release = threading.Event()

    def lookup(text: str) -> str:
        release.wait(10)
        return "late"

    started = time.monotonic()
    found = ask(tool(lookup, description="looks up", seconds=0.1), "12345")
    assert found.error == "no answer within 0.1 s"
    hurried = ask(tool(lookup, description="looks up"), "订单 12345 在哪里", deadline=0.1)
    assert hurried.error == "0.1 秒内没有应答"
    assert time.monotonic() - started < 2
    release.set()


def test_an_async_function_runs_on_a_loop_of_its_own_and_is_cancelled(ask: Ask) -> None:
    ended = threading.Event()

    async def lookup(text: str, wait: float = 0.0) -> str:
        try:
            await asyncio.sleep(wait)
        except asyncio.CancelledError:
            ended.set()
            raise
        return f"found {text}"

    slow = tool(lookup, description="looks up", seconds=0.1)
    assert ask(slow, '{"text": "a"}').answer == "found a"
    assert ask(slow, '{"text": "a", "wait": 9}').error == "no answer within 0.1 s"
    assert ended.wait(2)


@pytest.mark.parametrize(
    ("value", "answer"), [(None, "(no value)"), (3, "3"), ({"状态": ["已发货"]}, '{"状态":["已发货"]}'), (object, "\"<class 'object'>\"")]
)
def test_what_it_returns_as_a_text(ask: Ask, value: Any, answer: str) -> None:
    assert ask(tool(lambda text: value, name="f", description="d"), "x").answer == answer


def test_a_long_answer_is_cut_and_says_so(ask: Ask) -> None:
    found = ask(tool(lambda text: "a" * (LONGEST_ANSWER + 7), name="f", description="d"), "x")
    assert found.answer.endswith("a ... (7 more characters are left out)")
    assert len(found.answer) < LONGEST_ANSWER + 50


def test_a_tool_is_the_function_still_and_may_be_made_by_a_decorator() -> None:
    @tool(description="doubles", seconds=2)
    def twice(n: int, /) -> int:
        return 2 * n

    assert isinstance(twice, FunctionTool)
    assert twice(4) == 8
    assert twice.seconds == 2
    assert finish(twice.ask('{"n": 4}', CallContext(runtime=Blocking()))).answer == "8"
    assert twice.parameters["properties"]["n"]["type"] == "integer"


def test_no_arguments_at_all(ask: Ask) -> None:
    assert ask(tool(lambda: "noon", name="clock", description="the time"), "what time is it").answer == "noon"


def test_what_no_model_could_be_told_how_to_call_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="no name"):
        tool(lambda text: text, description="d")
    with pytest.raises(UsageError, match="no description"):
        tool(lambda text: text, name="f")

    def odd(thing: threading.Thread) -> None:
        """Takes a thread."""

    with pytest.raises(UsageError, match="the parameters of odd"):
        tool(odd)


GARBAGE = st.one_of(
    st.text(max_size=200),
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
                 lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["number", "express", "x", "订单"]), inner, max_size=4),
                 max_leaves=8).map(json.dumps),
    st.sampled_from(['{"number"：1}', "```json\n{", '{"number": 1}{"number": 2}', "[" * 9000, '{"number":' + "9" * 5000 + "}", "\ud800", '{"number": NaN}',
                     "Action: order\nAction Input: 1\nAction: order", '{"number": 1e400}', '{"x":' * 500, "\ufeff{}"]),
)  # fmt: skip


@given(text=GARBAGE)
@settings(max_examples=1000)
def test_no_argument_is_an_exception(text: str) -> None:
    context, called = CallContext(runtime=Blocking()), list[int]()

    def lookup(number: int, *, express: bool = False) -> str:
        called.append(number)
        assert isinstance(number, int)
        assert isinstance(express, bool)
        return "ok"

    found = finish(tool(lookup, description="d").ask(text, context))
    assert found.ok == bool(called)
    assert found.answer or found.error


def test_a_hundred_calls_at_once_keep_apart() -> None:
    echo = tool(lambda text: text, name="echo", description="echoes")

    async def all_at_once() -> list[Contribution]:
        context = CallContext(runtime=Looped())
        return await asyncio.gather(*(echo.ask(str(number), context) for number in range(100)))

    assert [each.answer for each in asyncio.run(all_at_once())] == [str(number) for number in range(100)]
