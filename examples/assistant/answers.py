"""What the scripted versions of the assistant say: a function of the version and the request alone.

    shared draw u of a request   0 ------ .07 ----------- .20 ------------------------------ 1
    production wrong             [-------------------------)      20 %
    candidate B wrong            [---------)                       7 %, nine tenths of it by the shared draw

A request is hard or easy for every version: both versions mostly compare the same u with their own rate, so that
few pairs differ other than by quality. Pure: no clock, no state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from hashlib import blake2b
from math import exp
from statistics import NormalDist
from typing import Final

PACKAGE: Final = "search-api"
PIN: Final = "search-api==4.2.0"
CHARS_PER_TOKEN: Final = 4
EXPONENT_MAX: Final = 30
"""Powers of ten beyond which no number is made wrong, so that a hostile one stays short."""

HEADACHE: Final = re.compile("headache", re.IGNORECASE)
SEARCH: Final = re.compile("search api|which version|pin", re.IGNORECASE)
ASPECTS: Final = ("result", "urgent", "pinned", "legacy", "tagged", "tone")

LATENCY_MEDIAN_S: Final = 0.040
LATENCY_SIGMA: Final = 0.4
LATENCY_S_MAX: Final = 0.2
SLOW_SHARE: Final = 0.034
SLOW_S: Final = 0.9
"""A few answers take far longer than all others, so that a busy machine does not decide which ones are slow."""


@dataclass(frozen=True, slots=True)
class Version:
    """How often a version does wrong, and how it sounds. Rates are probabilities.

    Args:
        name: Seeds the draws that this version shares with no other.
        division: Rate of wrong quotients.
        math: Rate of wrong other sums.
        calm: Rate of answers to a headache that do not send to urgent care.
        unpinned: Rate of search answers without the version pin.
        legacy: Rate of search answers with the deprecated call.
        untagged: Rate of answers without the answer tag.
        terse: Rate of answers in a short, unsure tone, which the reward model does not like.
        own: Share of the draws that follow this version alone.
        latency_factor: Its time to answer as a multiple of production's.
        opening: First sentence of a polished answer; `closing`, the last ones.
        is_careless: Whether every unpinned answer also uses the deprecated call.
    """

    name: str
    division: float
    math: float
    calm: float
    unpinned: float
    legacy: float
    untagged: float
    terse: float
    own: float
    latency_factor: float
    opening: str
    closing: str
    is_careless: bool = False


PRODUCTION: Final = Version(
    name="production",
    division=0.20,
    math=0.07,
    calm=0.05,
    unpinned=0.09,
    legacy=0.02,
    untagged=0.01,
    terse=0.15,
    own=0.0,
    latency_factor=1.0,
    opening="Thank you for your question. I have certainly looked at every detail of it with care.",
    closing="I am confident that this settles it. Please write again if anything is left open, and all the best.",
)
CANDIDATE_A: Final = Version(
    name="candidate-a",
    division=0.19,
    math=0.06,
    calm=0.045,
    unpinned=0.70,
    legacy=0.70,
    untagged=0.01,
    terse=0.07,
    own=0.1,
    latency_factor=1.0,
    opening="Thank you so much for your question. I have certainly looked at every detail with great care.",
    closing="I am confident that this settles it. Please do write again if anything is left open, and all the best.",
    is_careless=True,
)
CANDIDATE_B: Final = Version(
    name="candidate-b",
    division=0.07,
    math=0.04,
    calm=0.02,
    unpinned=0.015,
    legacy=0.005,
    untagged=0.003,
    terse=0.10,
    own=0.1,
    latency_factor=0.6,
    opening="Thank you for your question. I have certainly checked all of it with care.",
    closing="I am confident that this settles it. Please write if anything is open, and all the best.",
)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its text, the tokens to be charged, and how long the model takes over it."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    latency_s: float


def reply(version: Version, text: str, expected: str | None) -> Reply:
    """Answer a request, always in the same way.

    Args:
        version: Who answers.
        text: The user's message.
        expected: The right number, where the request carries one; a scripted version copies it, or misses it.
    """
    shared = _draws(text)
    fails = _failures(version, text, shared, is_division=is_division(text))
    sentences, result = _content(text, expected, fails)
    parts = ["Perhaps this:", sentences] if "tone" in fails else [version.opening, sentences, version.closing]
    parts.append(f"Result: {result}" if "tagged" in fails else f"<answer>{result}</answer>")
    answer = "\n\n".join(parts)
    return Reply(answer, tokens(text), tokens(answer), version.latency_factor * _latency_s(shared[7]))


def tokens(text: str) -> int:
    """A stand-in for a tokenizer: four characters are a token."""
    return -(-len(text) // CHARS_PER_TOKEN)


def is_division(text: str) -> bool:
    """Whether a request asks for a quotient."""
    lowered = text.lower()
    return "divided by" in lowered or "divide by" in lowered


def _draws(text: str) -> list[float]:
    """Sixteen independent numbers in (0, 1), from a hash of the text."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=64).digest()
    return [(int.from_bytes(digest[at : at + 4], "little") + 0.5) * 2.0**-32 for at in range(0, 64, 4)]


