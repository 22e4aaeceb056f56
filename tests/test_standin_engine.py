"""The stand-in's engine: proper distributions, options that have their effect, answers that end and fit."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import pytest
from standin_speech import asked, said, tokens

from orchestra.standin import corpus, extract, vocabulary
from orchestra.standin.engine import Engine, Sampling, engine
from orchestra.standin.ngrams import Counts, Distribution, Floor, Floors, Model, pending
from orchestra.standin.sampling import Sampler
from orchestra.standin.vocabulary import CONTROL, END_OF_TURN

WIDE = {"temperature": 3.0, "top_k": 0, "top_p": 1.0}

# --- the model


def proper(distribution: Distribution, size: int = 512) -> None:
    every = [(distribution.probability(number), number) for number in range(size)]
    assert math.fsum(probability for probability, _ in every) == pytest.approx(1.0, abs=1e-9)
    ranked = sorted((-probability, number) for probability, number in every if probability)
    top = distribution.top(size)
    assert [number for _, number in top] == [number for _, number in ranked]
    assert [math.exp(logprob) for logprob, _ in top] == pytest.approx([-negative for negative, _ in ranked])
    assert distribution.top(20) == top[:20]


def test_every_distribution_is_proper_and_its_top_list_true() -> None:
    source = engine()
    for text in ("", "The forest is", "天空", "森林\u4e00", asked("天空为什么是蓝色的？"), "zzz qqq", "😀"):
        model = source.model(text)
        context = source.vocabulary.encode(text)
        for length in range(max(0, len(context) - 8), len(context) + 1):
            proper(model.distribution(context[:length]))
            proper(model.distribution(context[:length]).leaning(END_OF_TURN, 0.4))
            proper(model.distribution(context[:length]).without(source.vocabulary.ends))


def test_the_check_notices_what_is_not_proper() -> None:
    floor = Floor(engine().vocabulary, b"", {})
    proper(Distribution({7: 0.4}, 0.6, floor))
    with pytest.raises(AssertionError):
        proper(Distribution({7: 0.4}, 0.61, floor))


def test_only_muted_tokens_are_impossible() -> None:
    ours = engine().vocabulary
    distribution = engine().model("The sky").distribution(ours.encode("The sky"))
    impossible = {number for number in range(512) if not distribution.probability(number)}
    muted = {number for number, kind in enumerate(ours.kinds) if kind == CONTROL} - ours.ends
    assert muted <= impossible
    # The others cannot begin a character. Nothing that could be said is left out.
    for number in impossible - muted:
        with pytest.raises(UnicodeDecodeError):
            ours.data(number).decode()


@pytest.mark.parametrize("prompt", ["天空", "The sky", asked("你好")])
def test_what_is_said_is_sound_utf8_however_hot(prompt: str) -> None:
    for seed in range(10):
        data = b"".join(token.data for token in tokens(prompt, most=200, seed=seed, **WIDE))
        sound = data[: len(data) - len(pending(data))]
        sound.decode("utf-8")


def test_every_beginning_of_a_character_can_be_finished() -> None:
    floors = Floors(engine().vocabulary, Counts())
    ours = engine().vocabulary
    left = [ours.encode("a")]
    for _ in range(3):
        left = [[*before, number] for before in left for number in floors.after(before).order if pending(ours.data(number))][:5000]
        left = [numbers for numbers in left if pending(b"".join(map(ours.data, numbers)))]
        assert all(floors.after(numbers).order for numbers in left)
    byte = {ours.data(number): number for number in range(512)}
    for beginning in (b"\xed\x9f", b"\xf4\x8f\xbf", b"\xf0\x90"):
        assert floors.after([byte[bytes([each])] for each in beginning]).order
    assert byte[b"\xa0"] not in floors.after([byte[b"\xed"]]).order


CUES = [paragraph.cue[:60] for paragraph in corpus.read()[::3]]


def test_a_greedy_answer_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(len(tokens(asked(cue), temperature=0)) for cue in CUES) < 300
    monkeypatch.setattr("orchestra.standin.engine.TIMES_THE_SAME", 10**9)
    assert any(len(tokens(asked(cue), temperature=0)) == 600 for cue in CUES)


def test_a_text_that_is_no_turn_goes_on_for_a_while() -> None:
    for seed in range(8):
        assert len(tokens("hi", seed=seed)) > 50
    assert min(len(tokens(asked("hi"), seed=seed)) for seed in range(8)) < 50


def test_bytes_that_wait_for_more() -> None:
    assert [pending(data) for data in (b"", b"a", "天".encode(), b"\x80\x80\x80", b"\xff")] == [b""] * 5
    assert pending("a天".encode()[:-1]) == "天".encode()[:-1]
    assert pending("😀".encode()[:3]) == "😀".encode()[:3]
    assert [pending(data) for data in (b"\xe0\x80", b"\xed\xa0")] == [b""] * 2  # cannot become a character


# --- sampling


def test_a_seed_gives_the_same_text_and_another_one_another() -> None:
    texts = [said("Once", seed=seed) for seed in (1, 1, 2, 3, 4)]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 2
    assert len({said("Once", **WIDE, most=40) for _ in range(3)}) == 3
    assert len({said("Once", seed=-1, **WIDE, most=40) for _ in range(3)}) == 3
    assert len({said("Once", seed=7, **WIDE, most=40) for _ in range(3)}) == 1


def test_at_temperature_zero_no_seed_matters() -> None:
    assert len({said("天空", temperature=0, seed=seed) for seed in range(5)}) == 1
    for token in tokens("天空", temperature=0, top_logprobs=1):
        assert token.id == token.top[0][0]


def test_a_higher_temperature_gives_more_different_texts_and_less_likely_ones() -> None:
    def surprise(temperature: float) -> tuple[int, float]:
        drawn = [tokens("The", most=25, seed=seed, temperature=temperature, top_k=0, top_p=1.0) for seed in range(15)]
        texts = {tuple(token.id for token in one) for one in drawn}
        return len(texts), -sum(token.logprob for one in drawn for token in one) / sum(map(len, drawn))

    (few, cold), (some, warm), (many, hot) = map(surprise, (0.05, 0.8, 3.0))
    assert few < some <= many
    assert cold < warm < hot


def outside(top: int, allowed: Callable[[list[float]], int], **options: Any) -> int:
    """How many tokens were drawn from beyond the first ones of the true distribution that `allowed` counts."""
    count = 0
    for seed in range(5):
        for token in tokens("The", most=60, seed=seed, top_logprobs=top, **options):
            probabilities = [math.exp(logprob) for *_, logprob in token.top]
            inside = {number for number, *_ in token.top[: allowed(probabilities)]}
            count += token.id not in inside
    return count


def test_top_k_draws_from_the_first_k() -> None:
    hot = {"temperature": 3.0, "top_p": 1.0}
    assert outside(3, lambda _: 3, top_k=3, **hot) == 0
    assert outside(3, lambda _: 3, top_k=0, **hot) > 0
    assert said("The", seed=5, top_k=1) == said("The", temperature=0)


def test_top_p_draws_from_the_nucleus() -> None:
    def nucleus(probabilities: list[float]) -> int:
        reached = 0.0
        for count, probability in enumerate(probabilities, 1):
            reached += probability
            if reached >= 0.6 - 1e-9:
                return count
        return len(probabilities)

    hot = {"temperature": 3.0, "top_k": 0}
    assert outside(512, nucleus, top_p=0.6, **hot) == 0
    assert outside(512, nucleus, top_p=1.0, **hot) > 0


def test_min_p_leaves_out_what_is_far_below_the_best() -> None:
    def near(probabilities: list[float]) -> int:
        return sum(probability >= 0.3 * probabilities[0] - 1e-9 for probability in probabilities)

    hot = {"temperature": 3.0, "top_k": 0, "top_p": 1.0}
    assert outside(512, near, min_p=0.3, **hot) == 0
    assert outside(512, near, min_p=0.0, **hot) > 0


def two_ways() -> tuple[Distribution, int, int]:
    """A distribution with two likely tokens, 60 to 40."""
    counts = Counts()
    first, second = 100, 101
    for _ in range(600):
        counts.learn([99, first])
    for _ in range(400):
        counts.learn([99, second])
    return Model(Floors(engine().vocabulary, Counts()), [counts]).distribution([99]), first, second


@pytest.mark.parametrize(
    ("options", "history", "changes"),
    [
        ({}, [100], False),
        ({"repeat_penalty": 1.1}, [100], True),
        ({"repeat_penalty": 1.1}, [99], False),
        ({"repeat_penalty": 1.1, "repeat_last_n": 0}, [100], False),
        ({"repeat_penalty": 1.1, "repeat_last_n": 2}, [100, 99, 99], False),
        ({"repeat_penalty": 1.1, "repeat_last_n": 3}, [100, 99, 99], True),
        ({"repeat_penalty": 1.1, "repeat_last_n": -1}, [100] + [99] * 200, True),
        ({"repeat_penalty": 1.1}, [100] + [99] * 200, False),
        ({"repeat_penalty": 1.001}, [100], False),
        ({"presence_penalty": 0.5}, [100], True),
        ({"presence_penalty": 0.3}, [100, 100, 100], False),
        ({"presence_penalty": -0.5}, [101], True),
        ({"frequency_penalty": 0.2}, [100], False),
        ({"frequency_penalty": 0.2}, [100, 100, 100], True),
    ],
)
def test_penalties_hold_the_last_tokens_back(options: dict[str, Any], history: list[int], changes: bool) -> None:
    distribution, first, second = two_ways()
    choices: list[dict[str, Any]] = [{"temperature": 0.0}, {"temperature": 1.0, "top_k": 1}]  # penalties come before top_k
    for rest in choices:
        drawn = Sampler(Sampling(**options, **rest), history, size=512).draw(distribution)
        assert drawn == (second if changes else first)


def test_penalties_follow_what_is_said() -> None:
    distribution, first, second = two_ways()
    sampler = Sampler(Sampling(temperature=0, frequency_penalty=0.3, repeat_last_n=2), [], size=512)
    drawn = []
    for _ in range(6):
        drawn.append(sampler.draw(distribution))
        sampler.accept(drawn[-1])
    assert drawn == [first, first, second, first, first, second]


def test_a_repeat_penalty_is_heard_in_a_whole_answer() -> None:
    def repeated(penalty: float) -> float:
        spoken = [tokens("The", most=80, temperature=0.8, seed=seed, repeat_penalty=penalty) for seed in range(6)]
        return sum(sum(Counter(t.id for t in one).values()) - len({t.id for t in one}) for one in spoken) / sum(map(len, spoken))

    assert repeated(1.8) < repeated(1.0)


def test_logprobs_are_the_models_own_whatever_the_options() -> None:
    plain = tokens("The sky", most=1, top_logprobs=5)[0]
    for options in ({"temperature": 0}, {"temperature": 2.0}, {"top_k": 1}, {"repeat_penalty": 1.9}, {"min_p": 0.9}):
        token = tokens("The sky", most=1, top_logprobs=5, seed=1, **options)[0]
        assert token.top == plain.top
        true = engine().model("The sky").distribution(engine().vocabulary.encode("The sky"))
        assert token.logprob == pytest.approx(math.log(true.probability(token.id)))
    assert [logprob for *_, logprob in plain.top] == sorted((logprob for *_, logprob in plain.top), reverse=True)
    assert tokens("The sky", most=1)[0].top == ()


# --- answers


def test_an_answer_ends_by_itself_after_a_sensible_length() -> None:
    lengths = []
    for question in ("What is your name?", "Tell me about trees.", "今天天气怎么样？", "请介绍一下森林。"):
        for seed in range(6):
            drawn = tokens(asked(question), seed=seed)
            assert drawn[-1].id in engine().vocabulary.ends
            assert drawn[-1].data == b""
            lengths.append(len(drawn))
    assert 30 <= median(lengths) <= 150
    assert max(lengths) < 400


@pytest.mark.parametrize(("prompt", "language"), [
    (asked("请介绍一下森林。"), "zh"), (asked("Tell me about the forest."), "en"),
    ("在一个阳光明媚的早晨，Alice决定去森林里探险。", "zh"), ("On a sunny morning Alice", "en"),
    (asked("What is AI?\n\n请用中文回答。"), "zh"),
])
def test_it_answers_in_the_language_of_the_prompt(prompt: str, language: str) -> None:
    for seed in range(4):
        assert extract.language(said(prompt, seed=seed)) == language


@pytest.mark.parametrize(("question", "word"), [
    ("Can you please expedite the delivery?", "order"), ("What is the capital of France?", "Paris"),
    ("请问可以加快发货吗？", "订单"), ("法国的首都是哪里？", "巴黎"),
    ("制定人工智能合规标准，避免人工智能伤害人类", "人工智能"),
])
def test_it_speaks_of_what_it_was_asked(question: str, word: str) -> None:
    assert word in said(asked(question), temperature=0)
    assert word not in said(asked("谢谢" if extract.language(question) == "zh" else "Thank you"), temperature=0)


def test_a_story_goes_on_where_the_prompt_ends() -> None:
    assert said("在一个阳光明媚的早晨，Alice决定去森林里探险。", temperature=0).startswith("她背上小包")
    assert said("Customer: I would like to cancel my order.\nSupport:", temperature=0).startswith(" ")


def test_an_empty_prompt_has_an_answer() -> None:
    assert len(said("", seed=1)) > 10


def test_the_tokens_spell_out_the_text_that_was_given_to_them() -> None:
    """`text` is only for those who have it: without it the prompt's tokens are read."""
    source = engine()
    numbers = source.vocabulary.encode(asked("What is the capital of France?"))
    text = b"".join(token.data for token in source.generate(numbers, Sampling(temperature=0))).decode()
    assert "Paris" in text


