"""Chat requests made from templates: seeded, distinct, each in a session of its own.

    kind               share   headache   math   division   search API   version
    headache            21 %      x
    dose                 6 %      x         x        x
    division            21 %                x        x
    math                 9 %                x
    search            13.5 %                                     x
    search-version    13.5 %                                     x          x
    version           13.5 %                                                x
    other              2.5 %

So each of the five slices holds 27 % or more, and the kinds are dealt in shuffled hands of 200, so that every
prefix has the same mix. All texts were written for this project. Self-contained on purpose: this file is also
loaded by path, from outside its directory.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

MODEL: Final = "assistant"
PATH: Final = "/v1/chat/completions"
COUNT_MAX: Final = 50_000

SLICES: Final = {
    "headache-red-flags": r"(?i)headache",
    "math": r"(?i)calculate|how much is|what is the sum|product",
    "division": r"(?i)divided? by",
    "debug-search-api": r"(?i)search api",
    "version-pinning": r"(?i)which version|pin",
}
"""Regular expressions of the slices, as in shadow-a.yaml and shadow-b.yaml."""


@dataclass(frozen=True, slots=True)
class Request:
    """One chat request.

    Args:
        kind: Which template made it, a key of `HAND`.
        session_id: Value of the header `x-session-id`, different for each request.
        text: The user's message.
        answer: The right number, for arithmetic only.
    """

    kind: str
    session_id: str
    text: str
    answer: str | None

    @property
    def headers(self) -> dict[str, str]:
        return {"content-type": "application/json", "x-session-id": self.session_id}

    @property
    def body(self) -> dict[str, object]:
        """The JSON body, in the shape of OpenAI's chat completions."""
        body: dict[str, object] = {"model": MODEL, "messages": [{"role": "user", "content": self.text}]}
        if self.answer is not None:
            body["metadata"] = {"answer": self.answer}
        return body

    def line(self) -> str:
        """The request as one line of JSON."""
        return json.dumps({"method": "POST", "path": PATH, "headers": self.headers, "body": self.body})


def generate(count: int, seed: int) -> Iterator[Request]:
    """Make distinct requests; the same count and seed give the same ones, a greater count only adds more.

    Args:
        count: From 0 to 50,000.
        seed: Any integer.

    Raises:
        ValueError: If count is out of range.
    """
    if not 0 <= count <= COUNT_MAX:
        raise ValueError(f"count is {count}; the templates make from 0 to {COUNT_MAX} distinct requests")
    return _deal(count, seed)


def _deal(count: int, seed: int) -> Iterator[Request]:
    rng = random.Random(seed)
    seen: set[str] = set()
    hand: list[str] = []
    for number in range(count):
        if not hand:
            hand = [kind for kind, cards in HAND.items() for _ in range(cards)]
            rng.shuffle(hand)
        kind = hand.pop()
        text, answer = TEMPLATES[kind](rng)
        while text in seen:
            text, answer = TEMPLATES[kind](rng)
        seen.add(text)
        yield Request(kind, f"chat-{seed}-{number:05d}", text, answer)


HAND: Final = {
    "headache": 42,
    "dose": 12,
    "division": 42,
    "math": 18,
    "search": 27,
    "search-version": 27,
    "version": 27,
    "other": 5,
}
"""How many requests of each kind are among 200."""

