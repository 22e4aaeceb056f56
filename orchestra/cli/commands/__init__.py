"""The commands, one module for each part of the house; their bodies import what they need when they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from orchestra.cli.words import say

Commands = dict[str, tuple[Callable[..., Any], str]]


def register(app: typer.Typer) -> None:
    """Put every command on the line, in the order of the help."""
    from orchestra.cli.commands import (
        answering,
        decoding,
        demo,
        doctor,
        measuring,
        models,
        seeing,
        serving,
        together,
        tokens,
    )

    _add(app, {
        "demo": (demo.demo, say("What Orchestra makes of a bare daemon, in a few scenes.", "用几幕演示 Orchestra 的作用。")),
        "doctor": (doctor.doctor, say("What works here, and for what does not, what fixes it.", "检查环境，并给出修复方法。")),
        "generate": (answering.generate, say("One completion. A base model (llama3:text) gets the text as it is.", "续写文本；基础模型直接续写原文。")),
        "chat": (answering.chat, say("A dialogue that is kept: with MESSAGE one turn, else interactive.", "会保存的对话：给出消息为一轮，否则为交互式。")),
        "ask": (together.ask, say("An answer from what was looked up, with its sources.", "根据检索到的资料回答，并列出来源。")),
        "route": (together.route, say("Which persona would answer, and why.", "查看由哪个角色回答，以及原因。")),
        "integrate": (together.integrate, say("A task for several experts, one answer.", "由多位专家完成一项任务，汇成一个回答。")),
        "serve": (serving.serve, say("Everybody over HTTP, for clients you already use: port 5002.", "以 HTTP 提供全部功能，供现有客户端使用：端口 5002。")),
        "next": (decoding.next_, say("How likely each next token is, step by step.", "逐步查看下一个 token 的概率。")),
        "decode": (decoding.decode, say("Greedy, sampling and beam search side by side.", "并列比较贪心、采样与束搜索。")),
        "render": (seeing.render, say("The exact text that the model would see, part by part.", "查看模型实际读到的全文，逐段列出。")),
        "compare": (seeing.compare, say("The same prompts on several models, side by side.", "用相同的提示词并列比较多个模型。")),
        "bench": (measuring.bench, say("How fast models answer, here and elsewhere.", "测量模型的回答速度，可含其他服务。")),
        "tokens": (tokens.tokens, say("How a model cuts a text: pieces, ids, bytes.", "查看模型如何切分文本：片段、编号与字节。")),
        "models": (models.models, say("The installed models.", "列出已安装的模型。")),
        "show": (models.show, say("What matters of a model.", "显示一个模型的主要信息。")),
        "pull": (models.pull, say("Bring a model in. What was interrupted goes on where it stopped.", "下载模型；中断后会从中断处继续。")),
        "standin": (models.standin, say("Run a stand-in daemon in the foreground: the protocol, no model.", "在前台运行替身服务：只有协议，没有模型。")),
    })  # fmt: skip
    _kept(app)
    _who(app)


def _kept(app: typer.Typer) -> None:
    from orchestra.cli.commands import knowledge, sessions

    stored = typer.Typer(no_args_is_help=True)
    _add(stored, {
        "list": (sessions.list_, say("All dialogues, newest first.", "列出所有会话，最近的在前。")),
        "show": (sessions.show, say("What was said in one.", "显示一个会话的内容。")),
        "search": (sessions.search, say("Find what was said.", "查找说过的内容。")),
        "fork": (sessions.fork, say("Go on in a copy that shares the past.", "分叉：在共享历史的副本中继续。")),
        "rename": (sessions.rename, say("Give one another name.", "重命名会话。")),
        "export": (sessions.export, say("Write one out, as JSON lines or Markdown.", "导出会话（JSON 行或 Markdown）。")),
        "import": (sessions.import_, say("Bring an exported one back.", "导入已导出的会话。")),
        "backup": (sessions.backup, say("Copy the whole store into one file.", "将整个存储备份到一个文件。")),
        "delete": (sessions.delete, say("Remove dialogues.", "删除会话。")),
    })  # fmt: skip
    app.add_typer(stored, name="sessions", help=say("The dialogues that are kept.", "管理保存的会话。"))
    documents = typer.Typer(no_args_is_help=True)
    _add(documents, {
        "add": (knowledge.add, say("Take files and folders in: what changed goes in, what is gone goes out.", "收录文件与目录：更新有变化的，移除已删除的。")),
        "list": (knowledge.list_, say("All knowledge bases.", "列出所有知识库。")),
        "search": (knowledge.search, say("Find the parts of documents that fit.", "查找文档中相关的部分。")),
        "remove": (knowledge.remove, say("Take documents, or a whole knowledge base, out.", "移除文档或整个知识库。")),
    })  # fmt: skip
    app.add_typer(documents, name="knowledge", help=say("Local documents that are searched.", "管理可检索的本地文档。"))


def _who(app: typer.Typer) -> None:
    from orchestra.cli.commands import personas

    who = typer.Typer(no_args_is_help=True)
    _add(who, {
        "list": (personas.list_, say("Everybody who can answer.", "列出所有角色。")),
        "show": (personas.show, say("One persona with its seed memory.", "显示一个角色及其种子记忆。")),
        "new": (personas.new, say("Begin a persona of your own: a file to fill in.", "新建角色：生成一个待填写的文件。")),
        "check": (personas.check, say("Whether persona files are sound.", "检查角色文件是否正确。")),
        "test": (personas.drift, say("How firm one is, over a long dialogue that presses on it.", "在长对话的压力下测量一个角色的稳固程度。")),
        "install": (personas.install, say("Make models of personas, for plain `ollama run`.", "将角色安装为模型，可直接 `ollama run`。")),
        "uninstall": (personas.uninstall, say("Remove models that `install` made.", "移除 `install` 创建的模型。")),
    })  # fmt: skip
    app.add_typer(who, name="personas", help=say("Who answers.", "管理回答者（角色）。"))


def _add(app: typer.Typer, commands: Commands) -> None:
    for name, (command, about) in commands.items():
        app.command(name, help=about)(command)
