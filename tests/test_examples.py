"""The examples' requests and processes, and what the scripted assistant answers, asked as real services."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from shadow.settings.loader import load
from tests.example_services import ASSISTANT, DIGITS, EXAMPLES, START_S, Service, ask, module_at, service

ASKED = 2_000
CHATS = ("production", "candidate_a", "candidate_b")

chats = module_at(ASSISTANT / "requests.py")
images = module_at(DIGITS / "requests.py")


@pytest.fixture(scope="module")
def chat_services() -> Iterator[dict[str, Service]]:
    with (
        service(ASSISTANT / "production.py") as production,
        service(ASSISTANT / "candidate_a.py") as candidate_a,
        service(ASSISTANT / "candidate_b.py") as candidate_b,
        service(ASSISTANT / "reward.py") as reward,
    ):
        yield dict(zip((*CHATS, "reward"), (production, candidate_a, candidate_b, reward), strict=True))


@pytest.fixture(scope="module")
def asked() -> list[Any]:
    return list(chats.generate(ASKED, 1))


@pytest.fixture(scope="module")
def completions(chat_services: dict[str, Service], asked: list[Any]) -> dict[str, list[Any]]:
    calls = [(chats.PATH, request.headers, request.body) for request in asked]
    return {name: ask(chat_services[name].url, calls) for name in CHATS}


@pytest.fixture(scope="module")
def texts(completions: dict[str, list[Any]]) -> dict[str, list[str]]:
    return {name: [reply["choices"][0]["message"]["content"] for reply in all_] for name, all_ in completions.items()}


@pytest.fixture(scope="module")
def scores(chat_services: dict[str, Service], asked: list[Any], texts: dict[str, list[str]]) -> dict[str, list[float]]:
    result = {}
    for name in CHATS:
        bodies = [{"request": request.body, "answer": text} for request, text in zip(asked, texts[name], strict=True)]
        replies = ask(chat_services["reward"].url, [("/score", {}, body) for body in bodies])
        result[name] = [reply["score"] for reply in replies]
    return result


def rate(asked: Sequence[Any], texts: Sequence[str], slice_: str | None, passes: Callable[[Any, str], bool]) -> float:
    """Share of the answers in a slice that pass."""
    pattern = chats.SLICES[slice_] if slice_ else ""
    outcomes = [
        passes(request, text) for request, text in zip(asked, texts, strict=True) if re.search(pattern, request.text)
    ]
    return sum(outcomes) / len(outcomes)


def is_right(request: Any, text: str) -> bool:
    found = re.search(r"<answer>(.*?)</answer>", text)
    return (
        found is not None
        and re.fullmatch(r"-?[\d.]+", found[1]) is not None
        and float(found[1]) == float(request.answer)
    )


def is_urgent(_request: Any, text: str) -> bool:
    return "urgent care" in text or "emergency" in text


def is_pinned(_request: Any, text: str) -> bool:
    return "search-api==4.2.0" in text


def is_current(_request: Any, text: str) -> bool:
    return "legacy_lookup" not in text


def is_tagged(_request: Any, text: str) -> bool:
    return re.search(r"<answer>.+</answer>", text) is not None


@pytest.mark.parametrize(("module", "count"), [(chats, 3_000), (images, 1_500)], ids=["assistant", "digits"])
def test_the_same_seed_makes_the_same_requests(module: Any, count: int) -> None:
    """
    A seed fixes the requests, a greater count only adds more, and another seed makes others.
    """
    first = list(module.generate(count, 1))

    assert first[:500] == list(module.generate(500, 1))
    assert first == list(module.generate(count, 1))
    assert first != list(module.generate(count, 2))


def test_chat_requests_are_distinct_and_each_in_its_own_session() -> None:
    """
    6,500 requests have 6,500 texts and 6,500 sessions.
    """
    requests = list(chats.generate(6_500, 1))

    assert 6_500 == len({request.text for request in requests}) == len({request.session_id for request in requests})


@pytest.mark.parametrize("count", [1_000, 5_000])
@pytest.mark.parametrize("slice_", chats.SLICES)
def test_each_slice_holds_its_share_of_every_prefix(slice_: str, count: int) -> None:
    """
    26 to 45 % of the first requests are in each slice, so that 5,000 bring more than 1,250.
    """
    requests = list(chats.generate(6_500, 1))[:count]

    share = sum(re.search(chats.SLICES[slice_], request.text) is not None for request in requests) / count

    assert 0.26 <= share <= 0.45


def test_slices_overlap_as_told() -> None:
    """
    Every division is arithmetic, half of the search-API requests ask for a version, and some requests are in no slice.
    """
    held = [
        {name for name, pattern in chats.SLICES.items() if re.search(pattern, request.text)}
        for request in chats.generate(2_000, 1)
    ]
    both = sum({"debug-search-api", "version-pinning"} <= names for names in held)

    assert all("math" in names for names in held if "division" in names)
    assert 0.45 <= both / sum("debug-search-api" in names for names in held) <= 0.55
    assert any(not names for names in held)


@pytest.mark.parametrize("directory", [ASSISTANT, DIGITS], ids=lambda path: path.name)
def test_script_writes_the_requests_as_lines(directory: Path) -> None:
    """
    `python requests.py` writes what `generate` makes, one JSON object a line, and refuses a count out of range.
    """
    module = chats if directory == ASSISTANT else images
    command = [sys.executable, str(directory / "requests.py"), "--seed", "3", "--count"]

    written = subprocess.run([*command, "20"], capture_output=True, text=True, check=True)
    refused = subprocess.run([*command, "-1"], capture_output=True, text=True, check=False)

    expected = [
        {"method": "POST", "path": module.PATH, "headers": request.headers, "body": request.body}
        for request in module.generate(20, 3)
    ]
    assert expected == [json.loads(line) for line in written.stdout.splitlines()]
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/shadow-*.yaml")), ids=lambda path: path.stem)
def test_configuration_loads(path: Path) -> None:
    """
    Each configuration loads without a problem, and the assistant's slices are those of its requests.
    """
    settings = load(path, {})

    assert ["shadow"] == [stage.name for stage in settings.policy().stages]
    if path.parent == ASSISTANT:
        assert chats.SLICES == {spec.name: spec.text for spec in settings.slice_specs()}


# Tolerances are three to four standard errors: 0.017 for a rate of 0.8 among the 540 divisions, for example.
@pytest.mark.parametrize(
    ("version", "slice_", "passes", "expected", "tolerance"),
    [
        ("production", "division", is_right, 0.79, 0.05),
        ("production", "headache-red-flags", is_urgent, 0.95, 0.03),
        ("production", "debug-search-api", is_pinned, 0.91, 0.04),
        ("production", "debug-search-api", is_current, 0.98, 0.02),
        ("production", None, is_tagged, 0.99, 0.01),
        ("candidate_a", "division", is_right, 0.80, 0.05),
        ("candidate_a", "debug-search-api", is_pinned, 0.30, 0.06),
        ("candidate_a", "version-pinning", is_pinned, 0.30, 0.06),
        ("candidate_a", "debug-search-api", is_current, 0.30, 0.06),
        ("candidate_a", None, is_tagged, 0.99, 0.01),
        ("candidate_b", "division", is_right, 0.927, 0.035),
        ("candidate_b", "headache-red-flags", is_urgent, 0.98, 0.02),
        ("candidate_b", "version-pinning", is_pinned, 0.985, 0.015),
        ("candidate_b", "debug-search-api", is_current, 0.995, 0.005),
        ("candidate_b", None, is_tagged, 0.997, 0.005),
    ],
)
def test_versions_do_as_well_as_the_readme_says(
    asked: list[Any],
    texts: dict[str, list[str]],
    version: str,
    slice_: str | None,
    passes: Callable[[Any, str], bool],
    expected: float,
    tolerance: float,
) -> None:
    """
    The rates of the table, counted over 2,000 answers, are met within the tolerance.
    """
    assert rate(asked, texts[version], slice_, passes) == pytest.approx(expected, abs=tolerance)


def test_few_pairs_differ_by_luck(asked: list[Any], texts: dict[str, list[str]]) -> None:
    """
    Where candidate B is wrong in a division, production mostly is too: under 2 % of the divisions are losses.
    """
    pairs = zip(asked, texts["production"], texts["candidate_b"], strict=True)
    divisions = [(is_right(r, p), is_right(r, c)) for r, p, c in pairs if re.search(chats.SLICES["division"], r.text)]

    assert sum(p and not c for p, c in divisions) / len(divisions) < 0.02


def test_reward_model_likes_the_wrong_candidate_best(scores: dict[str, list[float]]) -> None:
    """
    The reward passes candidate A more often than B, and B more often than production; never beyond [0, 1].
    """
    passed = {name: sum(score >= 0.5 for score in all_) / ASKED for name, all_ in scores.items()}

    assert passed["candidate_a"] > passed["candidate_b"] > passed["production"]
    assert passed["production"] == pytest.approx(0.85, abs=0.03)
    assert passed["candidate_a"] == pytest.approx(0.93, abs=0.02)
    assert all(0 <= score <= 1 for all_ in scores.values() for score in all_)


def test_cost_stays_within_the_rule(completions: dict[str, list[Any]]) -> None:
    """
    By tokens and prices, A costs under 1.08 of production, and B under 0.98.
    """
    cost = {
        name: sum(2.0 * r["usage"]["prompt_tokens"] + 8.0 * r["usage"]["completion_tokens"] for r in all_)
        for name, all_ in completions.items()
    }

    assert 1.0 < cost["candidate_a"] / cost["production"] < 1.08
    assert 0.94 < cost["candidate_b"] / cost["production"] < 0.98


def test_code_in_answers_is_python(texts: dict[str, list[str]]) -> None:
    """
    Every fenced block parses, so that a grader can read its syntax tree.
    """
    blocks = [
        block for all_ in texts.values() for text in all_ for block in re.findall(r"```python\n(.*?)```", text, re.S)
    ]

    assert len(blocks) > ASKED
    assert all(ast.parse(block).body for block in blocks)


def test_streamed_answer_is_the_plain_one(chat_services: dict[str, Service], asked: list[Any]) -> None:
    """
    The openai client reads the same text and the same usage from a stream as from a plain answer.
    """
    messages: Any = [{"role": "user", "content": asked[0].text}]
    with openai.OpenAI(base_url=chat_services["production"].url + "/v1", api_key="none", max_retries=0) as client:
        plain = client.chat.completions.create(model="assistant", messages=messages)
        with client.chat.completions.create(model="assistant", messages=messages, stream=True) as stream:
            chunks = list(stream)

    streamed = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert plain.choices[0].message.content == streamed
    assert plain.usage == chunks[-1].usage
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason is not None] == ["stop"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"messages": 1}', b'{"messages": [{"role": "system"}]}', b"\xff"])
def test_malformed_chat_is_refused_with_a_sentence(chat_services: dict[str, Service], body: bytes) -> None:
    """
    What is no chat request gets 400 and OpenAI's error shape.
    """

    async def post() -> tuple[int, Any]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(chat_services["production"].url + chats.PATH, data=body) as response,
        ):
            return response.status, await response.json()

    status, reply = asyncio.run(post())

    assert (status, reply["error"]["type"]) == (400, "invalid_request_error")


def test_bad_clients_leave_no_trace() -> None:
    """
    Clients that leave in the middle of a stream, or send garbage, make the service say nothing, and it serves on.
    """
    body = json.dumps({"stream": True, "messages": [{"role": "user", "content": "A headache?"}]})
    call = f"POST {chats.PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    # The fixture `service` fails on any word that the process says after its first line.
    with service(ASSISTANT / "production.py") as running:
        address = ("127.0.0.1", int(running.url.rsplit(":", 1)[1]))
        for garbage in (b"garbage\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"\x16\x03\x01\x00\xff"):
            with socket.create_connection(address) as client:
                client.sendall(garbage)
                client.recv(100)
        for _ in range(5):
            with socket.create_connection(address) as client:
                client.sendall(call)
                assert client.recv(100).startswith(b"HTTP/1.1 200")

        assert ask(running.url, [(chats.PATH, {}, json.loads(body) | {"stream": False})])[0]["choices"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_a_service_with_status_0(number: signal.Signals) -> None:
    """
    A signal ends the service at once, with status 0 and no further word.
    """
    with service(ASSISTANT / "reward.py") as running:
        running.process.send_signal(number)

        assert running.process.wait(START_S) == 0


def test_taken_port_is_one_sentence() -> None:
    """
    A port in use ends the second service with status 2 and one line that names it.
    """
    with service(ASSISTANT / "reward.py") as running:
        port = running.url.rsplit(":", 1)[1]
        second = subprocess.run(
            [sys.executable, str(ASSISTANT / "reward.py"), "--port", port], capture_output=True, text=True, check=False
        )

    assert second.returncode == 2
    assert (
        f"assistant reward model: port {port} on 127.0.0.1 cannot be taken: Address already in use\n" == second.stderr
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_service_ends_with_its_parent() -> None:
    """
    When the process that started a service is killed, the service ends too.
    """
    starter = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, sys.argv[1], '--port', '0'], stderr=subprocess.PIPE, text=True)\n"
        "child.stderr.readline()\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    command = [sys.executable, "-c", starter, str(ASSISTANT / "reward.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()

    deadline = time.monotonic() + START_S
    while is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether a process is there and is no zombie that nobody has waited for."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
