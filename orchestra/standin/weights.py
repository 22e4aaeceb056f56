"""The models that the stand-in can pretend to have, with the numbers that a daemon tells about them.

The figures are those of the small models whose answers were recorded, so that `/api/show`, `/api/tags` and
`/api/ps` have true shapes. A model is weights (one blob), and the few texts that are put on top of them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestra.errors import StandInFault
from orchestra.standin.encoding import compact
from orchestra.standin.names import Name, parse
from orchestra.standin.template import PLAIN

LLAMA3_TEMPLATE = (
    "{{ if .System }}<|start_header_id|>system<|end_header_id|>\n\n{{ .System }}<|eot_id|>{{ end }}"
    "{{ if .Prompt }}<|start_header_id|>user<|end_header_id|>\n\n{{ .Prompt }}<|eot_id|>{{ end }}"
    "<|start_header_id|>assistant<|end_header_id|>\n\n{{ .Response }}<|eot_id|>"
)
TOOLS_TEMPLATE = (
    "{{- if or .System .Tools }}<|start_header_id|>system<|end_header_id|>\n\n{{ .System }}{{ if .Tools }}\n\n"
    'To call tools, write a list and nothing else: [{"name": ..., "parameters": {...}}]\n{{ range .Tools }}\n{{ . }}'
    "{{ end }}{{ end }}<|eot_id|>{{ end }}"
    '{{- range .Messages }}{{ if eq .Role "user" }}<|start_header_id|>user<|end_header_id|>\n\n{{ .Content }}<|eot_id|>{{ end }}'
    '{{- if eq .Role "assistant" }}<|start_header_id|>assistant<|end_header_id|>\n\n{{ .Content }}{{ if .ToolCalls }}'
    '[{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "parameters": {{ .Function.Arguments }}}{{ end }}]{{ end }}<|eot_id|>{{ end }}'
    '{{- if eq .Role "tool" }}<|start_header_id|>ipython<|end_header_id|>\n\n{{ .Content }}<|eot_id|>{{ end }}'
    "{{- end }}<|start_header_id|>assistant<|end_header_id|>\n\n"
)
NATIVE_TEMPLATE = (
    "{%- for m in messages -%}{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + "
    "(m['content'] | trim) + '<|eot_id|>' -}}{%- endfor -%}{%- if add_generation_prompt -%}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}"
)
LLAMA3_PARAMETERS: Mapping[str, Any] = {
    "num_keep": 24,
    "stop": ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
}


@dataclass(frozen=True, slots=True)
class Weights:
    """What one GGUF file says of itself.

    `says`: the one word that it always says; `thinks`: it thinks before it answers, and the daemon tells the two apart;
    `tags`: it thinks too, and the daemon does not know it.
    """

    blob: str
    size: int = 2_772_305
    parameters: int = 1_377_536
    parameter_size: str = "1.38M"
    context: int = 8192
    embedding: int = 256
    layers: int = 2
    feed_forward: int = 512
    pooling: bool = False
    says: str = ""
    thinks: bool = False
    tags: bool = False
    quantization: str = "F16"

    def quantized(self, quantization: str) -> Weights:
        """The same with smaller numbers: another blob."""
        return replace(self, blob=digest(self.blob + quantization), size=self.size * 5 // 8, quantization=quantization)

    def info(self, vocabulary: Mapping[str, Any]) -> dict[str, Any]:
        """`model_info` of `/api/show`; `vocabulary` holds its three long lists, or None for each."""
        pooling = {"llama.pooling_type": 1} if self.pooling else {}
        return {
            "general.architecture": "llama",
            "general.file_type": 1,
            "general.parameter_count": self.parameters,
            "general.quantization_version": 2,
            "llama.attention.head_count": 8,
            "llama.attention.head_count_kv": 2,
            "llama.attention.layer_norm_rms_epsilon": 1e-5,
            "llama.block_count": self.layers,
            "llama.context_length": self.context,
            "llama.embedding_length": self.embedding,
            "llama.feed_forward_length": self.feed_forward,
            **pooling,
            "llama.rope.dimension_count": self.embedding // 8,
            "llama.rope.freq_base": 500000,
            "llama.vocab_size": 512,
            "tokenizer.ggml.add_bos_token": True,
            "tokenizer.ggml.bos_token_id": 0,
            "tokenizer.ggml.eos_token_id": 1,
            "tokenizer.ggml.eot_token_id": 4,
            "tokenizer.ggml.merges": vocabulary["merges"],
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "llama-bpe",
            "tokenizer.ggml.token_type": vocabulary["kinds"],
            "tokenizer.ggml.tokens": vocabulary["tokens"],
        }

    def tensors(self) -> list[dict[str, Any]]:
        """`tensors` of `/api/show`."""
        wide, ff, kv = self.embedding, self.feed_forward, self.embedding // 4
        shapes: list[tuple[str, list[int]]] = [
            ("output.weight", [wide, 512]),
            ("output_norm.weight", [wide]),
            ("token_embd.weight", [wide, 512]),
        ]
        for layer in range(self.layers):
            block = [
                ("attn_k", [wide, kv]), ("attn_norm", [wide]), ("attn_output", [wide, wide]),
                ("attn_q", [wide, wide]), ("attn_v", [wide, kv]), ("ffn_down", [ff, wide]),
                ("ffn_gate", [wide, ff]), ("ffn_norm", [wide]), ("ffn_up", [wide, ff]),
            ]  # fmt: skip
            shapes += [(f"blk.{layer}.{name}.weight", shape) for name, shape in block]
        return [{"name": n, "type": "F32" if len(shape) == 1 else "F16", "shape": shape} for n, shape in shapes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Weights under a name. `template` None: the chat template inside the GGUF is used (the native path)."""

    name: Name
    weights: Weights
    template: str | None = None
    system: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Mapping[str, str], ...] = ()
    licenses: tuple[str, ...] = ()
    parent: str = ""
    modified: int = field(default_factory=time.time_ns)

    @property
    def layers(self) -> list[tuple[str, int]]:
        """Digest and size of all that the model consists of, in the order of its manifest."""
        texts = []
        if self.template is not None:
            texts.append(self.template)
        if self.system:
            texts.append(self.system)
        texts += self.licenses
        if self.parameters:
            texts.append(compact(dict(sorted(self.parameters.items()))) + "\n")
        if self.messages:
            texts.append(compact([dict(m) for m in self.messages]) + "\n")
        return [(self.weights.blob, self.weights.size), *((digest(text), len(text.encode())) for text in texts)]

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(size for _, size in self.layers)

    @property
    def digest(self) -> str:
        """The model's id: the digest of its manifest."""
        return digest(compact(self.layers))

    @property
    def details(self) -> dict[str, Any]:
        """`details` of tags, show and ps."""
        return {
            "parent_model": self.parent,
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": self.weights.parameter_size,
            "quantization_level": self.weights.quantization,
        }

    @property
    def capabilities(self) -> list[str]:
        """What it can do."""
        if self.weights.pooling:
            return ["embedding"]
        tools = ["tools"] if ".Tools" in (self.template or "") else []
        return ["completion", *tools, "thinking"] if self.weights.thinks else ["completion", *tools]


