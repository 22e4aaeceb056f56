"""The page that `next --html` writes: the prompt in its tokens, the answer by how sure the model was, each step with its bars."""

from __future__ import annotations

from orchestra.cli import words
from orchestra.cli.tokens import strip, visible
from orchestra.instruments import pages
from orchestra.model.messages import FinishReason
from orchestra.model.prediction import END, Kind, NextStep, Prediction

HEADERS = (("token", "token"), ("probability", "概率"), ("", ""), ("log-probability", "对数概率"))


def prediction_page(prompt: str, whole: Prediction) -> str:
    """One document that needs nothing else."""
    say = words.say
    known = [(say("model", "模型"), whole.model), (say("requests", "请求数"), str(whole.calls))]
    ending = words.ending(whole.finish_reason.value)
    if ending and whole.finish_reason is not FinishReason.LENGTH:
        known.append((say("end", "结束"), ending))
    read = strip(whole.prompt.tokens, tinted=False) or prompt
    return pages.page(
        say("The next token, step by step", "逐步预测下一个 token"),
        pages.facts(known),
        pages.section(
            say(f"The prompt, {whole.prompt.count} tokens", f"提示词，{whole.prompt.count} 个 token"),
            pages.prose(read),
        ),
        pages.section(
            say("What was said, red where it was a guess", "回答：红色为猜测，绿色为确信"),
            pages.pieces([(shown(step.token, step.kind), step.probability) for step in whole.steps]),
        ),
        *(_step(step, number) for number, step in enumerate(whole.steps, 1)),
        language=words.LANGUAGE,
    )


def _step(step: NextStep, number: int) -> pages.Markup:
    rows = [
        (label(each.token, each.kind), percent(each.probability), pages.bar(each.probability), f"{each.logprob:.3f}")
        for each in step.candidates
    ]
    others = (words.say("all others", "其余所有"), percent(step.rest), pages.bar(step.rest), "")
    headers = [words.say(*each) for each in HEADERS]
    inside = pages.table(headers, [*rows, others] if rows else [], numbers=(1, 3))
    return pages.section(f"{number}. {headline(step)}", inside)


def headline(step: NextStep) -> str:
    """What was said at a step, and what is to be known of it."""
    notes = [words.say("forced", "指定")] if step.forced else []
    if step.logprob is None:
        notes.append(words.say("its probability is not told", "概率未给出"))
    elif step.missing:
        untold, tokens = step.missing, step.tokens
        notes.append(words.say(f"{untold} of its {tokens} tokens not told", f"{tokens} 个 token 中有 {untold} 个的概率未给出"))
    return label(step.token, step.kind) + (f"  ({', '.join(notes)})" if notes else "")


def percent(probability: float) -> str:
    """A probability in percent; neither certain nor impossible where it is only nearly so."""
    if 0 < probability < 0.00005:
        return "<0.01%"
    return ">99.99%" if 0.99995 <= probability < 1 else f"{probability:.2%}"


def label(token: str, kind: Kind) -> str:
    """A token on one line, in quotes that show its blanks; what is no text by what it is."""
    return f'"{visible(token)}"' if kind == "text" else shown(token, kind)


def shown(token: str, kind: Kind) -> str:
    """A token within a text."""
    if kind == "text":
        return token
    return END if kind == "end" else words.say("<part of a character>", "<半个字符>")
