"""A persona as a model of its own in the daemon, for whoever asks it without Orchestra: `ollama run lawyer`.

What is made holds one language: both seed memories in one system text would take twice the room of the prompt, and
a small model then answers in either; who wants both makes two, under two names. It has the weights, the
template and the window of the model that it was made from, so that both share what is loaded: a `num_ctx` of its
own would load it anew for everybody.

What Orchestra made bears a line in its license, the one text of a model that no prompt holds (docs/api.md of
github.com/ollama/ollama, "Create a Model"): by it a model that somebody else made is never overwritten or removed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, NamedTuple

from orchestra.errors import ModelMissing, ModelNotOurs, ModelUnsupported, UsageError
from orchestra.model import wire
from orchestra.model.catalog import Progress, chosen, created, delete, is_base
from orchestra.model.client import Client
from orchestra.model.language import LINES
from orchestra.model.persona import Persona
from orchestra.model.window import full_name, own_stops, section
from orchestra.settings import Settings

ANSWER = 1024  # tokens: without a bound a model that loops would go on until its window is full, and beyond
UNLISTED = "0" * 16  # a base that was named otherwise than the daemon lists it: "library/llama3"
LANGUAGE_LINES = {"zh": "用提问所用的语言回答。", "en": "Answer in the language of the question."}
_WORD = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"
_MODEL = re.compile(rf"(?:(?:[A-Za-z0-9_][A-Za-z0-9_.:-]{{0,349}}/)?[A-Za-z0-9_][A-Za-z0-9_-]{{0,79}}/)?{_WORD}(?::{_WORD})?")
"""What the daemon takes for a name: [[HOST/]NAMESPACE/]MODEL[:TAG] (types/model/name.go of github.com/ollama/ollama)."""
_MARK = re.compile(
    r"^Orchestra persona ([a-z0-9_-]{1,64}) \((zh|en)\) as (\S{1,350}), "
    r"of (\S{1,350}) ([0-9a-f]{16}), text ([0-9a-f]{16}), parameters ([0-9a-f]{16})$",
    re.MULTILINE,
)


class Base(NamedTuple):
    """The model that a persona is made from, with its own stop strings."""

    name: str
    digest: str = ""
    stops: tuple[str, ...] = ()


class Mark(NamedTuple):
    """What a model made here says of itself: `base_print`, `text` and `parameters` are the first 16 digits of digests."""

    persona: str
    language: str
    model: str
    base: str
    base_print: str
    text: str
    parameters: str

    def line(self) -> str:
        """As it stands in the license."""
        return (
            f"Orchestra persona {self.persona} ({self.language}) as {self.model}, "
            f"of {self.base} {self.base_print}, text {self.text}, parameters {self.parameters}"
        )

    def stale(self, persona: Persona | None, digests: Mapping[str, str]) -> bool:
        """Whether the persona's file, or the model that it was made from, is no longer what it was."""
        if persona is None or _text_print(persona, self.language) != self.text or _own_print(persona) != self.parameters:
            return True
        now = digests.get(full_name(self.base))
        return now is not None and now[:16] != self.base_print


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that a model is made of: the base, the system text and the parameters; never a `num_ctx`."""

    persona: Persona
    base: Base
    language: str
    system: str
    parameters: Mapping[str, Any]

    def body(self, name: str) -> dict[str, Any]:
        """What /api/create is asked."""
        mark = Mark(
            self.persona.name, self.language, name, self.base.name, self.base.digest[:16] or UNLISTED,
            _text_print(self.persona, self.language), _own_print(self.persona),
        )  # fmt: skip
        return {
            "model": name, "from": self.base.name, "system": self.system,
            "parameters": dict(self.parameters), "license": mark.line(),
        }  # fmt: skip

    def modelfile(self, name: str) -> str:
        """The same for `ollama create`, without the mark: what somebody makes by hand is theirs."""
        lines = [f"# ollama create {name} -f Modelfile", f"FROM {self.base.name}", f"SYSTEM {quoted(self.system)}"]
        for key, value in self.parameters.items():
            lines += [f"PARAMETER {key} {_value(each)}" for each in (value if isinstance(value, list) else [value])]
        return "\n".join(lines) + "\n"


def recipe(persona: Persona, base: Base, *, language: str, settings: Settings) -> Recipe:
    """How `persona` becomes a model in `language` ("zh", "en"), else in the language that it speaks."""
    language = language if persona.seed_memory.get(language) else next(iter(persona.seed_memory), language)
    parameters = {
        "repeat_penalty": settings.repeat_penalty,
        **wire.sampling(persona.options),
        "num_predict": persona.options.max_tokens or settings.max_tokens or ANSWER,
    }
    if persona.options.stop:  # stops that are given take the place of the model's own
        parameters["stop"] = list(dict.fromkeys((*base.stops, *persona.options.stop)))
    return Recipe(persona, base, language, _system(persona, language), parameters)


def _system(persona: Persona, language: str) -> str:
    """The seed memory, and the language of the answer: nobody adds that to a question that is asked without us."""
    seed = wire.neutral(wire.storable(persona.speaks(language)))
    answers = persona.options.language
    if not answers and not persona.follows_language:
        return seed
    return f"{seed}\n\n{LINES[answers] if answers else LANGUAGE_LINES['zh' if language == 'zh' else 'en']}"


def _text_print(persona: Persona, language: str) -> str:
    return _print(_system(persona, language))


def _own_print(persona: Persona) -> str:
    # the persona's own only: a default that the operator has set does not make what is installed stale
    return _print(json.dumps({**wire.sampling(persona.options), "num_predict": persona.options.max_tokens}, sort_keys=True))


def _print(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def quoted(text: str) -> str:
    '''`text` as the argument of a Modelfile's command, between `"""`.

    Nothing can be escaped there, and the daemon ends the argument at the first line that ends in `"""`: such a line
    gets `\'\'\'` instead (parser/parser.go of github.com/ollama/ollama).
    '''
    lines = (line.rstrip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    safe = (line[:-3] + "'''" if line.endswith('"""') else line for line in lines)
    return '"""' + "\n".join(safe) + '"""'


