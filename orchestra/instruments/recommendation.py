"""Which model for which work, on this machine: a ranked list, and for each a reason in each of four dimensions.

    data          what it was trained for: the language, and base or instruct as the work needs it
    input         how much text it holds, against what the work needs
    efficiency    how much model there is for the memory that it takes here
    quantization  what was given up for its size

Installed models come first, since they cost nothing more. All of it is arithmetic over numbers that are shown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from orchestra.instruments.check import gigabytes
from orchestra.instruments.footprint import Footprint, Verdict, footprint, verdict
from orchestra.instruments.inventory import Kind, Sized, kind_of
from orchestra.instruments.machine import Machine
from orchestra.instruments.wellknown import KNOWN, Known, languages_of, one_name
from orchestra.texts import Words

Work = Literal["chat", "complete", "search", "agents"]
WINDOWS: dict[Work, int] = {"chat": 8192, "complete": 8192, "search": 16384, "agents": 16384}
KINDS: dict[Work, tuple[Kind, ...]] = {
    "chat": ("instruct",), "complete": ("base",), "search": ("instruct", "embedding"), "agents": ("instruct",),
}  # fmt: skip
_COMMANDS: dict[Work, str] = {
    "chat": "orchestra chat --model {}", "complete": 'orchestra generate "..." --model {}',
    "search": 'orchestra ask "..." --model {}', "agents": 'orchestra integrate "..." --model {}',
}  # fmt: skip
OFFERED = 4  # models that are not installed
PLENTY = 14.0  # billions of parameters beyond which more do not count
UNHURRIED = 8.5  # and beyond which a machine without a graphics card is slow
# How much of a model is left, by how its quantization begins.
_LEFT = (
    ("Q2", 0.3), ("Q3", 0.6), ("Q4_0", 0.8), ("Q4", 0.9), ("MXFP4", 0.9), ("Q5", 0.95), ("Q6", 0.97), ("Q8", 1.0), ("F", 1.0), ("BF", 1.0),
)  # fmt: skip
_SHARES = {"data": 0.35, "input": 0.2, "efficiency": 0.35, "quantization": 0.1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model that may be recommended. `parameters` are billions, 0 = not known; `languages` empty = not known."""

    name: str
    kind: Kind
    parameters: float
    quantization: str
    context: int
    footprint: Footprint
    languages: tuple[str, ...] = ()
    tools: bool = False
    installed: bool = False
    loaded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """A model for a work, with why. `role`: it answers, goes on with a text, or turns texts into vectors."""

    name: str
    installed: bool
    role: Kind
    verdict: Verdict
    needed: int
    context: int
    score: float
    command: str
    reasons: dict[str, Words] = field(default_factory=dict)


def candidates(installed: Iterable[Sized], work: Work, context: int, slots: int = 1) -> list[Candidate]:
    """The installed models and the well-known ones that are not, as far as they are made for the work."""
    found = [_installed(each) for each in installed]
    names = {one_name(each.name) for each in found}
    found += [_offered(each, context, slots) for each in KNOWN if one_name(each.name) not in names]
    return [each for each in found if each.kind in KINDS[work]]


def _installed(each: Sized) -> Candidate:
    card = each.card
    return Candidate(
        name=card.name, kind=kind_of(card), parameters=billions(card.parameters), quantization=card.quantization,
        context=card.context or 0, footprint=each.footprint, languages=languages_of(card.name, card.family),
        tools="tools" in card.capabilities, installed=True, loaded=card.loaded,
    )  # fmt: skip


def _offered(each: Known, context: int, slots: int) -> Candidate:
    return Candidate(
        name=each.name, kind=each.kind, parameters=each.parameters, quantization=each.quantization, context=each.shape.context,
        footprint=footprint(each.size, each.shape, context, slots), languages=each.languages, tools=each.tools,
    )  # fmt: skip