NAMES: Final = (
    "Ada", "Amir", "Bela", "Carla", "Chen", "Dario", "Edda", "Emeka", "Fatou", "Goran", "Hana", "Ines", "Ivo", "Jonas",
    "Kaya", "Lena", "Luca", "Mara", "Milan", "Nadia", "Noor", "Olga", "Otto", "Petra", "Quinn", "Rosa", "Samir",
    "Sven", "Tara", "Tomas", "Uma", "Vera", "Wanda", "Yusuf", "Zoe",
)  # fmt: skip
PEOPLE: Final = (
    "mother",
    "father",
    "daughter",
    "son",
    "neighbour",
    "husband",
    "wife",
    "sister",
    "brother",
    "colleague",
)
SYMPTOMS: Final = (
    "a stiff neck", "blurred vision", "a fever of 39.4", "numbness in one arm", "slurred speech", "repeated vomiting",
    "confusion", "a rash that does not fade", "a seizure this morning", "weakness on one side", "double vision",
    "trouble walking straight", "sensitivity to light", "a stab of it behind one eye",
)  # fmt: skip
ONSETS: Final = (
    "came on within a minute", "began after a fall", "woke us at night", "started during exercise",
    "is the worst ever", "gets worse when lying down", "does not yield to tablets", "followed a blow to the head",
)  # fmt: skip
TABLETS: Final = ("ibuprofen", "paracetamol", "naproxen", "aspirin", "metamizole")
GOODS: Final = (
    "litres of paint",
    "euros",
    "kilograms of flour",
    "metres of cable",
    "tickets",
    "hours of work",
    "bricks",
)
GROUPS: Final = ("people", "rooms", "teams", "boxes", "days", "families", "classes", "vans")
SERVICES: Final = (
    "billing",
    "catalogue",
    "checkout",
    "helpdesk",
    "inventory",
    "library",
    "orders",
    "recruiting",
    "wiki",
)
INDEXES: Final = ("articles", "customers", "documents", "invoices", "manuals", "messages", "recipes", "tickets")
ERRORS: Final = (
    "a 400 with an empty body", "a 404 on the old route", "a 422 about the filter", "a 500 every few calls",
    "a TypeError about keyword arguments", "an AttributeError on the client", "a time-out after 30 s", "no hits at all",
)  # fmt: skip
PYTHONS: Final = ("3.9", "3.10", "3.11", "3.12", "3.13")
GIFTS: Final = (
    "the flowers",
    "the ride to the station",
    "the long talk",
    "a lovely dinner",
    "the cake",
    "your patience",
)

Template = Callable[[random.Random], tuple[str, str | None]]


def _plain(value: Decimal) -> str:
    """A decimal number without exponent and trailing zeros."""
    return f"{value:f}".rstrip("0").rstrip(".") if "." in f"{value:f}" else f"{value:f}"


def _quotient(rng: random.Random) -> tuple[str, int, str]:
    """A dividend, a divisor and their quotient, which ends after at most three digits."""
    divisor = rng.choice((2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 20, 24, 25, 32, 40))
    quotient = Decimal(rng.randrange(11, 9_990)) / rng.choice((1, 2, 4, 10, 100))
    return _plain(quotient * divisor), divisor, _plain(quotient)


def _release(rng: random.Random) -> str:
    return f"{rng.randrange(1, 4)}.{rng.randrange(0, 15)}.{rng.randrange(0, 10)}"


def headache(rng: random.Random) -> tuple[str, str | None]:
    who, name, age = rng.choice(PEOPLE), rng.choice(NAMES), rng.randrange(6, 92)
    symptom, onset, hours = rng.choice(SYMPTOMS), rng.choice(ONSETS), rng.randrange(1, 60)
    text = rng.choice(
        (
            f"My {who} ({age}) has had a headache for {hours} hours. It {onset}, with {symptom}. What now? {name}",
            f"{name} is {age} and has a bad headache that {onset}; now there is {symptom} too. Is it serious?",
            f"I am {age}, with {symptom} and {hours} hours of headache. It {onset}. {name} says: wait. Right?",
            f"What helps my {who}, {age}, after {hours} hours of headache with {symptom}? It {onset}. {name}",
        )
    )
    return text, None


def dose(rng: random.Random) -> tuple[str, str | None]:
    who, name, tablet, symptom = rng.choice(PEOPLE), rng.choice(NAMES), rng.choice(TABLETS), rng.choice(SYMPTOMS)
    doses, each = rng.choice((2, 3, 4, 6)), rng.randrange(25, 605, 5)
    text = rng.choice(
        (
            f"My {who} has a headache and {symptom}, says {name}. The leaflet: {each * doses} mg of {tablet} a day, "
            f"divided by {doses}. How much is one dose in mg?",
            f"{name} has a headache with {symptom}. Calculate a dose: {each * doses} mg {tablet} divided by {doses}.",
        )
    )
    return text, str(each)


