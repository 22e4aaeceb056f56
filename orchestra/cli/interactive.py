"""The interactive dialogue: a line editor with history, several lines, slash commands, Ctrl-C that keeps what was said."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from orchestra.cli import words
from orchestra.cli.answering import Dialogue, one_turn
from orchestra.cli.archive import draw, last_name, opened
from orchestra.cli.outcome import Wish, report
from orchestra.cli.terminal import harmless, tell
from orchestra.errors import OrchestraError
from orchestra.retrieval.available import line_of
from orchestra.settings import Settings

FENCE = '"""'
HELP = (
    '''/help            this list
/new [NAME]      begin another dialogue        /session NAME    go to a dialogue
/sessions        list the dialogues            /history         show this one
/fork [NAME]     go on in a copy of this one   /persona NAME    who answers (a new dialogue)
/model NAME      the model that answers        /search [WHERE]  look questions up (off: no longer)
/bye             leave (also Ctrl-D)
"""              begin and end a text of several lines; a \\ at the end of a line goes on as well''',
    '''/help            显示本列表
/new [名称]      开始新的会话                  /session 名称    切换到某个会话
/sessions        列出会话                      /history         显示当前会话
/fork [名称]     在副本中继续                  /persona 名称    由谁回答（新会话）
/model 名称      用于回答的模型                /search [哪里]   每次提问先检索（off 关闭）
/bye             离开（或按 Ctrl-D）
"""              多行文本的开始与结束；行尾的 \\ 也表示续行''',
)


class Leave(Exception):
    """The reader wants to go."""


def interact(dialogue: Dialogue, wish: Wish) -> None:
    """Ask and answer until the reader leaves. Whatever goes wrong is said, and the dialogue goes on."""
    talk = Talk(dialogue, wish)
    history = _line_editor()
    tell(words.say("Say something; /help shows the commands, /bye leaves.", "请输入内容；/help 查看命令，/bye 离开。"))
    try:
        while True:
            try:
                talk.take(_read())
            except KeyboardInterrupt:  # at the prompt: forget the line, as a shell does
                sys.stderr.write("\n")
            except OrchestraError as error:
                if wish.debug:
                    raise
                report(error, wish)
    except (Leave, EOFError):
        sys.stderr.write("\n")
    finally:
        _remember(history)


class Talk:
    """The dialogue that is open, and the commands that change which one it is."""

    def __init__(self, dialogue: Dialogue, wish: Wish) -> None:
        self._dialogue = dialogue
        self._wish = wish

    def take(self, text: str) -> None:
        """One line of the reader: a command or something to say."""
        if not text.strip():
            return
        if not text.startswith("/"):
            self._say(text)
            return
        command, _, argument = text[1:].partition(" ")
        deeds = {
            "help": self._help, "?": self._help, "new": self._new, "clear": self._new, "session": self._session,
            "sessions": self._sessions, "history": self._history, "fork": self._fork, "persona": self._persona,
            "model": self._model, "search": self._search, "bye": self._bye, "exit": self._bye, "quit": self._bye,
        }  # fmt: skip
        deed = deeds.get(command.strip().lower())
        if deed is None:
            tell(words.say(f"there is no /{command}; /help shows what there is", f"没有 /{command}；/help 查看可用命令"))
        else:
            deed(argument.strip())

    def _say(self, text: str) -> None:
        try:
            name = asyncio.run(one_turn(text, self._dialogue, self._wish))
        except KeyboardInterrupt:  # while answering: what was said is kept, the prompt comes back
            self._dialogue = replace(self._dialogue, last=not self._dialogue.session)
            return
        self._dialogue = replace(self._dialogue, session=name, last=False)

    def _help(self, argument: str) -> None:
        tell(words.say(*HELP))

    def _new(self, argument: str) -> None:
        self._dialogue = replace(self._dialogue, session=argument, last=False)

    def _session(self, argument: str) -> None:
        with opened() as store:
            found = store.session(argument)
        self._dialogue = replace(self._dialogue, session=found.name, last=False, persona="")
        self._history("")

    def _sessions(self, argument: str) -> None:
        with opened() as store:
            for record in store.sessions():
                print(harmless(f"{record.name:32} {record.turns:4}  {record.first}"))

    def _history(self, argument: str) -> None:
        with opened() as store:
            if self._dialogue.session:
                draw(store, store.session(self._dialogue.session))

    def _fork(self, argument: str) -> None:
        with opened() as store:
            record = store.fork(self._dialogue.session or last_name(store), argument or None)
        self._dialogue = replace(self._dialogue, session=record.name, last=False)
        tell(words.say(f"session: {record.name}", f"会话：{record.name}"))

    def _persona(self, argument: str) -> None:
        from orchestra.agents.personas import Library
        from orchestra.agents.router import AUTO

        if argument != AUTO:
            Library.of(Settings.read()).persona(argument)
        self._dialogue = replace(self._dialogue, session="", last=False, persona=argument)

    def _model(self, argument: str) -> None:
        self._dialogue = replace(self._dialogue, model=argument)

    def _search(self, argument: str) -> None:
        where = argument.lower() or "any"
        lookup = self._dialogue.lookup.copy()
        if where == "off":
            lookup.pop("search", None)
            lookup.pop("knowledge", None)
        else:
            line_of(Settings.read(), "" if where == "any" else where)  # what cannot be asked is said now
            lookup["search"] = where
        self._dialogue = replace(self._dialogue, lookup=lookup)
        tell(words.say("questions are looked up", "提问时将先检索") if lookup else words.say("questions are not looked up", "提问时不检索"))

    def _bye(self, argument: str) -> None:
        raise Leave


def _read() -> str:
    """One message: a line, lines ended by a backslash, or everything between two lines of three quotes."""
    lines = [input(">>> ")]
    if lines[0].strip().startswith(FENCE):
        lines[0] = lines[0].strip().removeprefix(FENCE)
        while FENCE not in lines[-1]:
            lines.append(input("... "))
        lines[-1] = lines[-1].partition(FENCE)[0]
        return "\n".join(lines).strip("\n")
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(input("... "))
    return "\n".join(lines)


def _line_editor() -> Path | None:
    """Editing and history, where the system has a line editor; the file of the history."""
    try:
        import readline
    except ImportError:
        return None
    path = Settings.read().folder() / "history"
    with suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(1000)
    return path


def _remember(path: Path | None) -> None:
    if path is None:
        return
    import readline

    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        readline.write_history_file(path)
        path.chmod(0o600)
