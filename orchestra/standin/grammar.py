"""JSON as a schema wants it, so that a client that asks for typed output gets some, whatever the schema.

A real daemon lets its model choose within the schema; here a seeded chance chooses numbers, the corpus fills strings,
and an enumeration gives the member that the prompt speaks of most, then the others. What the schema says is kept to the
letter, or refused.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from orchestra.standin import extract

DEEP, DEEPEST = 4, 32
"""Below the first depth only what the schema requires is written; below the second a schema is held to be endless."""

USUAL_STRING = 80
MOST_ITEMS, MOST_LETTERS = 1000, 10_000
"""A schema that asks for more than this is refused; it would only be a way to exhaust the machine."""

Say = Callable[[], str]


def write(format: str | dict[str, Any], say: Say, *, cue: str, random: Random) -> str:
    """A JSON text for `format` ("json" or a schema): strings out of `say`, enumerations by `cue`, the rest by `random`.

    Raises ValueError, with the reason, for what cannot be followed.
    """
    if format == "json":
        format = {"type": "object", "properties": {"answer": {"type": "string"}}}
    if not isinstance(format, dict):
        raise ValueError(f"unknown format {format!r}")
    try:
        value = _Writer(format, say, cue, random).value(format, 0)
    except (TypeError, AttributeError, KeyError, OverflowError) as error:
        raise ValueError(f"malformed schema: {error!s:.60}") from error
    return json.dumps(value, ensure_ascii=False)


class _Writer:
    def __init__(self, root: dict[str, Any], say: Say, cue: str, random: Random) -> None:
        self._root, self._say, self._cue, self._random = root, say, cue, random
        self._given: Counter[tuple[int, str]] = Counter()  # how often each member of an enumeration was written

    def value(self, schema: object, depth: int) -> Any:
        """A value that `schema` allows."""
        schema = {} if schema is True else schema
        if not isinstance(schema, dict):
            raise ValueError(f"not a schema: {schema!r:.60}")
        if depth > DEEPEST:
            raise ValueError("the schema has no end")
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._member(schema["enum"])
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self._one_of(schema, word, depth)
        kind = _kind(schema)
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
        return self._plain(schema, kind)

    def _plain(self, schema: dict[str, Any], kind: object) -> Any:
        match kind:
            case "string":
                return self._string(schema)
            case "integer" | "number":
                return self._number(schema, whole=kind == "integer")
            case "boolean":
                return self._random.random() < 0.5
            case "null":
                return None
        raise ValueError(f"unknown type {kind!r:.60}")

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The schema with its `$ref`s followed and the parts of `allOf` put together."""
        for _ in range(DEEPEST):
            if "$ref" in schema:
                rest = {word: value for word, value in schema.items() if word != "$ref"}
                schema = _together(self._target(schema["$ref"]), rest)
            elif "allOf" in schema:
                rest = {word: value for word, value in schema.items() if word != "allOf"}
                for part in schema["allOf"]:
                    rest = _together(rest, self._resolved(part))
                schema = rest
            else:
                return schema
        raise ValueError("the schema has no end")

    def _target(self, reference: object) -> dict[str, Any]:
        place: Any = self._root
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise ValueError(f"cannot follow $ref {reference!r:.60}")
        for step in reference[1:].split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(place, dict) or step not in place:
                raise ValueError(f"$ref {reference!r:.60} leads nowhere")
            place = place[step]
        if not isinstance(place, dict):
            raise ValueError(f"$ref {reference!r:.60} is no schema")
        return place

    def _member(self, members: object) -> Any:
        if not isinstance(members, list) or not members:
            raise ValueError("enum without members")
        keys = [(id(members), str(member)) for member in members]
        ranks = [(-self._given[key], _nearness(key[1], self._cue)) for key in keys]
        best = max(ranks)
        chosen = self._random.choice([place for place, rank in enumerate(ranks) if rank == best])
        self._given[keys[chosen]] += 1
        return members[chosen]

    def _one_of(self, schema: dict[str, Any], word: str, depth: int) -> Any:
        choices = schema[word]
        if not isinstance(choices, list) or not choices:
            raise ValueError(f"{word} without members")
        rest = {key: value for key, value in schema.items() if key not in (word, "discriminator")}
        if depth > DEEP:
            choices = [choice for choice in choices if choice == {"type": "null"}] or choices
        return self.value(_together(self._resolved(choices[0]), rest), depth + 1)

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        others = schema.get("additionalProperties", True)
        _only(schema, "object", refused=("patternProperties", "propertyNames", "dependentRequired", "if", "not"))
        names = [name for name in properties if depth <= DEEP or name in required]
        written = {name: self.value(properties[name], depth + 1) for name in names}
        for name in required:
            if name not in properties:
                if others is False:
                    raise ValueError(f"{name!r:.60} is required and not allowed")
                written[name] = self.value({"type": "string"} if others is True else others, depth + 1)
        while len(written) < schema.get("minProperties", 0):
            if others is False:
                raise ValueError("minProperties asks for more than the schema allows")
            written[f"key{len(written) + 1}"] = self.value({"type": "string"} if others is True else others, depth + 1)
        if len(written) > schema.get("maxProperties", math.inf):
            raise ValueError("maxProperties allows fewer than are named")
        return written

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        _only(schema, "array", refused=("contains", "not"))
        first = schema.get("prefixItems", [])
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        items = schema.get("items", {"type": "string"})
        wanted = max(least, min(most, 0 if depth > DEEP else self._random.randint(1, 3)))
        wanted = len(first) if first and (items is False or wanted <= len(first)) and least <= len(first) else wanted
        if least > most or (items is False and wanted > len(first)) or wanted > most:
            raise ValueError("minItems and maxItems cannot both be kept")
        if wanted > MOST_ITEMS:
            raise ValueError("minItems is too large")
        written: list[Any] = []
        for place in range(int(wanted)):
            item = first[place] if place < len(first) else items
            value = self.value(item, depth + 1)
            for _ in range(200 if schema.get("uniqueItems") else 0):
                if value not in written:
                    break
                value = self._other(item, written, depth)
            if not (schema.get("uniqueItems") and value in written):
                written.append(value)
        if len(written) < least:
            raise ValueError("cannot find enough different items")
        return written

    def _other(self, item: Any, written: list[Any], depth: int) -> Any:
        resolved = self._resolved(item) if isinstance(item, dict) else {}
        left = [member for member in resolved.get("enum", []) if member not in written]
        return self._random.choice(left) if left else self.value(item, depth + 1)

    def _string(self, schema: dict[str, Any]) -> str:
        _only(schema, "string", refused=("pattern", "not"))
        if "format" in schema:
            return self._formatted(schema["format"])
        least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
        if least > most:
            raise ValueError("minLength and maxLength cannot both be kept")
        if least > MOST_LETTERS:
            raise ValueError("minLength is too large")
        text = ""
        while len(text) < max(least, 1):
            text = f"{text} {_line(self._say())}".strip() or "-"
        if len(text) > max(least, USUAL_STRING) and least < USUAL_STRING:
            text = _sentences_within(text, USUAL_STRING, least)
        if len(text) > most:
            text = _words_within(text, int(most), least)
        return text

    def _formatted(self, name: object) -> str:
        random = self._random
        day = f"20{random.randint(20, 29)}-{random.randint(1, 12):02}-{random.randint(1, 28):02}"
        hour = f"{random.randint(0, 23):02}:{random.randint(0, 59):02}:{random.randint(0, 59):02}"
        digits = f"{random.getrandbits(128):032x}"
        uuid = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"
        known = {"date": day, "time": f"{hour}Z", "date-time": f"{day}T{hour}Z", "uuid": uuid}
        known |= {"email": f"name{random.randint(1, 99)}@example.com", "uri": f"https://example.com/{random.randint(1, 99)}"}
        if name not in known:
            raise ValueError(f"unknown string format {name!r:.60}")
        return known[str(name)]

    def _number(self, schema: dict[str, Any], *, whole: bool) -> float | int:
        _only(schema, "number", refused=("not",))
        step = schema.get("multipleOf", 1 if whole else None)
        low, high = _bounds(schema)
        if step is None:
            return self._between(low, high, schema)
        if step <= 0 or (whole and step != int(step)):
            raise ValueError("multipleOf cannot be kept")
        least, most = math.ceil(low / step), math.floor(high / step)
        if least * step <= schema.get("exclusiveMinimum", -math.inf):
            least += 1
        if most * step >= schema.get("exclusiveMaximum", math.inf):
            most -= 1
        if least > most:
            raise ValueError("no number between minimum and maximum")
        value = self._random.randint(least, most) * step
        return int(value) if whole else value

    def _between(self, low: float, high: float, schema: dict[str, Any]) -> float:
        def fits(value: float) -> bool:
            within = schema.get("exclusiveMinimum", -math.inf) < value < schema.get("exclusiveMaximum", math.inf)
            return low <= value <= high and within

        for _ in range(20):
            value = low + (high - low) * self._random.random()
            for candidate in (round(value, 2), value):
                if fits(candidate):
                    return candidate
        raise ValueError("no number between minimum and maximum")