def division(rng: random.Random) -> tuple[str, str | None]:
    dividend, divisor, quotient = _quotient(rng)
    goods, groups, name = rng.choice(GOODS), rng.choice(GROUPS), rng.choice(NAMES)
    text = rng.choice(
        (
            f"How much is {dividend} divided by {divisor}?",
            f"Calculate {dividend} divided by {divisor}, please.",
            f"{name} has {dividend} {goods}. Calculate how many each of {divisor} {groups} gets: divide by {divisor}.",
            f"If {dividend} {goods} are divided by {divisor} {groups}, how much is it for each?",
            f"{name} wants to know: how much is {dividend} {goods}, divided by {divisor}?",
        )
    )
    return text, quotient


def math(rng: random.Random) -> tuple[str, str | None]:
    a, b, c = rng.randrange(12, 990), rng.randrange(12, 990), rng.randrange(3, 99)
    goods, name = rng.choice(GOODS), rng.choice(NAMES)
    return rng.choice(
        (
            (f"What is the sum of {a}, {b} and {c}?", str(a + b + c)),
            (f"What is the product of {a} and {c}?", str(a * c)),
            (f"How much is {a + b} minus {b}?", str(a)),
            (f"Calculate {c} percent of {a}.", _plain(Decimal(a * c) / 100)),
            (f"{name} buys {a} {goods} and then {b} more. How much is that in all?", str(a + b)),
            (f"{name} fills {c} boxes with {a} screws each. Calculate the total.", str(a * c)),
        )
    )


def search(rng: random.Random) -> tuple[str, str | None]:
    service, index, error, filters = rng.choice(SERVICES), rng.choice(INDEXES), rng.choice(ERRORS), rng.randrange(1, 9)
    old, python, limit = _release(rng), rng.choice(PYTHONS), rng.randrange(5, 500, 5)
    text = rng.choice(
        (
            f"Our {service} service, client {old}, gets {error} from the search API for {limit} {index}. Why?",
            f"The search API gives {error} on {index} with {filters} filters, client {old}. Show me a call that works.",
            f"Debug this: search API, Python {python}, index {index}, limit {limit}, {error} since client {old}.",
        )
    )
    return text, None


def search_version(rng: random.Random) -> tuple[str, str | None]:
    service, index, error = rng.choice(SERVICES), rng.choice(INDEXES), rng.choice(ERRORS)
    old, python, limit = _release(rng), rng.choice(PYTHONS), rng.randrange(5, 500, 5)
    text = rng.choice(
        (
            f"With client {old} the search API gives {error}. Which version works, and how do I fetch {limit} {index}?",
            f"Python {python}, client {old}: the search API answers {service} with {error}. Which version do I need?",
            f"How do I pin the client of the search API for {service} ({old}: {error}), and query {limit} {index}?",
        )
    )
    return text, None


def version(rng: random.Random) -> tuple[str, str | None]:
    service, index, name = rng.choice(SERVICES), rng.choice(INDEXES), rng.choice(NAMES)
    old, python, limit = _release(rng), rng.choice(PYTHONS), rng.randrange(5, 500, 5)
    text = rng.choice(
        (
            f"Which version of search-api is right for {service}, Python {python}, now {old}, for {limit} {index}?",
            f"{name} wants to pin search-api for {service}, not {old}. What goes into requirements.txt for {index}?",
            f"Is it time to pin search-api for {service} (Python {python}, now {old})? It lists {limit} {index}.",
        )
    )
    return text, None


def other(rng: random.Random) -> tuple[str, str | None]:
    name, sender, gift, lines = rng.choice(NAMES), rng.choice(NAMES), rng.choice(GIFTS), rng.randrange(2, 9)
    text = rng.choice(
        (
            f"Write {lines} lines to {name} from {sender}, with thanks for {gift}.",
            f"A short note, {lines} sentences, please: {sender} thanks {name} for {gift}.",
        )
    )
    return text, None


TEMPLATES: Final[dict[str, Template]] = {
    "headache": headache,
    "dose": dose,
    "division": division,
    "math": math,
    "search": search,
    "search-version": search_version,
    "version": version,
    "other": other,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write requests to standard output, one JSON object a line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--count", type=int, default=6_500, help=f"how many, up to {COUNT_MAX}")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        for request in generate(options.count, options.seed):
            print(request.line())
    except ValueError as trouble:
        print(f"requests.py: {trouble}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; a closed stderr keeps the interpreter from saying so at exit.
        sys.stderr.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
