"""Prompts as the daemon renders them: recordings byte for byte, and of Go's templates what models use."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from orchestra.model import rendering, template
from orchestra.model.rendering import certain, rendered
from orchestra.model.template import Rendering, Unknown, parsed

HERE = Path(__file__).parent
PROMPTS = [json.loads(line) for line in (HERE / "data" / "prompts.jsonl").read_text("utf-8").splitlines()]
RENDERED = [case for case in PROMPTS if "rendered" in case]


@cache
def facts(model: str) -> dict[str, Any]:
    """What a recorded daemon shows of a model."""
    name = {"llama3": "show-llama3", "llama3:text": "show-llama3-text", "made": "show-created", "native": "show-native"}[model]
    answer: dict[str, Any] = json.loads(json.loads((HERE / "wire" / f"{name}.json").read_text("utf-8"))["response"]["body"])
    return answer


def subject(case: dict[str, Any]) -> Any:
    """Messages or a prompt, as a request had them."""
    if "prompt" in case:
        return case["prompt"]
    return [{"role": message.get("role", ""), "content": message.get("content") or ""} for message in case["messages"]]


def known(case: dict[str, Any]) -> dict[str, Any]:
    """The model's facts, with what the request put in their place."""
    return {**facts(case["model"]), **{name: case[name] for name in ("system", "template") if name in case}}


# --- recordings


@pytest.mark.parametrize("case", RENDERED, ids=lambda case: case["case"])
def test_a_recorded_prompt_is_rendered_byte_for_byte(case: dict[str, Any]) -> None:
    assert rendered(known(case), subject(case)) == case["rendered"]


@pytest.mark.parametrize("name", ["chat-created-debug", "chat-created-own-system-debug"])
def test_a_models_own_system_and_messages_come_first(name: str) -> None:
    recorded = json.loads((HERE / "wire" / f"{name}.json").read_text("utf-8"))
    asked = json.loads(recorded["request"]["body"])
    said = json.loads(recorded["response"]["body"])["_debug_info"]["rendered_template"]
    assert rendered(facts("made"), asked["messages"]) == said


def test_red_without_the_joining_of_messages_a_recording_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_collated", lambda messages: [(each["role"], each["content"]) for each in messages])
    assert [case["case"] for case in RENDERED if rendered(known(case), subject(case)) != case["rendered"]] != []


def test_red_without_the_cut_after_the_answer_a_recording_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "cut_after", lambda nodes, name: (list(nodes), True))
    assert [case["case"] for case in RENDERED if rendered(known(case), subject(case)) != case["rendered"]] != []


# --- what is not known is not guessed


@pytest.mark.parametrize(
    "change",
    [
        {"template": facts("native")["template"]},
        {"template": "{{ .Prompt }}{{ .Secret }}"},
        {"template": "{{ .Prompt }}{{ json .System }}"},
        {"template": "{{ if .Prompt }}{{ .Prompt }}"},
        {"template": "{{ .Prompt"},
        {"template": "{{ end }}"},
        {"template": "{{ range .Messages }}{{ .Content }}{{ end }}{{ if .Think }}/think{{ end }}"},
        {"template": "{{ if .Prompt }}{{ .Response }}{{ else }}x{{ end }}"},
        {"renderer": "qwen3-coder"},
        {"modelfile": "FROM x\nRENDERER deepseek3\n"},
        {"details": {"family": "gptoss"}},
    ],
    ids=str,
)
def test_what_is_not_known_is_not_guessed(change: dict[str, Any]) -> None:
    with pytest.raises(Unknown):
        rendered({**facts("llama3"), **change}, "Hello.")


def test_thinking_in_the_history_is_not_guessed() -> None:
    said = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "<think>hm</think>Yes."}, {"role": "user", "content": "!"}]
    with pytest.raises(Unknown):
        rendered(facts("llama3"), said)


def test_only_the_older_kind_of_template_is_certain() -> None:
    assert certain(facts("llama3"))
    assert certain(facts("llama3:text"))
    assert not certain(facts("native"))
    assert not certain({"template": "{{ range .Messages }}{{ .Content }}{{ end }}"})


# --- the language

LISTED = """{{- if or .System .Tools }}<|system|>
{{- if .System }}

{{ .System }}
{{- end }}
{{- if .Tools }}tools{{ end }}<|end|>
{{ end }}
{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 }}
{{- if eq .Role "user" }}<|user|>
{{ .Content }}<|end|>
{{ else if eq .Role "assistant" }}<|assistant|>
{{ .Content }}{{ if not $last }}<|end|>
{{ end }}
{{- end }}
{{- if and (ne .Role "assistant") $last }}<|assistant|>
{{ end }}
{{- end }}"""


def test_a_template_that_goes_through_the_messages() -> None:
    said = [("system", "Be brief."), ("user", "One?"), ("assistant", "1"), ("user", "Two?"), ("user", "Now.")]
    text = rendered({"template": LISTED}, [{"role": role, "content": content} for role, content in said])
    assert text == (
        "<|system|>\n\nBe brief.<|end|>\n<|user|>\nOne?<|end|>\n<|assistant|>\n1<|end|>\n<|user|>\nTwo?\n\nNow.<|end|>\n<|assistant|>\n"
    )
    begun = rendered({"template": LISTED}, [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "It is"}])
    assert begun == "<|user|>\nOne?<|end|>\n<|assistant|>\nIt is"


DATA = {"A": "a", "Empty": "", "List": [{"Role": "x"}, {"Role": "y"}], "None": [], "Deep": {"Inner": "i"}}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a {{- .A -}} b", "aab"),
        ("a {{ .A }} b", "a a b"),
        ("{{/* nothing */}}x{{- /* nor here */ -}} y", "xy"),
        ("{{ if .Empty }}1{{ else if .A }}2{{ else }}3{{ end }}", "2"),
        ("{{ if not .Empty }}1{{ end }}{{ if and .A .Empty }}2{{ end }}{{ if or .Empty .A }}3{{ end }}", "13"),
        ("{{ with .Deep }}{{ .Inner }}{{ $.A }}{{ end }}{{ .Deep.Inner }}", "iai"),
        ("{{ range .List }}{{ .Role }},{{ end }}{{ range .None }}1{{ else }}none{{ end }}", "x,y,none"),
        ("{{ range $i, $m := .List }}{{ $i }}{{ $m.Role }}{{ end }}", "0x1y"),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
        ("{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ end }}{{ $x }}", "1"),
        ("{{ .A | eq \"a\" }} {{ len .List }} {{ with index .List 1 }}{{ .Role }}{{ end }}", "true 2 y"),
        ("{{ (index .List 1).Role }}", None),
        ("{{ printf \"%s\" .A }}", None),
        ("{{ eq .A \"b\" \"a\" }} {{ ne .A `a` }} {{ lt 1 2 }} {{ le 2 2 }} {{ gt 1 2 }} {{ ge -1 2 }}", "true false true true false false"),
        ("{{ \"a\\n\\\"b\\\"\" }}", 'a\n"b"'),
        ("{{ \"}}\" }}", "}}"),
    ],
)
def test_the_language(source: str, text: str | None) -> None:
    if text is None:
        with pytest.raises(Unknown):
            Rendering(DATA).run(parsed(source))
    else:
        assert Rendering(DATA).run(parsed(source)) == text


def test_a_template_that_would_never_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "MOST_STEPS", 50)
    with pytest.raises(Unknown):
        Rendering({"List": [1] * 100}).run(parsed("{{ range .List }}x{{ end }}"))
