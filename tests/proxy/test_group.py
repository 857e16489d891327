"""Several proxy processes on one port: shared load, summed metrics, restarts, the switch, and the drain."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shadow.adapters.embedded import free_port
from shadow.adapters.summed import read, summed, written
from tests.cli.conftest import CommandLine
from tests.flow.harness import wait_until
from tests.proxy.kit import Upstream, connect, echo, get, post
from tests.proxy.scrape import metrics_text
from tests.proxy.stack import Stack

NOWHERE = "redis://127.0.0.1:1/0"


def two(tree: dict[str, Any]) -> None:
    tree["proxy"]["processes"] = 2
    # Kafka is away in most of these, and what waits for it need not be waited for.
    tree["proxy"]["timeouts"] = {"drain": "1s"}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(echo) as serving:
        yield serving


def send(port: int, count: int) -> None:
    """Each request on a connection of its own, so that the kernel spreads them."""
    for number in range(count):
        with connect(port) as client:
            client.send(post(b'{"n": %d}' % number, "/v1/chat", "Connection: close"))
            assert b'{"n": %d}' % number == client.message()[2]


def _sent_until_all_know_kafka(stack: Stack) -> int:
    """Requests sent until every process knows the topic: those before are counted as `kafka_down`."""
    sent = 0

    def is_warm() -> bool:
        nonlocal sent
        before = stack.account().dropped.get("kafka_down", 0)
        send(stack.port, 20)
        sent += 20
        wait_until(lambda: stack.account().seen == sent, "every request is seen")
        return stack.account().dropped.get("kafka_down", 0) == before

    wait_until(is_warm, "all processes know the topic")
    return sent


def children_of(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_requests_are_shared_copied_once_and_summed(tmp_path, kafka, upstream):
    """All are answered and copied once, by both processes; one page of metrics counts them all."""
    with Stack(tmp_path, kafka.bootstrap, NOWHERE, production=upstream.port, change=two) as stack:
        stack.create_topics()
        stack.start_proxy()
        first = _sent_until_all_know_kafka(stack)
        send(stack.port, 100)
        settled = stack.settled(first + 100)
        assert (first + 100, 0) == (settled.seen, settled.unaccounted)
        copies = [copy for _, copy in stack.copies()]
        assert {b'{"n": %d}' % number for number in range(100)} == {copy.body for copy in copies}
        processes = {copy.origin.process.rpartition("/")[2] for copy in copies}
        # Each connection falls to one of two by its ports' hash: 2^-99 that all fall to one.
        assert {"1", "2"} == processes
        answered = f'shadow_proxy_requests_total{{code_class="2xx"}} {first + 100}.0'
        assert answered in metrics_text(stack.tree["admin"]["proxy"])
        observed = re.search(r"shadow_proxy_overhead_seconds_count (\d+)", metrics_text(stack.tree["admin"]["proxy"]))
        assert observed is not None
        # One of sixteen, counted by each process on its own.
        assert (first + 100) // 16 - 1 <= int(observed[1]) <= (first + 100) // 16
        assert 0 == stack.ended("proxy")
        finals = stack.final_reports()
        assert first + 100 == sum(report.seen for _, report in finals)
        assert {"1", "2"} == {report.process.rpartition("/")[2] for _, report in finals}


def test_a_process_that_dies_is_started_again_and_nothing_is_uncounted(tmp_path, upstream):
    """kill -9 of one of two, with Kafka away: the other serves, the sums do not go back, and two serve again."""
    nobody = f"127.0.0.1:{free_port()}"
    with Stack(tmp_path, nobody, NOWHERE, production=upstream.port, change=two) as stack:
        stack.start_proxy()
        send(stack.port, 50)
        wait_until(lambda: stack.account().seen == 50, "every request is seen")
        before = children_of(stack.pid("proxy"))
        wait_until(lambda: len(children_of(stack.pid("proxy"))) == 2, "two processes")
        os.kill(before[0], signal.SIGKILL)
        assert 50 == stack.account().seen

        def are_two_again() -> bool:
            now = children_of(stack.pid("proxy"))
            return len(now) == 2 and before[0] not in now

        wait_until(are_two_again, "two processes again")
        wait_until(lambda: _serves(stack.port), "a process that serves")
        seen = stack.account().seen
        assert seen >= 50
        send(stack.port, 50)
        wait_until(lambda: stack.account().seen == seen + 50, "the requests after it")
        assert 200 == stack.readiness("proxy")


def _serves(port: int) -> bool:
    try:
        send(port, 1)
    except (OSError, EOFError):
        return False
    return True


def test_the_switch_reaches_all_processes_and_those_that_come_later(tmp_path, upstream):
    """`shadow off` with Kafka, Redis and the gate away, then kill -9 of one: still off; `shadow on`: on."""
    nobody = f"127.0.0.1:{free_port()}"
    with Stack(tmp_path, nobody, NOWHERE, production=upstream.port, change=two) as stack:
        command = CommandLine(tmp_path)
        stack.start_proxy()
        address = f"127.0.0.1:{stack.tree['admin']['proxy']}"
        done = command("off", "-c", "shadow.yaml")
        assert (0, f"{address} is off\n") == (done.returncode, done.stdout)
        assert "shadow_proxy_on 0.0" in metrics_text(stack.tree["admin"]["proxy"])
        victim = children_of(stack.pid("proxy"))[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(
            lambda: victim not in (now := children_of(stack.pid("proxy"))) and len(now) == 2, "two processes again"
        )
        wait_until(lambda: _serves(stack.port), "a process that serves")
        send(stack.port, 20)
        wait_until(lambda: stack.account().dropped["off"] >= 21, "all switched off")
        assert 0 == stack.account().mirrored
        assert 0 == command("on", "-c", "shadow.yaml").returncode
        wait_until(lambda: "shadow_proxy_on 1.0" in metrics_text(stack.tree["admin"]["proxy"]), "all switched on")
        send(stack.port, 20)
        wait_until(lambda: stack.account().mirrored == 20, "copies again")


def test_switching_says_which_proxies_do_not_answer(tmp_path):
    """Exit 5 and a sentence for each; an address that is none is a usage error."""
    with Stack(tmp_path, "127.0.0.1:1", NOWHERE, production=1):
        command, port = CommandLine(tmp_path), free_port()
        done = command("off", "-c", "shadow.yaml", "--proxy", f"127.0.0.1:{port}", "--proxy", "127.0.0.1:1")
        assert (5, "") == (done.returncode, done.stdout)
        for away in (port, 1):
            assert f"127.0.0.1:{away} is not switched off: Connection refused" in done.stderr
        done = command("on", "-c", "shadow.yaml", "--proxy", "nowhere")
        assert (2, True) == (done.returncode, "--proxy: read 'nowhere', must be host:port" in done.stderr)


def test_the_switch_asks_for_the_token(tmp_path, upstream):
    """Where one is configured; without it 401, and the proxy stays on. A name is refused where none is."""
    with Stack(tmp_path, "127.0.0.1:1", NOWHERE, production=upstream.port) as stack:
        stack.tree["admin"]["token"] = "env:ADMIN_TOKEN"
        stack.write()
        os.environ["ADMIN_TOKEN"] = "let-me-in"
        try:
            stack.start_proxy()
            command = CommandLine(tmp_path)
            command.environment["ADMIN_TOKEN"] = "wrong"
            done = command("off", "-c", "shadow.yaml")
            assert (5, True) == (done.returncode, "a token is needed" in done.stderr)
            assert "shadow_proxy_on 1.0" in metrics_text(stack.tree["admin"]["proxy"])
            command.environment["ADMIN_TOKEN"] = "let-me-in"
            assert 0 == command("off", "-c", "shadow.yaml").returncode
            assert "shadow_proxy_on 0.0" in metrics_text(stack.tree["admin"]["proxy"])
        finally:
            del os.environ["ADMIN_TOKEN"]


def test_readiness_ends_before_accepting_does(tmp_path, upstream):
    """SIGTERM: /readyz says no while new connections are still served; a group does the same."""
    for change in (lambda tree: None, two):
        with Stack(tmp_path, "127.0.0.1:1", NOWHERE, production=upstream.port, change=change) as stack:
            stack.tree["proxy"]["timeouts"] = {"drain_delay": "5min"}
            stack.write()
            stack.start_proxy()
            os.kill(stack.pid("proxy"), signal.SIGTERM)
            wait_until(lambda stack=stack: stack.readiness("proxy") == 503, "no longer ready")
            with connect(stack.port) as client:
                client.send(get("/", "Connection: close"))
                assert "HTTP/1.1 200 OK" == client.message()[0]
            stack.kill("proxy")


def test_pages_are_summed_and_flags_are_not():
    """Counters and histograms add up, a share does not, and a flag is down where it is down in one."""
    one = read(
        "# TYPE shadow_proxy_on gauge\nshadow_proxy_on 1.0\n# TYPE shadow_proxy_share_ratio gauge\n"
        "shadow_proxy_share_ratio 0.25\n# TYPE shadow_mirror_seen counter\nshadow_mirror_seen_total 3.0\n"
        '# TYPE t histogram\nt_bucket{le="1.0"} 2.0\nt_bucket{le="+Inf"} 3.0\nt_count 3.0\nt_sum 4.5\n'
    )
    other = read(written(one).decode().replace("shadow_proxy_on 1.0", "shadow_proxy_on 0.0"))
    total = written(summed([one, other])).decode()
    for line in (
        "shadow_proxy_on 0.0",
        "shadow_proxy_share_ratio 0.25",
        "shadow_mirror_seen_total 6.0",
        't_bucket{le="1.0"} 4.0',
        "t_sum 9.0",
    ):
        assert line in total.splitlines()
    assert "shadow_proxy_on" not in written(one.counters()).decode()