def digest(text: str) -> str:
    """The sha256 of a text, 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


_LLAMA3 = Weights("7132f55b8db4d0f586703ca44220903e23a863be413bc8888da1a66d258691f9")
_BASE = Weights("639cc921a0e798490485f6f39b5a51577baafc1253f4e1b886bcc5ec4a721153")
_NATIVE = Weights("1f5b07d1aab8d498aa0b6659f6d492375e53b38b65f263fb8306d6680663c771")
_EMBED = Weights("3c1823177ad1e9bdacb28c05fbc01d84288a24c421f53785fa57935b53ba4388", context=512, pooling=True)
_LOOP = Weights(digest("always blue"), says=" blue")
_THINKER = Weights(digest("thinks in a field"), thinks=True)
_TAGGER = Weights(digest("thinks in tags"), tags=True)
_MID = Weights(
    digest("sixty-four million"), size=127_485_500, parameters=63_717_120, parameter_size="63.72M",
    embedding=768, layers=8, feed_forward=2048,
)  # fmt: skip

CATALOGUE: dict[str, dict[str, Any]] = {
    "llama3": {"weights": _LLAMA3, "template": LLAMA3_TEMPLATE, "parameters": LLAMA3_PARAMETERS},
    "llama3:text": {"weights": _BASE, "template": PLAIN},
    "tiny-native": {"weights": _NATIVE},
    "tiny-tools": {"weights": _LLAMA3, "template": TOOLS_TEMPLATE, "parameters": LLAMA3_PARAMETERS},
    "tiny-embed": {"weights": _EMBED},
    "tiny-loop": {"weights": _LOOP, "template": PLAIN},
    "tiny-loop-native": {"weights": _LOOP},
    "mid": {"weights": _MID, "template": LLAMA3_TEMPLATE, "parameters": LLAMA3_PARAMETERS},
    "thinker": {"weights": _THINKER, "template": LLAMA3_TEMPLATE, "parameters": LLAMA3_PARAMETERS},
    "thinker-tags": {"weights": _TAGGER, "template": LLAMA3_TEMPLATE, "parameters": LLAMA3_PARAMETERS},
}
STANDARD = ("llama3", "llama3:text")


def known(name: str) -> Model:
    """A model of the catalogue, new. Raises `StandInFault` where there is none of that name."""
    for entry, parts in CATALOGUE.items():
        if parse(entry).key == parse(name).key:
            return Model(name=parse(entry), **parts)
    raise StandInFault(detail=f"it knows no model {name!r}, only {', '.join(CATALOGUE)}")
