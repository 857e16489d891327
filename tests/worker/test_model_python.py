"""A Python function as a model: whatever it returns or raises is a Reply."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest

from shadow.adapters.model_python import PythonModel, function_of
from shadow.errors import Usage
from shadow.records.replies import Reply
from shadow.usage import Price
from tests.worker.builders import request

HERE = "tests.worker.test_model_python"
hold = threading.Event()


class Rude(Exception):
    def __str__(self) -> str:
        raise ValueError("not even this")


def text(call: dict[str, Any]) -> str:
    return f"{call['method']} {call['path']} {call['json']['model']} {len(call['body'])}"


def echo(call: dict[str, Any]) -> bytes:
    return bytes(call["body"])


def document(call: dict[str, Any]) -> dict[str, Any]:
    return {"answer": "4", "usage": {"prompt_tokens": 10, "completion_tokens": 5}}


def raises(call: dict[str, Any]) -> str:
    raise RuntimeError("first line\nsecond line")


def raises_rudely(call: dict[str, Any]) -> str:
    raise Rude


def exits(call: dict[str, Any]) -> str:
    sys.exit(3)


def interrupts(call: dict[str, Any]) -> str:
    raise KeyboardInterrupt


def number(call: dict[str, Any]) -> Any:
    return 4


def surrogate(call: dict[str, Any]) -> str:
    return "\ud800"


def not_a_number(call: dict[str, Any]) -> dict[str, Any]:
    return {"answer": float("nan")}


def cyclic(call: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    made["self"] = made
    return made


def hangs(call: dict[str, Any]) -> str:
    hold.wait(30)
    return "late"


async def coroutine(call: dict[str, Any]) -> str:
    return "no"


NOT_CALLABLE = 4


def reply_of(function: str, times: int = 1, **options: Any) -> list[Reply]:
    async def main() -> list[Reply]:
        model = PythonModel(f"{HERE}:{function}", **({"deadline_us": 5_000_000} | options))
        try:
            calls = [model.call(request(i), "candidate", "v42") for i in range(times)]
            return list(await asyncio.gather(*calls))
        finally:
            await model.close()

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("function", "kind"),
    [("text", "text/plain; charset=utf-8"), ("echo", "application/octet-stream"), ("document", "application/json")],
)
def test_text_bytes_and_dictionaries_are_answers(function: str, kind: str) -> None:
    """
    Each of the three kinds of value becomes a body with its content type.
    """
    (reply,) = reply_of(function)

    assert (reply.outcome, reply.status, reply.error) == ("answered", 200, None)
    assert reply.headers == {"content-type": kind}
    assert reply.duration_us > 0


def test_tokens_of_a_dictionary_are_counted() -> None:
    """
    A dictionary in the shape of OpenAI's API has its usage and cost counted, and capped.
    """
    price = Price(prompt_micro=1_000_000, completion_micro=2_000_000)

    (reply,) = reply_of("document", price=price)
    assert (reply.prompt_tokens, reply.completion_tokens, reply.cost_micro) == (10, 5, 20)
    assert reply_of("document", price=price, cost_max_micro=19)[0].outcome == "error"


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("raises", "the function raised RuntimeError: first line second line"),
        ("raises_rudely", "the function raised Rude"),
        ("exits", "the function raised SystemExit: 3"),
        ("interrupts", "the function raised KeyboardInterrupt"),
        ("number", "the function's value cannot be an answer: TypeError: a int; it must return text"),
        ("surrogate", "the function's value cannot be an answer: UnicodeEncodeError"),
        ("not_a_number", "the function's value cannot be an answer: ValueError"),
        ("cyclic", "the function's value cannot be an answer: ValueError"),
    ],
)
def test_failures_are_errors(function: str, sentence: str) -> None:
    """
    Exceptions of every kind and values that are no answer are errors with a sentence.
    """
    (reply,) = reply_of(function)

    assert (reply.outcome, reply.status, reply.body) == ("error", 0, b"")
    assert reply.error is not None and reply.error.startswith(sentence)


def test_a_body_above_the_cap_is_too_large() -> None:
    """
    A value longer than the cap is not kept.
    """
    (reply,) = reply_of("echo", body_bytes_max=5)

    assert (reply.outcome, reply.body) == ("too_large", b"")


def test_hanging_calls_are_timeouts_and_threads_stay_bounded() -> None:
    """
    Ten hanging calls on two threads are ten time-outs, and no third thread appears.
    """
    hold.clear()
    before = threading.active_count()
    try:
        replies = reply_of("hangs", times=10, deadline_us=100_000, threads=2)
        assert [reply.outcome for reply in replies] == ["timeout"] * 10
        assert threading.active_count() <= before + 2
    finally:
        hold.set()


@pytest.mark.parametrize(
    "target",
    ["nothing", ":f", "m:", "no.such.module:f", f"{HERE}:missing", f"{HERE}:NOT_CALLABLE", f"{HERE}:coroutine"],
)
def test_a_target_that_is_no_function_is_refused(target: str) -> None:
    """
    A target that cannot be called is the user's to change, said before any request.
    """
    with pytest.raises(Usage, match="python model"):
        function_of(target)
