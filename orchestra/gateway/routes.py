"""What each route is for, in a line, and the shape of its errors: for the page and the description of the gateway."""

from __future__ import annotations

from typing import Any

from orchestra.agents.remote import MAX_TOKENS, MOST_TOKENS
from orchestra.texts import Words


def _parameter(place: str, name: str, schema: dict[str, Any], purpose: str) -> dict[str, Any]:
    return {"in": place, "name": name, "required": False, "schema": schema, "description": purpose}


def _passed(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"model": {"type": "string"}, name: schema}, "required": ["model", name]}


PURPOSES = {
    "/chat": Words("A question to one expert, as in the lesson.", "向一位专家提问，与课程相同。"),
    "/integrate": Words("A task for the coordinator and its experts, as in the lesson.", "把任务交给协调者及其专家，与课程相同。"),
    "/persona": Words("Who answers here.", "这里由谁回答。"),
    "/healthz": Words("Whether the process runs; needs no key.", "进程是否在运行；不需要令牌。"),
    "/readyz": Words("Whether the daemon answers, and with which model.", "Ollama 是否应答，使用哪个模型。"),
    "/ask": Words("An answer from what is looked up, with its sources and checked citations.", "根据检索结果回答，附来源与核对过的引用。"),
    "/search": Words("Web search in the shape that Open WebUI asks an external engine.", "网络搜索，格式与 Open WebUI 的外部搜索引擎一致。"),
    "/knowledge/search": Words("Parts of the documents in a knowledge base.", "在知识库中查找文档片段。"),
    "/sessions": Words("The dialogues that are kept, the newest first.", "保存的对话，最近的在前。"),
    "/sessions/{name}": Words("One dialogue with all that was said; DELETE removes it.", "一个会话的全部内容；DELETE 将其删除。"),
    "/sessions/{name}/export": Words("One dialogue as a file: `format` is jsonl or md.", "把会话导出为文件：`format` 为 jsonl 或 md。"),
    "/sessions/{name}/fork": Words("A copy of a dialogue, from its beginning to a turn.", "复制会话，从开头到某一轮。"),
    "/v1/models": Words("Everybody who can be asked, as models.", "以模型形式列出所有可提问的对象。"),
    "/v1/models/{name}": Words("One of them.", "其中之一。"),
    "/v1/chat/completions": Words("A dialogue goes on, streamed or not.", "继续对话，可流式输出。"),
    "/v1/completions": Words("A text goes on, by a model of the daemon's own.", "由 Ollama 自己的模型续写文本。"),
    "/v1/embeddings": Words("Texts as vectors, by a model of the daemon's own.", "由 Ollama 自己的模型把文本变为向量。"),
    "/": Words("What Ollama's clients look for first.", "Ollama 客户端首先查看的内容。"),
    "/api/version": Words("The daemon's version.", "Ollama 的版本。"),
    "/api/tags": Words("Everybody who can be asked, as Ollama lists models.", "按 Ollama 的格式列出所有可提问的对象。"),
    "/api/ps": Words("What is in memory.", "已加载到内存的模型。"),
    "/api/show": Words("What is known of a model.", "一个模型的信息。"),
    "/api/chat": Words("A dialogue goes on, in Ollama's protocol.", "以 Ollama 协议继续对话。"),
    "/api/generate": Words("A prompt is answered, in Ollama's protocol.", "以 Ollama 协议回答提示词。"),
    "/api/embed": Words("Texts as vectors, by a model of the daemon's own.", "由 Ollama 自己的模型把文本变为向量。"),
    "/api/embeddings": Words("The same, as older clients ask for it.", "同上，供旧版客户端使用。"),
    "/api/pull": Words("For clients that pull before they ask: says whether a model is here.", "供先拉取再提问的客户端使用：说明模型是否已在此处。"),
}
_TEXT = {"type": "string"}
# what is answered beside JSON, or in its place
ANSWERS = {
    "/": ("text/plain",),
    "/sessions/{name}/export": ("application/jsonl", "text/markdown"),
    "/v1/chat/completions": ("application/json", "text/event-stream"),
    "/v1/completions": ("application/json", "text/event-stream"),
    "/api/chat": ("application/json", "application/x-ndjson"),
    "/api/generate": ("application/json", "application/x-ndjson"),
    "/api/pull": ("application/json", "application/x-ndjson"),
}
# bodies that are passed on: what else is in them is the daemon's affair
BODIES = {
    "/v1/completions": _passed("prompt", _TEXT),
    "/v1/embeddings": _passed("input", {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}),
}
# what is read beside the body
PARAMETERS = {
    "/chat": [_parameter("header", MAX_TOKENS, {"type": "integer", "minimum": 1, "maximum": MOST_TOKENS}, "the longest answer"),
              _parameter("header", "Idempotency-Key", _TEXT, "the same key, the same turn: sent twice it is asked once")],
    "/sessions/{name}/export": [_parameter("query", "format", {"enum": ["jsonl", "md"], "default": "jsonl"}, "the form of the file")],
}  # fmt: skip
_OWN = {"code": _TEXT, "message": _TEXT, "hint": _TEXT}
_OPENAI = {"message": _TEXT, "type": _TEXT, "code": {"type": ["string", "null"]}, "param": {"type": ["string", "null"]}}


def described_error(path: str) -> dict[str, Any]:
    """An error of a route, in its protocol's shape."""
    fields = _OPENAI if path.startswith("/v1/") else _OWN
    error = _TEXT if path.startswith("/api/") else {"type": "object", "properties": fields, "required": [*fields]}
    schema = {"type": "object", "properties": {"error": error}, "required": ["error"]}
    return {"description": "what is wrong", "content": {"application/json": {"schema": schema}}}
