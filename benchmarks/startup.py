"""What it costs to start: importing the package, `--help`, `--version`, each beside a named peer in one run."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from bounds import Row, shown
from processes import Ratio, compared, python


def twin() -> str:
    """The source of a typer application with the same commands, options and help texts, and empty bodies."""
    import typer

    from orchestra.cli import app as ours

    ours.register()
    top = typer.main.get_command(ours.app)
    lines = ["import typer", "from typing import Annotated, Optional", f"app = typer.Typer(help={top.help!r}, no_args_is_help=True)"]
    callback = _parameters([p for p in top.params if p.name in ("version", "debug")])
    lines += ["@app.callback()", f"def top({callback}) -> None:", "    pass"]
    _commands(top, "app", lines)
    return "\n".join([*lines, "app()", ""])


def _commands(group: Any, name: str, lines: list[str]) -> None:
    for word, command in group.commands.items():
        if hasattr(command, "commands"):
            child = f"{name}_{word}"
            lines += [f"{child} = typer.Typer(help={command.help!r})", f"{name}.add_typer({child}, name={word!r})"]
            _commands(command, child, lines)
        else:
            body = _parameters(command.params)
            lines += [f"@{name}.command({word!r}, help={command.help!r})", f"def {name}_{word.replace('-', '_')}({body}) -> None:", "    pass"]


def _parameters(params: list[Any]) -> str:
    rows = []
    for param in params:
        if param.name in ("help", "install_completion", "show_completion"):
            continue
        annotation = getattr(param.type_descriptor, "annotation", str)
        kind = annotation.__name__ if annotation in (int, float, bool) else "str"
        if not param.opts[0].startswith("-"):
            made = f"typer.Argument(help={getattr(param, 'help', '')!r})"
        else:
            names = [*param.opts, *(f"/{other}" for other in param.secondary_opts)]
            spelled = ["".join(names)] if param.secondary_opts else names  # "--base/--instruct" is one name to typer
            made = f"typer.Option({', '.join(map(repr, spelled))}, help={getattr(param, 'help', '')!r})"
        rows.append(f"{param.name}: Annotated[Optional[{kind}], {made}] = None")
    return ", ".join(rows)


def measured() -> list[tuple[str, Ratio, float]]:
    """Name, ratio, and the bound that the project promises."""
    folder = Path(tempfile.mkdtemp(prefix="orchestra-bench-"))
    peer = folder / "twin.py"
    peer.write_text(twin(), encoding="utf-8")
    ours = str(Path(sys.executable).with_name("orchestra"))
    return [
        ("import orchestra / import typer", compared(python("import orchestra"), python("import typer")), 1.0),
        ("orchestra --help / the same typer application, empty", compared([ours, "--help"], [sys.executable, str(peer), "--help"]), 1.2),
        ("orchestra --version / bare Python", compared([ours, "--version"], python("pass")), 3.0),
    ]


def rows() -> list[Row]:
    """The same as rows to be shown."""
    return [
        Row(name, ratio.ratio, bound, spread=(ratio.low, ratio.high), detail=f"{ratio.ours * 1000:.0f} ms against {ratio.theirs * 1000:.0f} ms")
        for name, ratio, bound in measured()
    ]


if __name__ == "__main__":
    shown("start-up, CPU of whole processes, median of 15 pairs (lowest - highest)", rows())
