"""Examples to copy, in the languages that people call a gateway from: the lesson's routes first, then each protocol.

Tests run every curl, Python and JavaScript one against a gateway; those in Java are after Spring AI's documentation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from orchestra.texts import Words

QUESTION = Words("Is consent enough to process health data?", "违约金过高可以调整吗？")
TASK = Words("Draw up a standard for compliant AI", "制定人工智能合规标准，避免人工智能伤害人类")
LOOKED_UP = Words("What is the capital of France?", "法国的首都是哪里？")
SESSION = "contract"
KEY = "ORCHESTRA_TOKEN"


class Example(NamedTuple):
    """A piece of code, and what it is written in."""

    language: str
    code: str


class Section(NamedTuple):
    """Examples of one way to ask; `path` is the route that it stands on."""

    path: str
    title: Words
    note: Words
    examples: Sequence[Example]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """For whom examples are: the `address` he has reached, whether a key is asked for, the `model` to begin with, his language."""

    address: str
    keyed: bool
    model: str
    language: str

    def sections(self) -> list[Section]:
        """All of them, the lesson's first."""
        return [
            Section("/chat", Words("One expert", "一位专家"), Words(
                "`persona` names who answers, `session` a dialogue that is kept; both may be left out.",
                "`persona` 指定由谁回答，`session` 指定要保存的对话；两者都可省略。",
            ), self._lesson("/chat", {"intent": QUESTION.text(self.language), "session": SESSION})),
            Section("/integrate", Words("A task for several experts", "多位专家的任务"), Words(
                "The coordinator asks its experts and makes one answer of theirs; `steps` has what each was asked and said.",
                "协调者询问各位专家并汇成一份回答；`steps` 列出每次询问与回答。",
            ), self._lesson("/integrate", {"task": TASK.text(self.language)})),
            Section("/v1/chat/completions", Words("Any client of the OpenAI protocol", "任何 OpenAI 协议的客户端"), Words(
                "Open WebUI, SDKs, Spring AI. `GET /v1/models` lists who can be asked.",
                "Open WebUI、各种 SDK、Spring AI。`GET /v1/models` 列出可用的模型。",
            ), self._openai()),
            Section("/api/chat", Words("Any client of Ollama", "任何 Ollama 客户端"), Words(
                f"`OLLAMA_HOST={self.address} ollama run {self.model}`", f"`OLLAMA_HOST={self.address} ollama run {self.model}`"
            ) if not self.keyed else Words(
                "The `ollama` command sends no key; its Python package does.", "`ollama` 命令不发送令牌；其 Python 包可以。"
            ), self._ollama()),
            Section("/ask", Words("An answer with its sources", "带来源的回答"), Words(
                "`search` names where to look: `offline` asks nobody; left out, a search service on the web sees the question.",
                "`search` 指定检索来源：`offline` 不访问网络；省略时问题会发送到网络搜索服务。",
            ), [self._curl("/ask", {"question": LOOKED_UP.text(self.language), "search": "offline"})]),
            Section("/sessions", Words("Dialogues that are kept", "保存的对话"), Words(
                "Yours alone: a session belongs to the key with which it was begun.", "只属于你：会话属于创建它时所用的令牌。",
            ), [self._curl("/sessions"), self._curl(f"/sessions/{SESSION}"), self._curl(f"/sessions/{SESSION}/export?format=md")]),
        ]  # fmt: skip

    @property
    def messages(self) -> list[dict[str, str]]:
        """A dialogue that has just begun."""
        return [{"role": "user", "content": QUESTION.text(self.language)}]

    def _curl(self, path: str, body: Mapping[str, object] | None = None) -> Example:
        url = self.address + path
        lines = [f"curl -X POST {url}" if body else f"curl '{url}'" if "?" in path else f"curl {url}"]
        if self.keyed:
            lines.append(f'-H "Authorization: Bearer ${KEY}"')
        if body:
            lines += ['-H "Content-Type: application/json"', f"-d '{_json(body)}'"]
        return Example("curl", " \\\n  ".join(lines))

    def _lesson(self, path: str, body: Mapping[str, object]) -> list[Example]:
        key = f', "Authorization": f"Bearer {{os.environ[\'{KEY}\']}}"' if self.keyed else ""
        python = f"""\
{self._import_os}import json
import urllib.request

request = urllib.request.Request(
    "{self.address}{path}",
    data=json.dumps({_json(body)}).encode(),
    headers={{"Content-Type": "application/json"{key}}},
)
with urllib.request.urlopen(request) as answer:
    print(json.load(answer)["response"])"""
        script = f"""\
const answer = await fetch("{self.address}{path}", {{
  method: "POST",
  headers: {{ "Content-Type": "application/json"{self._script_key} }},
  body: JSON.stringify({_json(body)}),
}});
console.log((await answer.json()).response);"""
        return [self._curl(path, body), Example("Python", python), Example("JavaScript", script)]

    def _openai(self) -> list[Example]:
        asked = {"model": self.model, "messages": self.messages}
        return [self._curl("/v1/chat/completions", asked), self._openai_python(), self._openai_java(), self._openai_script()]

    def _openai_python(self) -> Example:
        key = f'os.environ["{KEY}"]' if self.keyed else '"none"'
        python = f"""\
{self._import_os}from openai import OpenAI

client = OpenAI(base_url="{self.address}/v1", api_key={key})
stream = client.chat.completions.create(
    model="{self.model}",
    messages={_json(self.messages)},
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)"""
        return Example("Python", python)

    def _openai_script(self) -> Example:
        script = f"""\
const answer = await fetch("{self.address}/v1/chat/completions", {{
  method: "POST",
  headers: {{ "Content-Type": "application/json"{self._script_key} }},
  body: JSON.stringify({{ model: "{self.model}", stream: true, messages: {_json(self.messages)} }}),
}});
let rest = "";
for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {{
  const events = (rest + text).split("\\n\\n");
  rest = events.pop();
  for (const event of events) {{
    if (!event.startsWith("data: {{")) continue; // a comment keeps the connection; [DONE] ends it
    const {{ choices, error }} = JSON.parse(event.slice(6));
    if (error) throw new Error(error.message);
    process.stdout.write(choices?.[0]?.delta?.content ?? "");
  }}
}}"""
        return Example("JavaScript", script)

    def _openai_java(self) -> Example:
        java = f"""\
// application.properties (Spring AI 2; for 1.x the base-url is without /v1), spring-ai-starter-model-openai
// spring.ai.openai.base-url={self.address}/v1
// spring.ai.openai.api-key={f"${{{KEY}}}" if self.keyed else "none"}
// spring.ai.openai.chat.options.model={self.model}
@RestController
class Asking {{
    private final ChatClient client;

    Asking(ChatClient.Builder builder) {{
        this.client = builder.build();
    }}

    @GetMapping(value = "/ask", produces = MediaType.TEXT_EVENT_STREAM_VALUE)
    Flux<String> ask(@RequestParam String question) {{
        return client.prompt().user(question).stream().content();
    }}
}}"""
        return Example("Java (Spring AI)", java)

    def _ollama(self) -> list[Example]:
        key = f', headers={{"Authorization": f"Bearer {{os.environ[\'{KEY}\']}}"}}' if self.keyed else ""
        python = f"""\
{self._import_os}from ollama import Client

client = Client(host="{self.address}"{key})
for part in client.chat(model="{self.model}", messages={_json(self.messages)}, stream=True):
    print(part.message.content, end="", flush=True)"""
        asked = {"model": self.model, "stream": False, "messages": self.messages}
        return [self._curl("/api/chat", asked), Example("Python", python)]

    @property
    def _import_os(self) -> str:
        return "import os\n" if self.keyed else ""

    @property
    def _script_key(self) -> str:
        return f", Authorization: `Bearer ${{process.env.{KEY}}}`" if self.keyed else ""


def _json(value: object) -> str:
    """A value as JSON, which Python and JavaScript read as well; none of ours holds an apostrophe, which a shell would not."""
    return json.dumps(value, ensure_ascii=False)