def test_threads_may_share_the_engine() -> None:
    fresh = Engine(vocabulary.load(), corpus.read())
    prompt = asked("天空为什么是蓝色的？")

    def one(seed: int) -> list[int]:
        numbers = fresh.vocabulary.encode(prompt)
        return [token.id for token in fresh.generate(numbers, Sampling(seed=seed % 3), text=prompt)]

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(one, range(18)))
    assert answers == [one(seed) for seed in range(18)]


def test_it_is_quick() -> None:
    begun = time.process_time()
    fresh = Engine(vocabulary.load(), corpus.read())
    assert time.process_time() - begun < 0.3
    begun, count = time.process_time(), 0
    for seed in range(8):
        for prompt in ("The", "天空"):
            sampling = Sampling(seed=seed, repeat_penalty=1.1)
            count += sum(1 for _ in fresh.generate(fresh.vocabulary.encode(prompt), sampling, text=prompt))
    assert count / (time.process_time() - begun) > 1000


# --- embeddings


def test_similar_texts_are_near() -> None:
    embed = engine().embed

    def near(first: str, second: str) -> float:
        return sum(a * b for a, b in zip(embed(first), embed(second), strict=True))

    assert near("The sky is blue.", "The sky is blue today.") > near("The sky is blue.", "Contracts need signatures.") + 0.2
    assert near("天空是蓝色的。", "天空为什么是蓝色的？") > near("天空是蓝色的。", "合同需要签字。") + 0.2
    for text in ("", " ", "a", "天", "long " * 500):
        assert math.fsum(value * value for value in embed(text)) == pytest.approx(1.0)
    assert embed("The  SKY") == embed("the sky")
    assert len(embed("x", 64)) == 64


# --- the corpus


def test_the_corpus_has_both_languages_in_equal_parts_and_ends_its_sentences() -> None:
    paragraphs = corpus.read()
    letters = Counter[str]()
    for paragraph in {paragraph.whole: paragraph for paragraph in paragraphs}.values():
        letters[paragraph.language] += len(paragraph.whole.encode())
    assert 0.7 < letters["zh"] / letters["en"] < 1.4
    assert all(paragraph.answer[-1] in ".!?。！？" for paragraph in paragraphs)
    encode = engine().vocabulary.encode
    assert all(number not in engine().vocabulary.ends for paragraph in paragraphs for number in encode(paragraph.whole))
