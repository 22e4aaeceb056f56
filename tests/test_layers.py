"""The house rules that a reader relies on, kept by reading the source: who may import whom, how long things get.

Each rule takes one `Source` and returns what is wrong with it; each has a red control, a tiny source that breaks it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "orchestra"

ORDER = ["texts", "errors", "settings", "request", "slots", "ending", "sockets", "runtime", "model", "sessions", "retrieval", "agents", "instruments", "api", "gateway", "cli"]
STANDIN_KNOWS = ("orchestra.texts", "orchestra.errors", "orchestra.model.wire", "orchestra.standin")
KNOWS_STANDIN = ("cli", "standin", "__init__")  # the demo, its own folder, the public name; nobody else, so never silently
FACES = ("gateway", "cli")  # they may say which version they are
WAITS = ("ending", "sockets", "runtime", "gateway", "standin", "cli")
WAITING = {"asyncio", "anyio"}
EMPTY_NAMES = {"utils", "helpers", "base", "common", "manager"}
BORDERS = {"gateway/attending.py": 1, "agents/function.py": 1, "retrieval/search.py": 1}  # `except Exception`: how many, and where
CHECKING = "TYPE_CHECKING"

FILE_LINES, FUNCTION_LINES, PARAMETERS, METHODS, LINE = 400, 50, 6, 12, 140

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Source(NamedTuple):
    """One file; `path` is relative to the package, with slashes."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return _parsed(self.text)

    @property
    def layer(self) -> str:
        """The first part of the path: `model`, `api`, `__init__`."""
        return self.path.split("/")[0].removesuffix(".py")

    @property
    def module(self) -> str:
        return ("orchestra/" + self.path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def sources() -> list[Source]:
    return [Source(p.relative_to(PACKAGE).as_posix(), p.read_text("utf-8")) for p in sorted(PACKAGE.rglob("*.py"))]


def imported(source: Source, nodes: Iterator[ast.AST] | None = None) -> Iterator[tuple[str, int]]:
    """Every module that is imported anywhere in the file, and each `from` name as if it were one."""
    for node in ast.walk(source.tree) if nodes is None else nodes:
        match node:
            case ast.Import(names=names):
                yield from ((alias.name, node.lineno) for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from ((f"{module}.{alias.name}", node.lineno) for alias in names)
            case ast.Call(func=ast.Attribute(attr="import_module") | ast.Name(id="import_module"), args=[ast.Constant(value=str(name)), *_]):
                yield name, node.lineno


def within(name: str, *modules: str) -> bool:
    return any(name == module or name.startswith(module + ".") for module in modules)


# --- the rules


def layer_order(source: Source) -> Iterator[str]:
    """A module imports only from its own layer and from those before it."""
    if source.layer in ("__init__", "__main__", "standin"):
        return
    own = ORDER.index(source.layer) if source.layer in ORDER else None
    if own is None:
        yield f"{source.path}: no layer of that name"
        return
    for name, line in imported(source):
        if not within(name, "orchestra"):
            continue
        layer = name.removeprefix("orchestra").removeprefix(".").split(".")[0]
        if layer == "standin" and source.layer in KNOWS_STANDIN:
            continue
        if layer == "__version__" and source.layer in FACES:
            continue
        if layer not in ORDER or ORDER.index(layer) > own:
            yield f"{source.path}:{line}: {source.layer} imports {name}"


def standin_apart(source: Source) -> Iterator[str]:
    """The stand-in knows the errors and the wire; only the command line and the public names know the stand-in."""
    for name, line in imported(source):
        if source.layer == "standin" and within(name, "orchestra") and not within(name, *STANDIN_KNOWS):
            yield f"{source.path}:{line}: the stand-in imports {name}"
        if within(name, "orchestra.standin") and source.layer not in KNOWS_STANDIN:
            yield f"{source.path}:{line}: {source.layer} imports the stand-in"


def demo_in_cli(source: Source) -> Iterator[str]:
    """The demo lives in `cli/`."""
    if Path(source.path).stem.startswith("demo") and source.layer != "cli":
        yield f"{source.path}: the demo belongs to cli/"


def waits_in_place(source: Source) -> Iterator[str]:
    """Everything that waits goes through the runtime."""
    if source.layer not in WAITS:
        for name, line in imported(source):
            if name.split(".")[0] in WAITING:
                yield f"{source.path}:{line}: imports {name}"


def type_checking_in_init(source: Source) -> Iterator[str]:
    """Only `__init__` may tell the type checker something else than Python."""
    if not source.path.endswith("__init__.py"):
        for node in ast.walk(source.tree):
            if (isinstance(node, ast.Name) and node.id == CHECKING) or (isinstance(node, ast.Attribute) and node.attr == CHECKING):
                yield f"{source.path}:{node.lineno}: uses {CHECKING}"


def private_names(source: Source) -> Iterator[str]:
    """A name that begins with an underscore is the business of its own module."""
    for name, line in imported(source):
        if within(name, "orchestra") and any(part.startswith("_") and not part.startswith("__") for part in name.split(".")):
            yield f"{source.path}:{line}: imports the private {name}"


def telling_names(source: Source) -> Iterator[str]:
    """A module is called after what it is about."""
    for part in source.path.removesuffix(".py").split("/"):
        if part.strip("_") in EMPTY_NAMES:
            yield f"{source.path}: {part} says nothing"


def file_length(source: Source) -> Iterator[str]:
    lines = source.text.splitlines()
    if len(lines) > FILE_LINES:
        yield f"{source.path}: {len(lines)} lines"


def line_length(source: Source) -> Iterator[str]:
    """In characters: ruff counts a Chinese one as two."""
    for number, line in enumerate(source.text.splitlines(), 1):
        if len(line) > LINE:
            yield f"{source.path}:{number}: {len(line)} characters"


def functions(source: Source) -> Iterator[Function]:
    yield from (node for node in ast.walk(source.tree) if isinstance(node, Function))


def function_length(source: Source) -> Iterator[str]:
    for function in functions(source):
        length = (function.end_lineno or 0) - function.lineno + 1
        if length > FUNCTION_LINES:
            yield f"{source.path}:{function.lineno}: {function.name} has {length} lines"


def parameters(source: Source) -> Iterator[str]:
    """At most six; a command of the command line has as many as it has options."""
    for function in functions(source):
        if str(source.path).startswith("cli/commands/"):
            continue
        given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        count = len([argument for argument in given if argument.arg not in ("self", "cls")])
        if count > PARAMETERS:
            yield f"{source.path}:{function.lineno}: {function.name} takes {count} parameters"


def methods(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef):
            names = {item.name for item in node.body if isinstance(item, Function) and not item.name.startswith("_")}
            if len(names) > METHODS:
                yield f"{source.path}:{node.lineno}: {node.name} has {len(names)} public methods"


def catches_everything(source: Source) -> Iterator[int]:
    """Lines that swallow any error. What catches everything to clean up and raises again swallows nothing."""
    for node in ast.walk(source.tree):
        match node:
            case ast.ExceptHandler(type=kind, body=body):
                names = {"*"} if kind is None else {n.id for n in ast.walk(kind) if isinstance(n, ast.Name)}
                raises = isinstance(body[-1], ast.Raise) and body[-1].exc is None
                if names & {"*", "Exception", "BaseException"} and not raises:
                    yield node.lineno
            case ast.Call(func=ast.Attribute(attr="suppress") | ast.Name(id="suppress"), args=args):
                if any(isinstance(a, ast.Name) and a.id in ("Exception", "BaseException") for a in args):
                    yield node.lineno


def broad_except(source: Source) -> Iterator[str]:
    """Only at the borders where somebody else's code is called may any error be caught."""
    for line in list(catches_everything(source))[BORDERS.get(source.path, 0) :]:
        yield f"{source.path}:{line}: catches everything"


RULES: list[Callable[[Source], Iterator[str]]] = [
    layer_order,
    standin_apart,
    demo_in_cli,
    waits_in_place,
    type_checking_in_init,
    private_names,
    telling_names,
    file_length,
    line_length,
    function_length,
    parameters,
    methods,
    broad_except,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule: Callable[[Source], Iterator[str]]) -> None:
    assert sources(), "no package found"
    faults = [fault for source in sources() for fault in rule(source)]
    assert not faults, "\n".join(faults)


MANY = ", ".join("abcdefg")
RED = [
    (layer_order, "model/client.py", "from orchestra.sessions.store import Store"),
    (layer_order, "model/client.py", "def f():\n    import orchestra.api\n"),
    (layer_order, "errors.py", "from orchestra import settings"),
    (layer_order, "retrieval/web.py", "from orchestra import Orchestra"),
    (layer_order, "agents/x.py", 'import importlib\nimportlib.import_module("orchestra.gateway.app")'),
    (layer_order, "gateway/app.py", "from orchestra.cli import main"),
    (layer_order, "extras/x.py", ""),
    (layer_order, "model/client.py", "from orchestra import __version__"),
    (standin_apart, "standin/server.py", "from orchestra.settings import Settings"),
    (standin_apart, "standin/server.py", "from orchestra.model import wireless"),
    (standin_apart, "api.py", "from orchestra.standin import StandIn"),
    (demo_in_cli, "instruments/demo.py", ""),
    (waits_in_place, "sessions/store.py", "from asyncio import sleep"),
    (waits_in_place, "agents/router.py", "def f():\n    import anyio.abc\n"),
    (type_checking_in_init, "api.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import x\n"),
    (type_checking_in_init, "api.py", "import typing\nif typing.TYPE_CHECKING:\n    import x\n"),
    (private_names, "api.py", "from orchestra.model.client import _secret"),
    (telling_names, "model/utils.py", ""),
    (telling_names, "sessions/_base.py", ""),
    (file_length, "api.py", "x = 1\n" * 401),
    (line_length, "api.py", "# " + "长" * 139),
    (function_length, "api.py", "def f():\n" + "    x = 1\n" * 50),
    (parameters, "api.py", f"def f({MANY}): ..."),
    (parameters, "api.py", f"class C:\n    async def f(self, *, {MANY}): ..."),
    (parameters, "cli/main.py", f"def f({MANY}): ..."),
    (methods, "api.py", "class C:\n" + "".join(f"    def m{n}(self): ...\n" for n in range(13))),
    (broad_except, "api.py", "try:\n    f()\nexcept Exception:\n    pass\n"),
    (broad_except, "api.py", "try:\n    f()\nexcept (ValueError, BaseException) as e:\n    raise X from e\n"),
    (broad_except, "api.py", "try:\n    f()\nexcept:\n    pass\n"),
    (broad_except, "api.py", "with contextlib.suppress(Exception):\n    f()\n"),
    (broad_except, "agents/function.py", "try:\n    f()\nexcept Exception:\n    pass\n" * 2),
]


@pytest.mark.parametrize(("rule", "path", "text"), RED, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_source_is_noticed(rule: Callable[[Source], Iterator[str]], path: str, text: str) -> None:
    assert len(list(rule(Source(path, text)))) == 1


def test_every_rule_has_a_red_control() -> None:
    assert {rule for rule, _, _ in RED} == set(RULES)


GREEN = [
    (layer_order, "sessions/store.py", "import json\nfrom orchestra.model import wire\nfrom orchestra import errors"),
    (layer_order, "cli/main.py", "from orchestra import __version__"),
    (layer_order, "cli/demo.py", "from orchestra.standin import StandIn\nfrom orchestra.gateway import app"),
    (standin_apart, "standin/server.py", "from orchestra.model.wire import Line\nfrom orchestra.standin.engine import Engine"),
    (broad_except, "api.py", "try:\n    f()\nexcept BaseException:\n    g()\n    raise\n"),
    (parameters, "cli/commands/main.py", f"def f({MANY}): ..."),
]


@pytest.mark.parametrize(("rule", "path", "text"), GREEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_sound_source_passes(rule: Callable[[Source], Iterator[str]], path: str, text: str) -> None:
    assert list(rule(Source(path, text))) == []


# --- no knots: modules that import each other while they are loaded


def knots(files: list[Source]) -> list[list[str]]:
    """Cycles among the imports that are made when a module is loaded (not those inside functions)."""
    modules = {file.module for file in files}
    needs: dict[str, list[str]] = {}
    for file in files:
        found = {name if name in modules else name.rpartition(".")[0] for name, _ in imported(file, loading(file.tree))}
        needs[file.module] = sorted(found & modules - {file.module})
    cycles: list[list[str]] = []
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            cycles.append([*path[path.index(module) :], module])
        elif module not in done:
            for needed in needs[module]:
                visit(needed, [*path, module])
            done.add(module)

    for module in needs:
        visit(module, [])
    return cycles


def loading(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is loaded."""
    for child in ast.iter_child_nodes(node):
        guarded = isinstance(child, ast.If) and CHECKING in ast.unparse(child.test)
        if not guarded and not isinstance(child, Function | ast.Lambda):
            yield child
            yield from loading(child)


def test_no_import_knots() -> None:
    assert knots(sources()) == []


def test_a_knot_is_noticed() -> None:
    a = Source("model/a.py", "from orchestra.model.b import B")
    b = Source("model/b.py", "import orchestra.model.a")
    lazy = Source("model/b.py", "def f():\n    import orchestra.model.a\n")
    assert knots([a, b]) == [["orchestra.model.a", "orchestra.model.b", "orchestra.model.a"]]
    assert knots([a, lazy]) == []


# --- the README's tree is the map


def tree_in(text: str, top: str = "orchestra/") -> set[str] | None:
    """The paths below `top` that the first tree in a fenced block lists: one name a line, folders end in a slash.

    Indentation or box-drawing characters give the depth. None where there is no such tree.
    """
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        paths: set[str] = set()
        stack: list[tuple[int, str]] = []
        for line in block.splitlines():
            bare = line.lstrip(" │├└─\t")
            if not bare.strip():
                continue
            name, depth = bare.split()[0], len(line) - len(bare)
            while stack and stack[-1][0] >= depth:
                stack.pop()
            path = "".join(part for _, part in stack) + name
            if name.endswith("/"):
                stack.append((depth, name))
            elif path.startswith(top):
                paths.add(path)
        if paths:
            return paths
    return None


def files_of_the_package() -> set[str]:
    """What the tree has to list: every file; a folder's own line stands for its `__init__.py`."""
    found = {p.relative_to(ROOT).as_posix() for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    return {path for path in found if not re.fullmatch(r"orchestra/.+/__init__\.py", path)}


def test_the_readme_lists_every_file() -> None:
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("README.md is not written yet")
    listed = tree_in(readme.read_text("utf-8"))
    assert listed is not None, "README.md has no tree that begins with orchestra/"
    listed = {path for path in listed if not re.fullmatch(r"orchestra/.+/__init__\.py", path)}
    assert sorted(files_of_the_package() - listed) == [], "missing in README.md"
    assert sorted(listed - files_of_the_package()) == [], "in README.md, but not there"


@pytest.mark.parametrize("ruler", [("  ", "  "), ("├── ", "│   ")], ids=["indented", "drawn"])
def test_the_tree_is_read(ruler: tuple[str, str]) -> None:
    first, rest = ruler
    text = f"# X\n```\norchestra/   the package\n{first}api.py   the face\n{first}model/\n{rest}{first}wire.py  lines\n```\n"
    assert tree_in(text) == {"orchestra/api.py", "orchestra/model/wire.py"}
    assert tree_in("no tree") is None
