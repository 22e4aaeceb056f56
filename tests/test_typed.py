"""Typed output: what fits a schema comes back as a value, what does not is asked for once more, then refused."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from command_line import Line, line  # noqa: F401 - a fixture
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from runtimes import RUNTIMES, asked, drained, run

from orchestra import FinishReason, Orchestra, SchemaMismatch, StandIn, UsageError
from orchestra.model import typed as module
from orchestra.model.messages import Options
from orchestra.model.schema import checkable, mismatch
from orchestra.model.typed import form_of


class Order(BaseModel):
    """What a customer wants."""

    item: str
    count: int = Field(ge=1, le=100)


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"item": {"type": "string"}, "count": {"type": "integer", "minimum": 1, "maximum": 100}},
    "required": ["item", "count"],
    "additionalProperties": False,
}
GOOD = '{"item": "a cat", "count": 2}'
BAD = '{"item": "a cat", "count": "many"}'
WAYS = [Order, SCHEMA]


# --- through the house


@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.parametrize("way", ["chat", "complete"])
def test_an_answer_that_fits_is_a_value(kind: str, way: str) -> None:
    with StandIn(replies=[GOOD]) as daemon:
        reply = run(kind, lambda client: drained(asked(client, way, options=Options(schema=Order))), host=daemon.url)
        (body,) = [body for body in (*daemon.asked("/api/chat"), *daemon.asked("/api/generate")) if body.get("format")]
    assert reply.value == Order(item="a cat", count=2)
    assert reply.text == GOOD
    assert body["format"] == Order.model_json_schema()
    assert '"maximum":100' in str(body.get("prompt") or body["messages"][-1]["content"]), "the model reads the schema too"
    assert reply.receipt.calls == 1


@pytest.mark.parametrize("schema", WAYS, ids=["pydantic", "JSON Schema"])
def test_what_does_not_fit_is_asked_for_once_more_with_the_reason(schema: Any) -> None:
    with StandIn(replies=[BAD, GOOD]) as daemon, Orchestra(host=daemon.url) as orchestra:
        reply = orchestra.generate("请订两只猫", schema=schema)
        first, second = daemon.asked("/api/generate")[-1], daemon.asked("/api/chat")[-1]
    assert reply.value in (Order(item="a cat", count=2), {"item": "a cat", "count": 2})
    assert reply.text == GOOD
    assert reply.receipt.calls == 2
    assert "repaired" in reply.receipt.notes
    assert "请只用一个符合" in first["prompt"], "in the question's language"
    assert second["messages"][1] == {"role": "assistant", "content": BAD}
    assert "count" in second["messages"][2]["content"]
    assert second["format"] == first["format"]


@pytest.mark.parametrize("schema", WAYS, ids=["pydantic", "JSON Schema"])
def test_what_does_not_fit_twice_is_an_error_with_its_text(schema: Any) -> None:
    with StandIn(replies=[BAD, BAD]) as daemon, Orchestra(host=daemon.url) as orchestra, pytest.raises(SchemaMismatch) as caught:
        orchestra.generate("order two cats", schema=schema)
    error = caught.value
    assert error.reply.text == BAD
    assert "count" in error.message()
    assert "schema" in error.message("zh")
    assert error.reply.receipt.calls == 2


def test_an_answer_that_was_cut_off_says_so_and_is_not_asked_for_again() -> None:
    with StandIn() as daemon, Orchestra(host=daemon.url) as orchestra, pytest.raises(SchemaMismatch, match="cut off after 4 tokens") as caught:
        orchestra.generate("order two cats", schema=Order, max_tokens=4)
    assert caught.value.reply.finish_reason is FinishReason.LENGTH
    assert "max_tokens" in caught.value.hint()
    assert "截断" in caught.value.message("zh")


@pytest.mark.parametrize("schema", [Order, SCHEMA, list[int], {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2}])
def test_a_daemon_with_a_grammar_fits_at_once(schema: Any) -> None:
    with StandIn(seed=3) as daemon, Orchestra(host=daemon.url) as orchestra:
        assert orchestra.generate("order two cats", schema=schema, max_tokens=400, seed=1).value is not None


@pytest.mark.parametrize("schema", WAYS, ids=["pydantic", "JSON Schema"])
def test_a_session_keeps_what_fits(schema: Any) -> None:
    with StandIn(replies=[BAD, GOOD, "You wanted two."]) as daemon, Orchestra(host=daemon.url) as orchestra:
        session = orchestra.session("orders")
        assert session.ask("order two cats", schema=schema).value is not None
        session.ask("How many?")
        assert [turn.answer for turn in session.turns()] == [GOOD, "You wanted two."]
        sent = [message["content"] for message in daemon.asked("/api/chat")[-1]["messages"]]
    assert sent[1] == GOOD
    assert "JSON Schema" not in sent[0], "the schema belongs to one question"


def test_a_session_keeps_the_text_that_did_not_fit() -> None:
    with StandIn(replies=[BAD, BAD]) as daemon, Orchestra(host=daemon.url) as orchestra:
        session = orchestra.session("orders")
        with pytest.raises(SchemaMismatch):
            session.ask("order two cats", schema=Order)
        assert [turn.answer for turn in session.turns()] == [BAD]


def test_ask_and_integrate_give_values_too() -> None:
    with StandIn(replies=[GOOD]) as daemon, Orchestra(host=daemon.url) as orchestra:
        assert orchestra.ask("order two cats", schema=Order).value == Order(item="a cat", count=2)
    with StandIn(replies=["fine", GOOD]) as daemon, Orchestra(host=daemon.url) as orchestra:
        assert orchestra.integrate("order two cats", experts=["lawyer"], panel=True, schema=Order).value == Order(item="a cat", count=2)


def test_a_fence_around_the_value_is_no_fault() -> None:
    with StandIn(replies=["```json\n" + GOOD + "\n```"]) as daemon, Orchestra(host=daemon.url) as orchestra:
        assert orchestra.generate("order", schema=Order).value == Order(item="a cat", count=2)


def test_red_without_validation_nonsense_is_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "mismatch", lambda value, schema: "")
    with StandIn(replies=[BAD]) as daemon, Orchestra(host=daemon.url) as orchestra:
        assert orchestra.generate("order", schema=SCHEMA).value == {"item": "a cat", "count": "many"}


@pytest.mark.parametrize("schema", WAYS, ids=["pydantic", "JSON Schema"])
def test_a_real_daemon_keeps_to_the_schema(real_daemon: str, real_model: str, schema: Any) -> None:
    limited = {"type": "object", "properties": {"ok": {"type": "boolean"}, "size": {"enum": ["small", "large"]}}, "required": ["ok", "size"]}
    with Orchestra(host=real_daemon) as orchestra:
        reply = orchestra.generate("Is it large?", model=real_model, schema=limited, max_tokens=400, seed=1)
        assert set(reply.value) >= {"ok", "size"}
        # a model that babbles fills its bound, or counts beyond a hundred: its text is there all the same
        with suppress(SchemaMismatch):
            assert orchestra.generate("order two cats", model=real_model, schema=schema, max_tokens=300, seed=1).value


# --- the command line


def test_the_command_line_prints_the_value(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    file = tmp_path / "order.json"
    file.write_text(json.dumps(SCHEMA))
    with StandIn(replies=[BAD, GOOD, BAD, GOOD]) as daemon:
        monkeypatch.setenv("OLLAMA_HOST", daemon.url)
        found = line("generate", "order two cats", "--schema", str(file), "--json").json
        done = line("generate", "order two cats", "--schema", str(file))
    assert found["value"] == {"item": "a cat", "count": 2}
    assert found["text"] == GOOD
    assert done.out == GOOD + "\n", "what did not fit is not printed: the output is read by programs"


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"type": "strange"}', '{"$ref": "other.json"}'])
def test_a_file_that_is_no_schema_is_refused_before_anything_is_asked(
    line: Line, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    file = tmp_path / "order.json"
    file.write_text(text)
    with StandIn() as daemon:
        monkeypatch.setenv("OLLAMA_HOST", daemon.url)
        done = line("generate", "order", "--schema", str(file))
        assert not daemon.asked("/api/generate")
    assert done.code == 2
    assert "schema" in done.err.lower()


# --- schemas


@pytest.mark.parametrize("schema", [3, "Order", 1.5, ["a"], object()])
def test_what_is_no_schema_is_refused(schema: Any) -> None:
    with pytest.raises(UsageError):
        form_of(schema)


REFUSED: list[Any] = [
    {"type": "strange"},
    {"unevaluatedProperties": False},
    {"dependentRequired": {"a": ["b"]}},
    {"$ref": "https://example.org/other.json"},
    {"$ref": "#/$defs/none"},
    {"pattern": "("},
    {"properties": []},
    {"properties": {"a": 3}},
    {"anyOf": 3},
]


@pytest.mark.parametrize("schema", REFUSED, ids=str)
def test_a_schema_that_cannot_be_checked_is_refused(schema: Any) -> None:
    with pytest.raises(UsageError):
        checkable(schema)


# Each schema with values that fit it and values that do not.
CHECKED: list[tuple[Any, list[Any], list[Any]]] = [
    ({}, [None, 1, "a", [], {}], []),
    ({"type": "integer"}, [1, 2.0, -3], [1.5, "1", True, None]),
    ({"type": "number"}, [1, 1.5], [True, "1"]),
    ({"type": ["string", "null"]}, ["a", None], [1, []]),
    ({"type": "boolean"}, [True], [0, "true"]),
    ({"enum": [1, "a", None]}, [1, 1.0, "a", None], [True, "b", 2]),
    ({"const": {"a": [1]}}, [{"a": [1]}], [{"a": [True]}, {"a": []}]),
    ({"properties": {"a": {"type": "string"}}, "required": ["a"]}, [{"a": "x"}, {"a": "x", "b": 1}, 3], [{}, {"a": 1}]),
    ({"properties": {"a": {}}, "additionalProperties": False}, [{}, {"a": 1}], [{"b": 1}]),
    ({"additionalProperties": {"type": "integer"}}, [{"a": 1}], [{"a": "x"}]),
    ({"patternProperties": {"^n": {"type": "integer"}}, "additionalProperties": False}, [{"n1": 1}], [{"n1": "x"}, {"m": 1}]),
    ({"propertyNames": {"maxLength": 2}}, [{"ab": 1}], [{"abc": 1}]),
    ({"items": {"type": "integer"}}, [[], [1, 2], "ab"], [["a"], [1, None]]),
    ({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}, [["a", 1], []], [[1], ["a", "b"]]),
    ({"contains": {"const": 1}}, [[2, 1]], [[], [2]]),
    ({"uniqueItems": True}, [[1, 2, True]], [[1, 1.0], [{"a": 1}, {"a": 1}]]),
    ({"minItems": 1, "maxItems": 2}, [[1], [1, 2]], [[], [1, 2, 3]]),
    ({"minLength": 2, "maxLength": 3}, ["ab", "黑洞", 5], ["a", "abcd"]),
    ({"pattern": "^a+$"}, ["aa"], ["", "ab"]),
    ({"minimum": 1, "exclusiveMaximum": 3}, [1, 2.9, "x"], [0, 3]),
    ({"exclusiveMinimum": 1, "maximum": 3}, [1.1, 3], [1, 4]),
    ({"multipleOf": 0.1}, [0.3, 1], [0.25]),
    ({"minProperties": 1, "maxProperties": 1}, [{"a": 1}], [{}, {"a": 1, "b": 2}]),
    ({"anyOf": [{"type": "string"}, {"minimum": 5}]}, ["a", 6], [4]),
    ({"oneOf": [{"type": "integer"}, {"minimum": 5}]}, [1, 5.5], [6]),
    ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, [1, 2], [0, 3]),
    ({"not": {"type": "null"}}, [1], [None]),
    ({"if": {"type": "integer"}, "then": {"minimum": 1}, "else": {"type": "string"}}, [1, "a"], [0, None]),
    ({"$defs": {"n": {"type": "integer"}}, "items": {"$ref": "#/$defs/n"}}, [[1]], [["a"]]),
    ({"properties": {"next": {"$ref": "#"}}, "additionalProperties": False}, [{"next": {"next": {}}}], [{"next": {"other": 1}}]),
    ({"format": "date", "description": "a note asks nothing"}, ["no date"], []),
    ({"items": False}, [[]], [[1]]),
]


@pytest.mark.parametrize(("schema", "good", "bad"), CHECKED, ids=[json.dumps(case[0])[:60] for case in CHECKED])
def test_each_keyword_is_checked(schema: Any, good: list[Any], bad: list[Any]) -> None:
    checkable(schema)
    assert [value for value in good if mismatch(value, schema)] == []
    assert [value for value in bad if not mismatch(value, schema)] == []


def test_the_reason_names_the_place() -> None:
    assert mismatch({"items": [{"n": 1}, {"n": "x"}]}, {"properties": {"items": {"items": {"properties": {"n": {"type": "integer"}}}}}}) == (
        'items[1].n: "x" is not of type integer'
    )


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200)
@given(VALUES, VALUES)
def test_a_value_is_its_own_schema_and_no_other(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert not mismatch(one, {"const": one})
    assert bool(mismatch(other, {"const": one})) is not same
    assert bool(mismatch(other, {"not": {"enum": [one]}})) is same


def test_an_endless_schema_ends() -> None:
    assert "deeply" in mismatch(1, {"$ref": "#"})