def _kind(schema: dict[str, Any]) -> object:
    kind = schema.get("type")
    if isinstance(kind, list) and kind:
        return kind[0]
    if kind is None:
        hints = {"properties": "object", "required": "object", "additionalProperties": "object"}
        hints |= {"items": "array", "prefixItems": "array", "minimum": "number", "maximum": "number"}
        return next((hints[word] for word in schema if word in hints), "string")
    return kind


def _together(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    both = {**first, **second}
    if "properties" in first and "properties" in second:
        both["properties"] = {**first["properties"], **second["properties"]}
    if "required" in first and "required" in second:
        both["required"] = list(dict.fromkeys([*first["required"], *second["required"]]))
    return both


def _only(schema: dict[str, Any], kind: str, *, refused: tuple[str, ...]) -> None:
    for word in refused:
        if word in schema:
            raise ValueError(f"{word} of {kind} is not supported")


def _bounds(schema: dict[str, Any]) -> tuple[float, float]:
    low = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
    high = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
    if low == -math.inf and high == math.inf:
        return 0, 10
    if low == -math.inf:
        return high - 10, high
    return low, low + 10 if high == math.inf else high


def _nearness(member: str, cue: str) -> float:
    """How far a prompt speaks of a member: its words, or words that begin alike (lawyer and law)."""
    spoken = extract.words(cue)
    own = extract.words(member)
    alike = sum(_begins_alike(word, other) for word in own - spoken for other in spoken)
    return extract.shared(member, cue) + 0.3 * min(alike, 3)


def _begins_alike(first: str, second: str) -> bool:
    shorter, longer = sorted((first, second), key=len)
    return len(shorter) >= 3 and longer.startswith(shorter)


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _sentences_within(text: str, most: int, least: int) -> str:
    kept = ""
    for sentence in extract.sentences(text):
        longer = f"{kept} {sentence}".strip()
        if kept and len(longer) > most and len(kept) >= least:
            break
        kept = longer
    return kept


def _words_within(text: str, most: int, least: int) -> str:
    cut = text[:most]
    at_space = cut.rpartition(" ")[0]
    return at_space if len(at_space) >= max(least, most // 2) else cut.ljust(least)
