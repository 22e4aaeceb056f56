"""Does a value fit a JSON Schema? Checked for all keywords that say something about a value, or refused beforehand.

The daemon's grammar sees to the form of an answer, not to lengths, patterns or sums, and a daemon may have no
grammar at all. So the value is checked again. A keyword that cannot be checked here is refused before anything
is asked, instead of being taken for fulfilled.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from orchestra.errors import UsageError

DEEPEST = 64

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer(),
}
# What describes a schema and asks nothing of a value; `format` is such a note in JSON Schema, too.
_NOTES = frozenset({
    "$schema", "$id", "$anchor", "$comment", "$defs", "definitions", "title", "description", "default", "examples",
    "deprecated", "readOnly", "writeOnly", "format", "discriminator",
})  # fmt: skip


def mismatch(value: Any, schema: Any) -> str:
    """Where and why `value` does not fit `schema`, in one line; empty where it does."""
    for place, why in _Check(schema).faults(value, schema, "", 0):
        return f"{place.lstrip('.') or 'the whole'}: {why}"
    return ""


def checkable(schema: Any) -> None:
    """Raises `UsageError` where `schema` is none, or asks for what cannot be checked."""
    try:
        _walk(schema, _Check(schema), 0)
    except (AttributeError, TypeError):
        raise _refused("a keyword has a value of the wrong type", "某个关键字的值类型不对") from None


def _walk(schema: Any, check: _Check, depth: int) -> None:
    if not isinstance(schema, dict):
        if not isinstance(schema, bool):
            raise _refused(f"{schema!r:.60} stands where a schema should", f"{schema!r:.60} 处应为 schema")
        return
    unknown = sorted(set(schema) - _NOTES - set(_KEYWORDS) - {"$ref", "additionalProperties", "if", "then", "else"})
    if unknown or depth > DEEPEST:
        named = ", ".join(map(repr, unknown)) or "so deep a schema"
        raise _refused(f"{named} cannot be checked", f"无法检查 {named}")
    if "$ref" in schema:
        check.target(schema["$ref"])
    _sound(schema)
    for inner in _inner(schema):
        _walk(inner, check, depth + 1)


def _sound(schema: Mapping[str, Any]) -> None:
    """The words of the schema itself: types that there are, patterns that can be read."""
    types = schema.get("type", [])
    for name in [types] if isinstance(types, str) else types:
        if name not in _TYPES:
            raise _refused(f"there is no type {name!r:.60}", f"没有类型 {name!r:.60}")
    for pattern in (schema.get("pattern", ""), *schema.get("patternProperties", ())):
        try:
            re.compile(pattern)
        except (re.error, TypeError):
            raise _refused(f"the pattern {pattern!r:.60} cannot be read", f"无法解析 pattern {pattern!r:.60}") from None


def _inner(schema: Mapping[str, Any]) -> Iterator[Any]:
    for word in ("properties", "patternProperties", "$defs", "definitions"):
        yield from schema.get(word, {}).values()
    for word in ("items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else"):
        if word in schema:
            yield schema[word]
    for word in ("anyOf", "oneOf", "allOf", "prefixItems"):
        yield from schema.get(word, ())


def _refused(detail: str, detail_zh: str) -> UsageError:
    return UsageError(
        detail=f"the schema cannot be used: {detail}",
        detail_zh=f"无法使用该 schema：{detail_zh}",
        fix="use types, properties, required, items, enum, const, anyOf, limits and $ref within the schema",
        fix_zh="请使用 type、properties、required、items、enum、const、anyOf、各种上下限以及 schema 内部的 $ref",
    )


Faults = Iterator[tuple[str, str]]


class _Check:
    """The checks of one schema; `$ref`s lead into its root."""

    def __init__(self, root: Any) -> None:
        self._root = root

    def target(self, reference: Any) -> Any:
        """The schema that a `$ref` leads to; one that leads out of the schema, or nowhere, is refused."""
        place = self._root
        steps = reference[1:].split("/")[1:] if isinstance(reference, str) and reference.startswith("#") else [None]
        for step in steps:
            key = step and step.replace("~1", "/").replace("~0", "~")
            if not isinstance(place, dict) or key not in place:
                raise _refused(f"$ref {reference!r:.60} leads nowhere", f"$ref {reference!r:.60} 无法解析")
            place = place[key]
        return place

    def faults(self, value: Any, schema: Any, place: str, depth: int) -> Faults:
        """Every fault of `value`, which stands at `place`."""
        if depth > DEEPEST:
            yield place, "it is nested too deeply"
        elif schema is False:
            yield place, "nothing is allowed here"
        elif isinstance(schema, dict):
            if "$ref" in schema:
                yield from self.faults(value, self.target(schema["$ref"]), place, depth + 1)
            for word in schema:
                if word in _KEYWORDS:
                    yield from _KEYWORDS[word](self, value, schema, place, depth)
            if "if" in schema:
                branch = "then" if self.fits(value, schema["if"], depth) else "else"
                yield from self.faults(value, schema.get(branch, True), place, depth + 1)
            if "additionalProperties" in schema and isinstance(value, dict):
                yield from self._additional(value, schema, place, depth)

    def fits(self, value: Any, schema: Any, depth: int) -> bool:
        """Whether there is no fault."""
        return next(self.faults(value, schema, "", depth + 1), None) is None

    def _additional(self, value: dict[str, Any], schema: Mapping[str, Any], place: str, depth: int) -> Faults:
        patterns = schema.get("patternProperties", ())
        for name in value:
            if name in schema.get("properties", ()) or any(re.search(pattern, name) for pattern in patterns):
                continue
            if schema["additionalProperties"] is False:
                yield place, f"{name!r:.60} is not one of its properties"
            else:
                yield from self.faults(value[name], schema["additionalProperties"], f"{place}.{name}", depth + 1)


Keyword = Callable[[_Check, Any, Mapping[str, Any], str, int], Faults]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:59] + "…"


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON is: true is not 1, and 1 is 1.0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(one == other)


def _type(check: _Check, value: Any, schema: Mapping[str, Any], place: str, depth: int) -> Faults:
    wanted = schema["type"]
    names = [wanted] if isinstance(wanted, str) else wanted
    if not any(_TYPES[name](value) for name in names):
        yield place, f"{_short(value)} is not of type {' or '.join(names)}"


def _enum(check: _Check, value: Any, schema: Mapping[str, Any], place: str, depth: int) -> Faults:
    if not any(_same(value, member) for member in schema["enum"]):
        yield place, f"{_short(value)} is not one of {_short(schema['enum'])}"


def _const(check: _Check, value: Any, schema: Mapping[str, Any], place: str, depth: int) -> Faults:
    if not _same(value, schema["const"]):
        yield place, f"{_short(value)} is not {_short(schema['const'])}"


def _properties(check: _Check, value: Any, schema: Mapping[str, Any], place: str, depth: int) -> Faults:
    if isinstance(value, dict):
        for name, inner in schema["properties"].items():
            if name in value:
                yield from check.faults(value[name], inner, f"{place}.{name}", depth + 1)


def _pattern_properties(check: _Check, value: Any, schema: Mapping[str, Any], place: str, depth: int) -> Faults:
    if isinstance(value, dict):
        for pattern, inner in schema["patternProperties"].items():
            for name in value:
                if re.search(pattern, name):
                    yield from check.faults(value[name], inner, f"{place}.{name}", depth + 1)


def _property_names(check: _Check, value: Any, schema: Mapping[str, Any], place: str, depth: int) -> Faults:
    if isinstance(value, dict):
        for name in value:
            yield from check.faults(name, schema["propertyNames"], f"{place}.{name}", depth + 1)


def _required(check: _Check, value: Any, schema: Mapping[str, Any], place: str, depth: int) -> Faults:
    if isinstance(value, dict):
        for name in schema["required"]:
            if name not in value:
                yield place, f"{name!r} is missing"


def _prefix(schema: Mapping[str, Any]) -> int:
    return len(schema.get("prefixItems", ()))


def _items(check: _Check, value: Any, schema: Mapping[str, Any], place: str, depth: int) -> Faults:
    if isinstance(value, list):
        for at, item in enumerate(value[_prefix(schema) :], _prefix(schema)):
            yield from check.faults(item, schema["items"], f"{place}[{at}]", depth + 1)


def _prefix_items(check: _Check, value: Any, schema: Mapping[str, Any], place: str, depth: int) -> Faults:
    if isinstance(value, list):
        for at, (item, inner) in enumerate(zip(value, schema["prefixItems"], strict=False)):
            yield from check.faults(item, inner, f"{place}[{at}]", depth + 1)


def _contains(check: _Check, value: Any, schema: Mapping[str, Any], place: str, depth: int) -> Faults:
    if isinstance(value, list) and not any(check.fits(item, schema["contains"], depth) for item in value):
        yield place, "no item is what it has to contain"


def _unique(check: _Check, value: Any, schema: Mapping[str, Any], place: str, depth: int) -> Faults:
    if schema["uniqueItems"] and isinstance(value, list):
        for at, item in enumerate(value):
            if any(_same(item, other) for other in value[:at]):
                yield place, f"{_short(item)} stands there twice"


def _all_of(check: _Check, value: Any, schema: Mapping[str, Any], place: str, depth: int) -> Faults:
    for inner in schema["allOf"]:
        yield from check.faults(value, inner, place, depth + 1)


def _any_of(check: _Check, value: Any, schema: Mapping[str, Any], place: str, depth: int) -> Faults:
    if not any(check.fits(value, inner, depth) for inner in schema["anyOf"]):
        yield place, f"{_short(value)} is none of what is allowed"


def _one_of(check: _Check, value: Any, schema: Mapping[str, Any], place: str, depth: int) -> Faults:
    count = sum(check.fits(value, inner, depth) for inner in schema["oneOf"])
    if count != 1:
        yield place, f"{_short(value)} is {count} of the kinds of which it has to be one"


def _not(check: _Check, value: Any, schema: Mapping[str, Any], place: str, depth: int) -> Faults:
    if check.fits(value, schema["not"], depth):
        yield place, f"{_short(value)} is what it must not be"


def _limit(word: str, kind: str, measure: Callable[[Any], Any], fits: Callable[[Any, Any], bool], says: str) -> Keyword:
    """A keyword that compares a measure of values of one kind with a number."""

    def check(check: _Check, value: Any, schema: Mapping[str, Any], place: str, depth: int) -> Faults:
        if _TYPES[kind](value) and not fits(measure(value), schema[word]):
            yield place, f"{_short(value)} {says.format(schema[word])}"

    return check


def _divides(value: float, step: float) -> bool:
    share = value / step
    return math.isfinite(share) and math.isclose(share, round(share), rel_tol=1e-9, abs_tol=1e-9)


def _itself(value: Any) -> Any:
    return value


_KEYWORDS: dict[str, Keyword] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "properties": _properties,
    "patternProperties": _pattern_properties,
    "propertyNames": _property_names,
    "required": _required,
    "items": _items,
    "prefixItems": _prefix_items,
    "contains": _contains,
    "uniqueItems": _unique,
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    "minimum": _limit("minimum", "number", _itself, lambda value, least: value >= least, "is below {}"),
    "maximum": _limit("maximum", "number", _itself, lambda value, most: value <= most, "is above {}"),
    "exclusiveMinimum": _limit("exclusiveMinimum", "number", _itself, lambda value, least: value > least, "is not above {}"),
    "exclusiveMaximum": _limit("exclusiveMaximum", "number", _itself, lambda value, most: value < most, "is not below {}"),
    "multipleOf": _limit("multipleOf", "number", _itself, _divides, "is no multiple of {}"),
    "minLength": _limit("minLength", "string", len, lambda size, least: size >= least, "is shorter than {} characters"),
    "maxLength": _limit("maxLength", "string", len, lambda size, most: size <= most, "is longer than {} characters"),
    "pattern": _limit("pattern", "string", _itself, lambda text, pattern: bool(re.search(pattern, text)), "does not match {}"),
    "minItems": _limit("minItems", "array", len, lambda size, least: size >= least, "has fewer than {} items"),
    "maxItems": _limit("maxItems", "array", len, lambda size, most: size <= most, "has more than {} items"),
    "minProperties": _limit("minProperties", "object", len, lambda size, least: size >= least, "has fewer than {} properties"),
    "maxProperties": _limit("maxProperties", "object", len, lambda size, most: size <= most, "has more than {} properties"),
}