def _value(value: Any) -> str:
    return quoted(value) if isinstance(value, str) else json.dumps(value)


def mark_of(name: str, facts: Mapping[str, Any]) -> Mark | None:
    """The mark of the model `name`, from `show`; None where Orchestra did not make it so.

    A copy under another name, a model made from it and one whose system text was changed have the line too.
    """
    marks = [Mark(*found) for found in _MARK.findall(str(facts.get("license") or ""))]
    text = _print(str(facts.get("system") or ""))
    return next((mark for mark in marks if full_name(mark.model) == full_name(name) and mark.text == text), None)


# --- in the daemon


async def base_for(client: Client, persona: Persona) -> Base:
    """The installed model that `persona` is made from: its own, else the one that answers. Raises `ModelMissing`, `NoModel`."""
    name = await chosen(client, persona.model or "")
    facts = await client.facts(name)
    if is_base(name, facts):
        raise ModelUnsupported(
            model=name, detail="a base model reads no system text, so no persona can be made of it",
            detail_zh="基础模型不读取系统提示，无法用它创建角色",
        )  # fmt: skip
    return Base(name, (await digests(client)).get(full_name(name), ""), tuple(own_stops(facts)))


async def digests(client: Client) -> dict[str, str]:
    """The installed models' digests, by full name."""
    return {full_name(str(row.get("name", ""))): str(row.get("digest", "")).removeprefix("sha256:") for row in await client.tags()}


async def installed(client: Client) -> list[Mark]:
    """The personas that the daemon holds. Only models made from another one are looked into."""
    names = [str(row.get("name", "")) for row in await client.tags() if section(row, "details").get("parent_model")]
    marks = [mark_of(name, await client.show(name)) for name in names]
    return [mark for mark in marks if mark is not None]


async def install(client: Client, made: Recipe, name: str = "", *, force: bool = False) -> AsyncGenerator[Progress]:
    """Make a model of `made` under `name` (else the persona's), step by step, in place of one made here before.

    Raises `ModelNotOurs` where somebody else made the model of that name, unless `force`; `PullFailed` where the
    daemon cannot make it.
    """
    name = name or made.persona.name
    await admitted(client, made, name, force=force)
    async with aclosing(created(client, made.body(name))) as steps:
        async for step in steps:
            yield step


async def admitted(client: Client, made: Recipe, name: str, *, force: bool = False) -> None:
    """Raise what `install` would refuse, before anything is made."""
    if not _MODEL.fullmatch(name):
        raise UsageError(
            detail=f"{name!r} cannot be the name of a model", detail_zh=f"{name!r} 不能用作模型名称",
            fix="use another name: letters, digits, _ - . and one colon before a tag, as lawyer-zh or lawyer:zh",
            fix_zh="请换一个名称：只能包含字母、数字、_ - . 以及标签前的一个冒号，例如 lawyer-zh 或 lawyer:zh",
        )  # fmt: skip
    if full_name(name) == full_name(made.base.name):
        raise UsageError(
            detail=f"{name} cannot be made from itself", detail_zh=f"{name} 不能由其自身创建",
            fix="give another name with --as", fix_zh="请用 --as 指定其他名称",
        )  # fmt: skip
    try:
        await ours(client, name)
    except ModelMissing:
        return
    except ModelNotOurs:
        if not force:
            raise


async def ours(client: Client, name: str) -> Mark:
    """The mark of an installed model. Raises `ModelMissing`, and `ModelNotOurs` where it has none."""
    mark = mark_of(name, await client.show(name))
    if mark is None:
        raise ModelNotOurs(model=name)
    return mark


async def uninstall(client: Client, names: Iterable[str]) -> None:
    """Remove models that were made here: all of them, or none where one is not ours."""
    known = list(dict.fromkeys(names))
    await removable(client, known)
    for name in known:
        await delete(client, name)


async def removable(client: Client, names: Iterable[str]) -> None:
    """Raises `ModelMissing` or `ModelNotOurs` where one of them cannot be removed: the hints are about removing."""
    for name in names:
        try:
            if not _MODEL.fullmatch(name):
                raise ModelMissing(model=name, nearest="", nearest_zh="")
            await ours(client, name)
        except (ModelMissing, ModelNotOurs) as error:
            # a near name is that of any model, and may be somebody else's
            raise type(error)(model=name, nearest="", nearest_zh="", removing=True) from None