def billions(text: str) -> float:
    """The daemon's "8.0B" or "751.63M" as billions; 0 where it says nothing."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMBT])", text.strip().upper())
    return float(found[1]) * {"K": 1e-6, "M": 1e-3, "B": 1.0, "T": 1e3}[found[2]] if found else 0.0


def recommended(found: Sequence[Candidate], machine: Machine, *, work: Work, language: str, context: int) -> list[Recommendation]:
    """The candidates, the best first: installed before others, what fits before what does not, then by their merits.

    What is neither installed nor would fit is left out.
    """
    judged = [_judged(each, machine, work, language, context) for each in found]
    kept = sorted(judged, key=_rank)
    offered = [each for each in kept if not each.installed and each.verdict != "too big"]
    vectors = [each for each in offered if each.role == "embedding"][:1]
    answering = [each for each in offered if each.role != "embedding"][: OFFERED - len(vectors)]
    return [*(each for each in kept if each.installed), *answering, *vectors]


def _rank(each: Recommendation) -> tuple[bool, bool, bool, float, str]:
    return not each.installed, each.verdict == "too big", each.role == "embedding", -each.score, each.name


def _judged(each: Candidate, machine: Machine, work: Work, language: str, context: int) -> Recommendation:
    how = verdict(each.footprint.needed, machine, loaded=each.loaded)
    merits = {
        "data": _data(each, work, language),
        "input": _input(each, context),
        "efficiency": _efficiency(each, machine, how),
        "quantization": _quantization(each),
    }
    run = _COMMANDS[work].format(each.name) if each.kind != "embedding" else f"orchestra show {each.name}"
    return Recommendation(
        name=each.name, installed=each.installed, role=each.kind, verdict=how, needed=each.footprint.needed, context=each.footprint.context,
        score=round(sum(_SHARES[name] * merit for name, (merit, _) in merits.items()), 3),
        command=run if each.installed else f"orchestra pull {each.name}",
        reasons={name: words for name, (_, words) in merits.items()},
    )  # fmt: skip


_Merit = tuple[float, Words]
_ROLES: dict[Kind, Words] = {
    "base": Words("a base model: it goes on with a text", "基础模型：适合续写"),
    "instruct": Words("an instruct model: it answers", "指令模型：适合问答"),
    "embedding": Words("turns texts into vectors, for finding them", "将文字转为向量，用于检索"),
}
_SPOKEN = {"zh": Words("Chinese", "中文"), "en": Words("English", "英文")}


def _data(each: Candidate, work: Work, language: str) -> _Merit:
    role, spoken = _ROLES[each.kind], _SPOKEN[language]
    if not each.languages:
        merit, said = 0.5, Words(f"whether it was made for {spoken.en} is not known here", f"是否针对{spoken.zh}训练未知")
    elif language in each.languages:
        merit, said = 1.0, Words(f"made for {spoken.en}", f"针对{spoken.zh}训练")
    else:
        merit, said = 0.2, Words(f"made for English, weak in {spoken.en}", f"以英文训练为主，{spoken.zh}较弱")
    if work == "agents":
        merit = merit if each.tools else merit * 0.8
        own, none = Words("calls tools", "支持工具调用"), Words("no tools of its own: its steps are asked for as JSON", "不支持工具调用：以 JSON 形式给出步骤")
        tools = own if each.tools else none
        said = Words(f"{said.en}; {tools.en}", f"{said.zh}；{tools.zh}")
    return merit, Words(f"{role.en}; {said.en}", f"{role.zh}；{said.zh}")


def _input(each: Candidate, context: int) -> _Merit:
    if not each.context:
        return 0.5, Words("its longest input is not known", "最大输入长度未知")
    enough = each.context >= context
    said = Words(f"holds {each.context} tokens; {context} are wanted", f"最多 {each.context} token；需要 {context}")
    return (1.0, said) if enough else (each.context / context, Words(f"{said.en}: less than that", f"{said.zh}：不足"))


_VERDICTS: dict[Verdict, tuple[float, Words]] = {
    "fits": (1.0, Words("fits", "放得下")),
    "tight": (0.4, Words("tight: slower, or close other programs", "勉强：较慢，或需关闭其他程序")),
    "too big": (0.0, Words("too big for this machine", "本机放不下")),
    "unknown": (0.8, Words("whether it fits is not known", "是否放得下未知")),
}


def _efficiency(each: Candidate, machine: Machine, how: Verdict) -> _Merit:
    share, said = _VERDICTS[how]
    size = f"{each.parameters:.3g}B" if each.parameters >= 1 else f"{each.parameters * 1000:.3g}M"
    merit = share * (min(1.0, math.log2(1 + each.parameters) / math.log2(1 + PLENTY)) if each.kind != "embedding" else 1.0)
    slow = Words("", "")
    if each.parameters > UNHURRIED and machine.total and not machine.vram:
        merit, slow = merit * 0.6, Words("; slow without a graphics card", "；没有显卡会较慢")
    needs, window = gigabytes(each.footprint.needed), each.footprint.context
    return merit, Words(
        f"{size} parameters, {needs} at {window} tokens: {said.en}{slow.en}", f"{size} 参数，{window} token 时需 {needs}：{said.zh}{slow.zh}"
    )


def _quantization(each: Candidate) -> _Merit:
    name = each.quantization.upper()
    left = next((share for start, share in _LEFT if name.startswith(start)), 0.0)
    if not left:
        return 0.5, Words(f"{each.quantization or 'quantization'} is not known here", f"{each.quantization or '量化方式'} 未知")
    if left >= 1:
        said = Words("practically nothing is lost", "几乎没有损失")
    elif left >= 0.9:
        said = Words("the usual balance of size and quality", "大小与质量的常用折中")
    else:
        said = Words("some quality was given up for its size", "为减小体积牺牲了部分质量")
    return left, Words(f"{each.quantization}: {said.en}", f"{each.quantization}：{said.zh}")
