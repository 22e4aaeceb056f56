"""How the families of byte-level vocabularies cut a text into words before they merge.

A vocabulary names its family (`tokenizer.ggml.pre`); the rules stand in the engine, llama.cpp (src/llama-vocab.cpp), and
what is written here was read there. `llama-bpe` was also compared with a running daemon, in texts of many scripts. A family
that is not in the table is not guessed: its tokens are estimated, and the answer's receipt says so.
"""

from __future__ import annotations

from typing import NamedTuple

_CONTRACTIONS = "'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"

_LLAMA3 = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1,3}}|{_SIGNS}|{_BLANKS}"
_QWEN2 = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}|{_SIGNS}|{_BLANKS}"
_GPT2 = r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DEEPSEEK3 = (
    r"[!-/:-@\[-`{-~][A-Za-z]+"
    r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*"
    rf"|{_BLANKS}"
)


class PreTokenizer(NamedTuple):
    """The rules of a family, each applied to what those before it left.

    `whole` says that a word which is a token is taken as it is; `begins` that a prompt begins with a begin-of-text
    where the vocabulary does not say.
    """

    patterns: tuple[str, ...]
    whole: bool = False
    begins: bool = False


_FAMILIES = {
    "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral lfm2": PreTokenizer((_LLAMA3,), whole=True, begins=True),
    "dbrx smaug-bpe glm4 chatglm-bpe": PreTokenizer((_LLAMA3,)),
    "qwen2 deepseek-r1-qwen stablelm2 megrez hunyuan": PreTokenizer((_QWEN2,)),
    "gpt-2 phi-2 mpt olmo jais exaone4": PreTokenizer((_GPT2,)),
    "starcoder refact command-r smollm codeshell exaone minerva-7b": PreTokenizer((r"\p{N}", _GPT2)),
    "deepseek-v3": PreTokenizer((r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+", _DEEPSEEK3)),
}
TABLE = {name: rules for names, rules in _FAMILIES.items() for name in names.split()}
