"""How a command ends: its exit code, an error as two lines or one object, a traceback only with --debug."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

from orchestra.cli import words
from orchestra.cli.terminal import ReaderGone, as_line, colourful, harmless, plain, write
from orchestra.errors import OrchestraError

CANCELLED_CODE = 130
BROKEN_PIPE_CODE = 141


class Wish(NamedTuple):
    """What was asked of the output, wherever on the line it stood."""

    json: bool = False
    stream: bool = False
    debug: bool = False
    verbose: bool = False


def wished(arguments: list[str]) -> tuple[Wish, list[str]]:
    """The wish, and the arguments without `--debug` and `-v`, which may stand anywhere before `--`."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    own, rest = arguments[:cut], arguments[cut:]
    wish = Wish(json="--json" in own, stream="--stream" in own, debug="--debug" in own, verbose="-v" in own)
    return wish, [word for word in own if word not in ("--debug", "-v")] + rest


def report(error: OrchestraError, wish: Wish) -> int:
    """Say what happened and what to do; the exit code."""
    message, hint = (" ".join(harmless(text).split()) for text in (error.message(words.LANGUAGE), error.hint(words.LANGUAGE)))
    if wish.json:
        so_far = shown(error.reply) if error.reply is not None else {}
        write(as_line({"error": {"code": error.code(), "message": message, "hint": hint}, **so_far}) + "\n")
        return error.exit_code
    label, advice = words.say("error:", "错误："), words.say("hint: ", "提示：")
    if colourful(sys.stderr):
        label = f"\x1b[1;31m{label}\x1b[0m"
        advice = f"\x1b[1m{advice}\x1b[0m"
    print(f"{label} {message}\n{advice} {hint}", file=sys.stderr)
    return error.exit_code


def shown(reply: Any) -> dict[str, Any]:
    """A `Reply` as JSON has it; what is empty and rarely asked for is left out."""
    whole: dict[str, Any] = plain(reply)
    for name in ("thinking", "logprobs", "tool_calls"):
        if not whole.get(name):
            whole.pop(name, None)
    for name in ("value", "ground"):
        if whole.get(name) is None:
            whole.pop(name, None)
    return whole


def unforeseen(wish: Wish) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    """What becomes of an error that nobody thought of: two lines as well, and with --debug the traceback."""

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if wish.debug:
            sys.__excepthook__(kind, error, trace)
        else:
            report(OrchestraError(detail=f"{kind.__name__}: {error}"), wish)

    return tell


def guarded(command: Callable[[], Any], wish: Wish) -> int:
    """Run the command line to its exit code; a traceback only with --debug."""
    try:
        code = command()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except OrchestraError as error:
        if wish.debug:
            raise
        return report(error, wish)
    except KeyboardInterrupt:
        return CANCELLED_CODE
    except (BrokenPipeError, ReaderGone):
        # whoever read our output has gone; Python would complain once more when it flushes at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE_CODE