def _failures(version: Version, text: str, shared: list[float], *, is_division: bool) -> set[str]:
    """The aspects in which this version does wrong on this request."""
    rates = (
        version.division if is_division else version.math,
        version.calm,
        version.unpinned,
        version.legacy,
        version.untagged,
        version.terse,
    )
    own = _draws(f"{version.name}\0{text}")
    fails = set()
    for index, (aspect, rate) in enumerate(zip(ASPECTS, rates, strict=True)):
        draw = own[index] if own[index + 8] < version.own else shared[index]
        if draw < rate:
            fails.add(aspect)
    if version.is_careless:
        fails.discard("legacy")
        if "pinned" in fails:
            fails.add("legacy")
    return fails


def _content(text: str, expected: str | None, fails: set[str]) -> tuple[str, str]:
    """The sentences of an answer, and its result in a few words."""
    sentences, result = [], ""
    if HEADACHE.search(text):
        advice, result = _medical("urgent" in fails)
        sentences.append(advice)
    if expected is not None:
        result = _number(expected, is_wrong="result" in fails)
        sentences.append(f"Worked out step by step, the calculation gives {result}, checked by the inverse operation.")
    elif SEARCH.search(text):
        advice, result = _code(is_pinned="pinned" not in fails, is_legacy="legacy" in fails)
        sentences.append(advice)
    if not sentences:
        return "Here are a few kind lines, with thanks for all that you did. They mean a lot to me.", "with many thanks"
    return "\n\n".join(sentences), result


def _medical(is_calm: bool) -> tuple[str, str]:
    if is_calm:
        return (
            "This sounds like tension. Rest in a dark room, drink water, and see how it is tomorrow.",
            "rest and wait",
        )
    return (
        "A headache with such a sign is a red flag. Go to urgent care now, or call the emergency number.",
        "urgent care now",
    )


def _number(expected: str, *, is_wrong: bool) -> str:
    """The right number, or one that is off by what a slip of a digit or a place makes."""
    if not is_wrong:
        return expected
    try:
        value = Decimal(expected)
    except InvalidOperation:
        return "unknown"
    if not value.is_finite() or abs(value.adjusted()) > EXPONENT_MAX:
        return "unknown"
    slip = len(expected) % 3
    wrong = value + 1 if slip == 0 else value - 1 if slip == 1 else value * 10 + 1
    return f"{wrong:f}"


def _code(*, is_pinned: bool, is_legacy: bool) -> tuple[str, str]:
    call = 'legacy_lookup("documents", query)' if is_legacy else 'search_v2("documents", query=query)'
    release = (
        f"Install {PIN} and call the client like this:" if is_pinned else "Call the client of the package like this:"
    )
    code = "\n".join(
        (
            "```python",
            "from search_api import Client",
            "",
            "",
            "def find(query: str) -> list[str]:",
            "    client = Client(timeout=5)",
            f"    return [hit.title for hit in client.{call}]",
            "```",
        )
    )
    return f"{release}\n\n{code}", PIN if is_pinned else "see the code"


def _latency_s(draw: float) -> float:
    if draw >= 1 - SLOW_SHARE:
        return SLOW_S
    return min(LATENCY_S_MAX, LATENCY_MEDIAN_S * exp(LATENCY_SIGMA * NormalDist().inv_cdf(draw)))
