"""Options that several commands share, and what becomes of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from orchestra.cli.words import say

Model = Annotated[str, typer.Option("--model", "-m", help=say("the model that answers", "用于回答的模型"))]
Json = Annotated[bool, typer.Option("--json", help=say("print one JSON object", "输出一个 JSON 对象"))]
Stream = Annotated[
    bool,
    typer.Option("--stream", help=say("with --json: one object a line, as it comes", "配合 --json：逐行输出对象")),
]
MaxTokens = Annotated[
    int | None,
    typer.Option("--max-tokens", "-n", min=1, max=1_000_000, help=say("longest answer in tokens", "回答的最大 token 数")),
]
Temperature = Annotated[
    float | None,
    typer.Option("--temperature", "-t", min=0, max=5, help=say("0 = always the likeliest token", "0 表示总选概率最大的 token")),
]
TopP = Annotated[
    float | None,
    typer.Option("--top-p", min=0, max=1, help=say("share of the probability to draw from", "采样的累积概率")),
]
TopK = Annotated[
    int | None,
    typer.Option("--top-k", min=0, max=100_000, help=say("number of tokens to draw from", "采样的候选数")),
]
Seed = Annotated[int | None, typer.Option("--seed", help=say("the same seed gives the same text", "相同的种子得到相同的文本"))]
Stop = Annotated[
    list[str] | None,
    typer.Option("--stop", help=say("end before this text (may be given again)", "遇到该文本时停止（可多次使用）")),
]
RepeatPenalty = Annotated[
    float | None,
    typer.Option("--repeat-penalty", min=0.01, max=5, help=say("penalty on repeated tokens", "重复惩罚")),
]
Window = Annotated[
    int | None,
    typer.Option("--window", min=16, max=10_000_000, help=say("load the model with this context window", "以该上下文窗口加载模型")),
]
Deadline = Annotated[float | None, typer.Option("--deadline", min=0.1, help=say("longest time in seconds", "最长时间（秒）"))]
Schema = Annotated[
    str,
    typer.Option("--schema", metavar="FILE", help=say("answer as JSON that fits this JSON Schema", "按该 JSON Schema 以 JSON 回答")),
]
Think = Annotated[
    bool | None,
    typer.Option("--think/--no-think", help=say("let a thinking model think, or not", "是否让思考型模型先思考")),
]
Lang = Annotated[
    Literal["zh", "en"] | None,
    typer.Option("--lang", help=say("language of the answer; without it, the question's", "回答的语言；省略则与问题相同")),
]
OnRepetition = Annotated[
    Literal["stop", "skip", "ignore"] | None,
    typer.Option(
        "--on-repetition",
        help=say("what becomes of a loop: stop, skip (cut, go on once), ignore", "出现重复时：stop 停止，skip 剪去后继续一次，ignore 不处理"),
    ),
]
Base = Annotated[
    bool | None,
    typer.Option("--base/--instruct", help=say("treat the model as base or instruct", "按基础模型或指令模型处理")),
]
Expert = Annotated[
    list[str] | None,
    typer.Option(
        "--expert",
        metavar="NAME|NAME=URL|URL",
        help=say("whom to ask: a persona, or a service at an address (or several)", "要询问的专家：角色，或某地址上的服务（可多次）"),
    ),
]
ExpertDescription = Annotated[
    list[str] | None,
    typer.Option(
        "--expert-description",
        metavar="NAME=TEXT",
        help=say("what a service is for that does not say it itself (or several)", "说明自身未作介绍的服务有何用途（可多次）"),
    ),
]
Persona = Annotated[
    str,
    typer.Option(
        "--persona",
        "-p",
        help=say("who answers (`orchestra personas list`; auto: whoever fits)", "由谁回答（`orchestra personas list`；auto：自动选择）"),
    ),
]

Knowledge = Annotated[
    list[str] | None,
    typer.Option("--knowledge", metavar="NAME", help=say("a knowledge base to look into (or several)", "要查找的知识库（可多次）")),
]
Provider = Annotated[
    str,
    typer.Option(
        "--provider",
        metavar="NAME",
        help=say("with --search: which services, in order, or offline", "配合 --search：依次使用的搜索服务，或 offline"),
    ),
]
Trace = Annotated[bool, typer.Option("--trace", help=say("say what is looked up as it happens", "实时显示查找过程"))]


def looked_up(*, search: bool, provider: str, knowledge: list[str] | None) -> Any:
    """What a dialogue looks its questions up in, as `Orchestra.session` takes it; empty where it looks up nothing."""
    found: dict[str, Any] = {}
    if search or provider:
        # beside knowledge no name would mean knowledge alone
        found["search"] = provider or "any"
    if knowledge:
        found["knowledge"] = knowledge
    return found


def unused(context: typer.Context, name: str, others: Sequence[str]) -> None:
    """Raises `UsageError` where one of the `others` was given, which beside the option `name` would be ignored."""
    from orchestra.errors import UsageError

    sources = {each: context.get_parameter_source(each.replace("-", "_")) for each in others}
    given = [f"--{each}" for each, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given:
        both = ", ".join(given)
        raise UsageError(
            detail=f"{both} does nothing beside --{name}", detail_zh=f"使用 --{name} 时，{both} 不起作用",
            fix="leave out one of them", fix_zh="请去掉其中一个",
        )  # fmt: skip


def descriptions(written: list[str] | None) -> dict[str, str]:
    """What `--expert-description NAME=TEXT` says, by name or address. Raises `UsageError`."""
    from orchestra.errors import UsageError

    said: dict[str, str] = {}
    for each in written or ():
        name, _, text = each.partition("=")
        if not name.strip() or not text.strip():
            raise UsageError(
                detail=f"{each!r} describes nobody", detail_zh=f"{each!r} 没有描述任何专家",
                fix='write it as NAME=TEXT, for example --expert-description "carrier=knows where parcels are"',
                fix_zh='请写成 名称=文本，例如 --expert-description "carrier=了解包裹位置"',
            )  # fmt: skip
        said[name.strip()] = " ".join(text.split())
    return said


def given(**fields: Any) -> Any:
    """`Options` from what was given; `window` becomes `num_ctx`, `lang` the language, and the schema is read."""
    from orchestra.model.messages import Options

    fields["num_ctx"] = fields.pop("window", None)
    fields["language"] = fields.pop("lang", None)
    if path := fields.pop("schema", ""):
        fields["schema"] = schema_in(path)
    if stop := fields.pop("stop", None):
        fields["stop"] = tuple(stop)
    return Options(**{name: value for name, value in fields.items() if value is not None})


def schema_in(path: str) -> dict[str, Any]:
    """The JSON Schema in a file. Raises `UsageError` where there is none."""
    import json

    from orchestra.errors import UsageError
    from orchestra.errors.system import why
    from orchestra.texts import Words

    try:
        found = json.loads(Path(path).read_text("utf-8-sig"))
        problem = Words("a schema is a JSON object", "schema 应为 JSON 对象")
    except OSError as error:
        found, problem = None, why(error)
    except ValueError as error:
        found, problem = None, Words(str(error), str(error))
    if not isinstance(found, dict):
        raise UsageError(
            detail=f"{path} is no JSON Schema: {problem.en}",
            detail_zh=f"{path} 不是 JSON Schema：{problem.zh}",
            fix='give a file like {"type": "object", "properties": {"name": {"type": "string"}}}',
            fix_zh='请给出如下内容的文件：{"type": "object", "properties": {"name": {"type": "string"}}}',
        )
    return found


def text_of(argument: str) -> str:
    """The argument, or standard input for `-`; input that is no UTF-8 is an error that says where."""
    if argument != "-":
        return argument
    from orchestra.errors import UsageError

    raw = sys.stdin.buffer.read()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            detail=f"standard input is not UTF-8 (byte {error.start})",
            detail_zh=f"标准输入不是 UTF-8（第 {error.start} 字节）",
            fix="convert it first, for example: iconv -f GB18030 -t UTF-8 FILE | orchestra ...",
            fix_zh="请先转换编码，例如：iconv -f GB18030 -t UTF-8 文件 | orchestra ...",
        ) from None
