"""Whether a model fits, which one is recommended, and where it can be had: arithmetic that is checked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestra.errors import UsageError
from orchestra.instruments.footprint import Footprint, Shape, footprint, kv_cache, shape_of, verdict
from orchestra.instruments.inventory import Sized
from orchestra.instruments.machine import Gpu, Machine
from orchestra.instruments.recommendation import (
    WINDOWS,
    Candidate,
    Recommendation,
    Work,
    billions,
    candidates,
    recommended,
)
from orchestra.instruments.wellknown import KNOWN, languages_of, one_name
from orchestra.model.catalog import ModelCard
from orchestra.model.sources import HOSTS, Place, others, place_of

GIB = 2**30
LLAMA3 = {
    "model_info": {
        "general.architecture": "llama", "llama.block_count": 32, "llama.attention.head_count": 32, "llama.attention.head_count_kv": 8,
        "llama.embedding_length": 4096, "llama.vocab_size": 128256, "llama.context_length": 8192,
    }
}  # fmt: skip
NO_GPU = Machine(total=32 * GIB, available=28 * GIB)


# --- memory


def test_llama3_at_8192_keeps_one_gibibyte() -> None:
    shape = shape_of(LLAMA3)
    assert shape == Shape(layers=32, kv_heads=8, head_size=128, embedding=4096, vocabulary=128256, context=8192)
    assert kv_cache(shape, 8192) == GIB
    assert kv_cache(shape, 8192, slots=4) == 4 * GIB
    taken = footprint(4_661_211_424, shape, 8192)
    assert taken.needed == taken.weights + GIB + taken.overhead
    assert 6.0e9 < taken.needed < 6.6e9, "the daemon itself has said 6.01 GB for it"


def test_what_was_measured() -> None:
    """A model of ten layers at 8192 tokens: the engine said 80.00 MiB of cache and 52 MiB of working memory."""
    shape = Shape(layers=10, kv_heads=4, head_size=64, embedding=768, vocabulary=512, context=8192)
    assert kv_cache(shape, 8192) == 80 * 2**20
    assert 0.7 < (footprint(0, shape, 8192).overhead - 200e6) / (52 * 2**20) < 1.3


def test_a_context_beyond_the_models_own_is_not_counted() -> None:
    shape = shape_of(LLAMA3)
    assert footprint(0, shape, 32768) == footprint(0, shape, 8192)
    assert footprint(0, replace(shape, context=0), 32768).context == 32768


def test_head_size_and_heads_that_are_said_otherwise() -> None:
    info = {**LLAMA3["model_info"], "llama.attention.key_length": 256, "llama.attention.head_count_kv": []}
    shape = shape_of({"model_info": info})
    assert (shape.head_size, shape.kv_heads) == (256, 32), "a list that is not shown: the bound"
    assert shape_of({}) == shape_of({"model_info": None}) == Shape()
    assert shape_of({"model_info": {**info, "llama.block_count": "many"}}).layers == 0
    assert footprint(100, Shape(), 8192).kv_cache == 0


@pytest.mark.parametrize(
    ("machine", "needed", "expected"),
    [
        (NO_GPU, 20 * GIB, "fits"),
        (NO_GPU, 28.5 * GIB, "tight"),
        (NO_GPU, 31 * GIB, "too big"),
        (Machine(total=32 * GIB), 28 * GIB, "fits"),
        (Machine(total=16 * GIB, available=8 * GIB, gpus=(Gpu("a", 8 * GIB),)), 7 * GIB, "fits"),
        (Machine(total=16 * GIB, available=8 * GIB, gpus=(Gpu("a", 8 * GIB),)), 12 * GIB, "tight"),
        (Machine(total=16 * GIB, available=8 * GIB, gpus=(Gpu("a", 8 * GIB),)), 24 * GIB, "too big"),
        (Machine(total=16 * GIB, gpus=(Gpu("a", 12 * GIB), Gpu("b", 12 * GIB))), 20 * GIB, "fits"),
        (Machine(total=18 * GIB, unified=True), 11 * GIB, "fits"),
        (Machine(total=18 * GIB, unified=True), 15 * GIB, "tight"),
        (Machine(total=18 * GIB, unified=True), 18 * GIB, "too big"),
        (Machine(), 1, "unknown"),
    ],
)
def test_whether_it_fits(machine: Machine, needed: float, expected: str) -> None:
    assert verdict(int(needed), machine) == expected
    assert verdict(int(needed), machine, loaded=True) == "fits"


# --- which one


def installed(name: str, parameters: str = "8.0B", *, size: int = 4_700_000_000, **fields: object) -> Sized:
    card = ModelCard(name=name, size=size, parameters=parameters, quantization="Q4_0", context=8192, **fields)  # type: ignore[arg-type]
    return Sized(card, footprint(size, shape_of(LLAMA3), 8192))


def advice(*found: Sized, work: Work = "chat", language: str = "en", machine: Machine = NO_GPU, context: int = 0) -> list[Recommendation]:
    context = context or WINDOWS[work]
    return recommended(candidates(found, work, context), machine, work=work, language=language, context=context)


def test_installed_models_come_first_and_each_has_a_reason_in_four_dimensions() -> None:
    ranked = advice(installed("llama3"), installed("mistral", "7.2B"))
    assert [each.name for each in ranked[:2]] == ["llama3", "mistral"], "what is known to speak the language is ahead"
    assert [each.installed for each in ranked] == sorted((each.installed for each in ranked), reverse=True)
    for each in ranked:
        assert list(each.reasons) == ["data", "input", "efficiency", "quantization"]
        assert all(words.en and words.zh for words in each.reasons.values())
        assert each.command.startswith("orchestra chat --model " if each.installed else "orchestra pull ")
    assert len({each.name for each in ranked}) == len(ranked)
    assert not {"llama3"} & {each.name for each in ranked[2:]}, "what is installed is not offered"


def test_a_second_name_of_what_is_installed_is_not_offered() -> None:
    assert "qwen3:8b" in [each.name for each in advice(language="zh")]
    ranked = advice(installed("qwen3"), language="zh")
    assert ranked[0].name == "qwen3"
    assert "qwen3:8b" not in [each.name for each in ranked]


def test_the_language_decides() -> None:
    assert advice(language="zh")[0].name.startswith("qwen3")
    assert "llama3" not in [each.name for each in advice(language="zh")]
    assert "llama3" in [each.name for each in advice(language="en")]
    weak = next(each for each in advice(installed("llama3"), language="zh") if each.installed)
    assert "weak in Chinese" in weak.reasons["data"].en
    assert "中文较弱" in weak.reasons["data"].zh


def test_the_work_decides_on_the_kind() -> None:
    both = installed("llama3"), installed("llama3:text", base=True), installed("e", capabilities=("embedding",))
    assert {each.role for each in advice(*both, work="chat")} == {"instruct"}
    assert {each.role for each in advice(*both, work="agents")} == {"instruct"}
    assert {each.role for each in advice(*both, work="complete")} == {"base"}
    assert [each.role for each in advice(*both, work="search")[:2]] == ["instruct", "embedding"]
    assert "embedding" in [each.role for each in advice(work="search") if not each.installed]
    assert advice(*both, work="complete")[0].command == 'orchestra generate "..." --model llama3:text'


def test_a_longer_input_is_worth_something_where_it_is_needed() -> None:
    short = next(each for each in advice(installed("llama3"), work="search") if each.name == "llama3")
    assert "8192 tokens; 16384 are wanted: less" in short.reasons["input"].en
    names = [each.name for each in advice(work="search") if each.role == "instruct"]
    assert "llama3.1" in names
    assert "llama3" not in names[:2]


def test_what_does_not_fit_is_not_offered_and_what_is_installed_is_named_with_it() -> None:
    small = Machine(total=4 * GIB, available=3 * GIB)
    ranked = advice(installed("llama3"), installed("tiny", "1.0B", size=600_000_000), machine=small)
    assert [(each.name, each.verdict) for each in ranked[:2]] == [("tiny", "fits"), ("llama3", "too big")]
    assert "too big" not in [each.verdict for each in ranked if not each.installed]
    assert advice(machine=Machine(total=GIB // 2, available=GIB // 2)) == []
    assert {each.verdict for each in advice(machine=Machine())} == {"unknown"}


def test_more_memory_brings_larger_models_and_none_that_crawl() -> None:
    strong = Machine(total=64 * GIB, available=60 * GIB, gpus=(Gpu("g", 24 * GIB),))
    assert advice(machine=strong, language="zh")[0].name == "qwen3:14b"
    assert advice(machine=Machine(total=64 * GIB, available=60 * GIB), language="zh")[0].name == "qwen3:8b"


def test_tools_and_quantization_count() -> None:
    plain = Candidate(name="a", kind="instruct", parameters=8, quantization="Q4_K_M", context=32768, footprint=Footprint(weights=1, kv_cache=0, overhead=0, context=1))

    def score(each: Candidate, work: Work = "agents") -> float:
        return recommended([replace(each, installed=True)], NO_GPU, work=work, language="en", context=8192)[0].score

    assert score(replace(plain, tools=True)) > score(plain)
    assert score(replace(plain, tools=True), "chat") == score(plain, "chat")
    order = ["Q2_K", "Q3_K_S", "Q4_0", "Q4_K_M", "Q6_K", "Q8_0"]
    scores = [score(replace(plain, quantization=each)) for each in order]
    assert scores == sorted(scores)
    assert score(replace(plain, quantization="?")) < scores[-1]
    assert score(replace(plain, quantization="F16")) == scores[-1]


def test_sizes_as_the_daemon_says_them() -> None:
    assert [billions(text) for text in ("8.0B", "751.63M", "1.38M", "70B", "", "big")] == [8.0, 0.75163, pytest.approx(0.00138), 70.0, 0.0, 0.0]


def test_the_table_of_well_known_models_is_sound() -> None:
    assert len({each.name for each in KNOWN}) == len(KNOWN)
    for each in KNOWN:
        assert one_name(each.name) == each.name.lower()
        assert 0.4e9 * each.parameters < each.size < 2.5e9 * each.parameters, each.name
        assert each.shape.context >= 8192
        assert each.kind == "embedding" or kv_cache(each.shape, 1) > 0
    assert languages_of("qwen2.5:7b") == languages_of("hf.co/x/Qwen3-8B-GGUF") == ("zh", "en")
    assert (languages_of("llama3:text"), languages_of("mistral"), languages_of("mine", "qwen2")) == (("en",), (), ("zh", "en"))
    assert languages_of("mine", "llama") == (), "many a fine-tune for Chinese is of that family"


# --- from where


@pytest.mark.parametrize(
    ("name", "origin", "short", "expected"),
    [
        ("llama3", "library", "", Place("llama3")),
        ("llama3", "library", "mine", Place("llama3", "mine")),
        ("llama3", "modelscope", "", Place("modelscope.cn/LLM-Research/Meta-Llama-3-8B-Instruct-GGUF", "llama3")),
        ("LLAMA3:latest", "hf", "", Place("hf.co/QuantFactory/Meta-Llama-3-8B-Instruct-GGUF", "LLAMA3:latest")),
        ("llama3:text", "hf", "", Place("hf.co/QuantFactory/Meta-Llama-3-8B-GGUF", "llama3:text")),
        ("qwen3:8b", "modelscope", "q", Place("modelscope.cn/Qwen/Qwen3-8B-GGUF", "q")),
        ("qwen3:0.6b", "hf", "", Place("hf.co/Qwen/Qwen3-0.6B-GGUF", "qwen3:0.6b")),
        ("someone/Thing-GGUF:Q8_0", "hf", "thing", Place("hf.co/someone/Thing-GGUF:Q8_0", "thing")),
        ("modelscope.cn/a/b", "modelscope", "", Place("modelscope.cn/a/b")),
        ("hf.co/a/b", "modelscope", "", Place("hf.co/a/b")),
    ],
)
def test_where_a_model_is(name: str, origin: str, short: str, expected: Place) -> None:
    assert place_of(name, origin, short) == expected  # type: ignore[arg-type]


def test_a_repository_that_is_not_known_is_asked_for() -> None:
    for name, origin, said in (("mistral", "hf", "OWNER/REPOSITORY-GGUF --from hf --as mistral"), ("llama3:text", "modelscope", "--from hf")):
        with pytest.raises(UsageError) as caught:
            place_of(name, origin)  # type: ignore[arg-type]
        assert said in caught.value.hint()


def test_the_other_sources() -> None:
    assert others("llama3", "library") == ["orchestra pull llama3 --from modelscope", "orchestra pull llama3 --from hf"]
    assert others("llama3", "hf") == ["orchestra pull llama3 --from modelscope", "orchestra pull llama3"]
    assert others("nobody-knows", "hf") == []
    assert set(HOSTS) == {"library", "modelscope", "hf"}
