"""The commands and their options. Bodies import what they need: `--help` costs no more than typer itself."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer

from orchestra.cli import words
from orchestra.cli.words import say

app = typer.Typer(
    name="orchestra",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=say(
        "A local Ollama daemon, and above it a typed client, sessions, search and personas.",
        "在本地 Ollama 之上：类型化客户端、会话存储、检索增强与多角色协作。",
    ),
)


def _version(wanted: bool) -> None:
    if wanted:
        from orchestra import __version__

        print(f"orchestra {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", "-V", callback=_version, is_eager=True, help=say("the version", "版本")),
    debug: bool = typer.Option(False, "--debug", help=say("show tracebacks (anywhere on the line)", "显示完整错误信息（可放在任意位置）")),
    personas: str = typer.Option(
        "", "--personas", metavar="DIR",
        help=say("look for personas in this folder first (anywhere on the line)", "优先在该目录中查找角色（可放在任意位置）"),
    ),
) -> None:  # fmt: skip
    """Options of all commands."""
    if personas:
        _stand_for("ORCHESTRA_PERSONAS", personas, context)


def _stand_for(variable: str, value: str, context: typer.Context) -> None:
    """An option that stands for a setting's variable while the line runs: settings are read where they are needed."""
    before = os.environ.get(variable)
    os.environ[variable] = value
    context.call_on_close(lambda: os.environ.pop(variable) if before is None else os.environ.update({variable: before}))


def _first(arguments: list[str], option: str) -> list[str]:
    """The line with `option` and its value first, where the program itself takes it; it may stand anywhere before `--`."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    own, rest = arguments[:cut], arguments[cut:]
    at = next((n for n, word in enumerate(own) if word == option or word.startswith(option + "=")), None)
    if at is None:
        return arguments
    end = at + (2 if own[at] == option else 1)
    if end > len(own):  # without its value, which is then missed
        return [option]
    return [*own[at:end], *own[:at], *own[end:], *rest]


def register() -> None:
    """Each command's module holds definitions only; what it does is imported when it runs."""
    from orchestra.cli import commands

    commands.register(app)


def run() -> None:
    """Run the process's command line and exit with its code."""
    from orchestra.cli.outcome import unforeseen, wished
    from orchestra.cli.terminal import ready_streams, typed

    ready_streams()
    register()
    arguments = [typed(argument) for argument in sys.argv[1:]]
    sys.excepthook = unforeseen(wished(arguments)[0])
    sys.exit(execute(arguments))


def built() -> Any:
    """The commands as typer makes them of their definitions. To call `app` itself would have typer print tracebacks of its own."""
    from typer.main import get_command

    return get_command(app)


def execute(arguments: list[str]) -> int:
    """Run one command line in this process; its exit code."""
    from orchestra.cli.outcome import guarded, wished
    from orchestra.cli.warned import tell_warnings

    tell_warnings()
    wish, arguments = wished(arguments)
    arguments = _first(arguments, "--personas")
    if words.LANGUAGE == "zh" and (len(arguments) < 2 or {"--help", "-h"} & set(arguments)):
        from orchestra.cli.folding import fold_help

        fold_help()
    try:
        return guarded(lambda: built()(args=arguments, prog_name="orchestra", standalone_mode=False, obj=wish), wish)
    except typer.TyperException as error:
        return _misused(error, wish.json)
    except typer.Abort:
        return 130
    except typer.Exit as leaving:
        return leaving.exit_code


def _misused(error: typer.TyperException, as_json: bool) -> int:
    """A line that cannot be understood: what, and where to read how."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "orchestra"
    if not error.format_message():  # no command was given: the help has been shown
        return 2
    from orchestra.cli.usage import said

    message = said(error)
    hint = say(f"see `{path} --help`", f"请查看 `{path} --help`")
    if as_json:
        from orchestra.cli.terminal import as_line, write

        write(as_line({"error": {"code": "usage_error", "message": message, "hint": hint}}) + "\n")
    else:
        print(f"{words.say('error:', '错误：')} {message}\n{words.say('hint: ', '提示：')} {hint}", file=sys.stderr)
    return 2
