"""One worker on the log in memory: every request gets one acknowledged Answer, and commits never pass one."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from shadow.adapters.avro import decode, encode
from shadow.adapters.calls import Budget
from shadow.adapters.memory_log import MemoryLog
from shadow.adapters.model_http import HttpModel
from shadow.errors import BrokenEvidence
from shadow.metrics import Metrics
from shadow.records.answers import ERROR, TIMEOUT, Tick
from shadow.records.replies import Reply
from tests.worker.builders import (
    GROUP,
    RUN,
    TOPICS,
    HandModel,
    ServerThread,
    answers_of,
    memory_log,
    records_of,
    request,
    running,
    send,
    send_raw,
    wait_until,
    worker_of,
)


def committed(log: MemoryLog) -> dict[int, int]:
    return dict(log.group_of(GROUP, TOPICS["requests"]).committed)


def answered(log: MemoryLog) -> list[int]:
    return sorted(answer.request_offset for answer in answers_of(log))


def test_an_answer_stands_beside_its_request_with_the_exchange() -> None:
    """
    The Answer goes to the request's partition with its key, run header, trace, position and exchange.
    """
    log = memory_log(partitions=3)
    asked = request(7)
    send(log, asked, partition=2)

    with running(worker_of(log, HandModel(is_open=True))):
        wait_until(lambda: answers_of(log), "an answer")

    (record,) = records_of(log, "answers")
    answer = decode(record.value)
    assert (record.partition, record.key) == (2, b"key")
    assert record.headers == {"run": RUN.encode(), "traceparent": b"00-1-2-01"}
    assert (answer.run, answer.role, answer.version, answer.outcome) == (RUN, "candidate", "v42", "answered")
    assert (answer.request_partition, answer.request_offset) == (2, 0)
    assert answer.request_time_us == 1_700_000_000_000_000
    assert answer.body == b"request-7"
    assert answer.exchange == asked


def test_commits_never_pass_an_unanswered_request() -> None:
    """
    Replies come in the order 2, 3, 1; the offset moves only when 1 is there.
    """
    log = memory_log()
    send(log, request(0), request(1), request(2), request(3))
    model = HandModel()
    metrics = Metrics("worker", {"role": ["candidate"]})

    #  request   0  1  2  3
    #  answered  x     x  x    -> the next owner begins at 1
    with running(worker_of(log, model, metrics=metrics, concurrency=(4, 4))):
        wait_until(lambda: len(model.held()) == 4, "four calls")
        for number in (0, 2, 3):
            model.release(number)
        wait_until(lambda: answered(log) == [0, 2, 3], "three answers")
        wait_until(lambda: committed(log) == {0: 1}, "offset 1 is committed")
        model.release(1)
        wait_until(lambda: committed(log) == {0: 4}, "offset 4 is committed")

    assert model.is_closed
    assert metrics.value("shadow_worker_requests_total", role="candidate", result="answered") == 4


def test_calls_under_way_never_exceed_the_limit() -> None:
    """
    With at most three calls at once, a fourth waits.
    """
    log = memory_log()
    send(log, *[request(n) for n in range(30)])
    model = HandModel()

    with running(worker_of(log, model, concurrency=(3, 3))):
        for number in range(30):
            model.release(number)
        wait_until(lambda: len(answered(log)) == 30, "all answers")

    assert model.most_at_once == 3


def test_partitions_are_paused_instead_of_buffering() -> None:
    """
    A worker that waits for its model takes no more than it may hold, and goes on when there is room.
    """
    log = memory_log(partitions=2)
    for partition in (0, 1):
        send(log, *[request(100 * partition + n) for n in range(50)], partition=partition)
    metrics = Metrics("worker", {"role": ["candidate"]})
    model = HandModel()

    with running(worker_of(log, model, metrics=metrics, waiting_max=10, concurrency=(1, 64))):

        def paused() -> float:
            metrics.text()
            return metrics.value("shadow_worker_paused_partitions", role="candidate")

        wait_until(lambda: paused() == 2, "both partitions are paused")
        assert metrics.value("shadow_worker_waiting", role="candidate") <= 12
        model.release_all(lambda: len(answered(log)) == 100)


def test_a_size_limit_pauses_too() -> None:
    """
    Large requests are held back by their bytes, not only by their number.
    """
    log = memory_log()
    send(log, *[request(n, body=b"x" * 10_000) for n in range(40)])
    metrics = Metrics("worker", {"role": ["candidate"]})
    model = HandModel()

    with running(worker_of(log, model, metrics=metrics, waiting_bytes_max=50_000, concurrency=(40, 40))):

        def paused() -> float:
            metrics.text()
            return metrics.value("shadow_worker_paused_partitions", role="candidate")

        wait_until(lambda: paused() == 1, "the partition is paused")
        assert len(model.held()) <= 17
        model.release_all(lambda: len(answered(log)) == 40)


@pytest.mark.parametrize("poison", [b"junk", b"", encode(Tick("another-record"))])
def test_poison_becomes_a_dead_letter_and_the_partition_goes_on(poison: bytes) -> None:
    """
    What cannot be decoded is put aside with its position and error, and answered as unreadable.
    """
    log = memory_log()
    send(log, request(0))
    send_raw(log, poison)
    send(log, request(2))
    metrics = Metrics("worker", {"role": ["candidate"]})

    with running(worker_of(log, HandModel(is_open=True), metrics=metrics)):
        wait_until(lambda: committed(log) == {0: 3}, "everything is committed")

    (record,) = records_of(log, "dead_letters")
    letter = decode(record.value)
    assert record.key == b"shadow-requests/0/1"
    assert (letter.topic, letter.partition, letter.offset, letter.value) == ("shadow-requests", 0, 1, poison)
    assert letter.error and letter.process == "worker-1"
    by_offset = {answer.request_offset: answer for answer in answers_of(log)}
    assert by_offset[1].outcome == "unreadable"
    assert by_offset[1].exchange is None
    assert sorted(by_offset) == [0, 1, 2]
    assert metrics.value("shadow_dead_letters_total", topic="shadow-requests") == 1


def test_requests_that_are_not_the_roles_are_passed_over() -> None:
    """
    A role that is not asked, or whose answer the user got, writes nothing, and the offset moves on.
    """
    log = memory_log()
    live = request(1).live
    assert live is not None
    send(log, request(0), request(1, live=replace(live, role="candidate", version="v42")), request(2, live=None))

    model = HandModel(is_open=True)
    with running(worker_of(log, model)):
        wait_until(lambda: committed(log) == {0: 3}, "everything is committed")
    assert answered(log) == [0, 2]

    metrics = Metrics("worker", {"role": ["candidate"]})
    send(log, *[request(n) for n in range(3, 403)])
    with running(worker_of(log, model, metrics=metrics, rate=0.25)):
        wait_until(lambda: committed(log) == {0: 403}, "everything is committed")
    asked = metrics.value("shadow_worker_requests_total", role="candidate", result="answered")
    assert 60 <= asked <= 140
    assert metrics.value("shadow_worker_requests_total", role="candidate", result="not_asked") == 400 - asked


@pytest.mark.parametrize("budget", [Budget(calls=5), Budget(cost_micro=500)], ids=["of calls", "of cost"])
def test_a_spent_budget_refuses_calls(budget: Budget) -> None:
    """
    After the budget the model is not called any more, and every request is answered as refused.
    """
    log = memory_log()
    send(log, *[request(n) for n in range(12)])
    model = HandModel()
    metrics = Metrics("worker", {"role": ["candidate"]})
    reply = Reply("answered", 200, body=b"ok", duration_us=1000, cost_micro=100)

    with running(worker_of(log, model, budget=budget, metrics=metrics, concurrency=(1, 1))):
        for number in range(5):
            model.release(number, reply)
        wait_until(lambda: committed(log) == {0: 12}, "everything is committed")
        metrics.text()

    outcomes = {answer.request_offset: answer.outcome for answer in answers_of(log)}
    assert [outcomes[n] for n in range(12)] == ["answered"] * 5 + ["refused"] * 7
    assert len(model.started) == 5
    assert metrics.value("shadow_worker_budget_spent_ratio", role="candidate") == 1.0
    assert metrics.value("shadow_worker_cost_total", role="candidate") == pytest.approx(0.0005)


def test_an_answer_too_large_for_the_producer_goes_without_bodies() -> None:
    """
    The request is still accounted for: outcome too_large, no body, no exchange.
    """
    log = memory_log(record_bytes_max=20_000)
    send(log, request(0))
    reply = Reply("answered", 200, {"content-type": "text/plain"}, b"x" * 30_000, 1, 2, 3)
    model = HandModel()

    with running(worker_of(log, model)):
        model.release(0, reply)
        wait_until(lambda: committed(log) == {0: 1}, "it is committed")

    (answer,) = answers_of(log)
    assert (answer.outcome, answer.status, answer.body, answer.exchange) == ("too_large", 200, b"", None)
    assert "larger than the 20000 allowed" in (answer.error or "")


def test_a_reply_that_cannot_be_written_down_is_our_trouble() -> None:
    """
    A reply that no schema holds lowers coverage instead of ending the worker.
    """
    log = memory_log()
    send(log, request(0))
    model = HandModel()

    with running(worker_of(log, model)):
        model.release(0, Reply("answered", 200, {"x": "\ud800"}, b"ok", 1, 2, 3))
        wait_until(lambda: committed(log) == {0: 1}, "it is committed")

    (answer,) = answers_of(log)
    assert answer.outcome == "refused"
    assert answer.exchange == request(0)


class Faulty:
    """A model adapter with a defect of its own."""

    async def call(self, request: Any, role: str, version: str) -> Reply:
        raise ZeroDivisionError("a defect")

    async def close(self) -> None:
        return None


def test_a_defect_in_a_call_blames_nobody_and_stops_nothing() -> None:
    """
    An exception out of a model adapter is logged and answered as refused.
    """
    log = memory_log()
    send(log, request(0), request(1))

    with running(worker_of(log, Faulty())):
        wait_until(lambda: committed(log) == {0: 2}, "everything is committed")

    assert [answer.outcome for answer in answers_of(log)] == ["refused", "refused"]


def test_a_drain_lets_calls_end_and_cuts_off_the_rest() -> None:
    """
    After the stop, a call that ends in time is written, one that does not writes nothing and is made again.
    """
    log = memory_log()
    send(log, request(0), request(1), request(2))
    model = HandModel()

    with running(worker_of(log, model, concurrency=(2, 2), drain_s=0.3)) as stop:
        wait_until(lambda: len(model.held()) == 2, "two calls")
        stop.set()
        model.release(0)
    assert answered(log) == [0]
    assert "request-1" in model.cut_off
    assert {*model.cut_off} == {*model.started} - {"request-0"}
    assert committed(log) == {0: 1}

    with running(worker_of(log, HandModel(is_open=True))):
        wait_until(lambda: answered(log) == [0, 1, 2], "the next worker answers the rest")


def test_a_lost_partitions_results_are_dropped() -> None:
    """
    Another member takes a partition over: its calls are cut off here and made again there.
    """
    log = memory_log(partitions=2)
    send(log, request(0), partition=0)
    send(log, request(1), partition=1)
    first, second = HandModel(), HandModel(is_open=True)

    with running(worker_of(log, first, concurrency=(4, 4), drain_s=0.0)):
        wait_until(lambda: len(first.held()) == 2, "both are called by the first worker")
        with running(worker_of(log, second, member="worker-2")):
            wait_until(lambda: len(second.started) == 1, "the second worker calls again")
            wait_until(lambda: first.cut_off == second.started, "the first one's call is cut off")
            (kept,) = first.held()
            first.release(int(kept.removeprefix("request-")))
            wait_until(lambda: len(answers_of(log)) == 2, "both are answered")

    assert sorted(answer.request_partition for answer in answers_of(log)) == [0, 1]


def test_kafka_away_loses_nothing() -> None:
    """
    While the log is away the worker is not ready and keeps its replies; then it writes them, once.
    """
    log = memory_log()
    send(log, *[request(n) for n in range(5)])
    model = HandModel()
    worker = worker_of(log, model, concurrency=(5, 5))

    with running(worker):
        wait_until(lambda: len(model.held()) == 5, "all are called")
        assert worker.readiness() == (True, "ok")
        log.stop()
        for number in range(5):
            model.release(number)
        wait_until(lambda: not worker.readiness()[0], "it is not ready")
        assert worker.readiness()[1].startswith("kafka: ")
        log.start()
        wait_until(lambda: committed(log) == {0: 5}, "everything is committed")

    assert answered(log) == [0, 1, 2, 3, 4]


def test_requests_lost_from_the_log_end_the_worker() -> None:
    """
    A position that retention has passed is never skipped silently.
    """
    log = memory_log()
    send(log, request(0), request(1))
    log.truncate(TOPICS["requests"], 0, before=1)
    model = HandModel(is_open=True)

    with (
        pytest.raises(BrokenEvidence, match="shadow-requests/0: offset 0 is not in the log"),
        running(worker_of(log, model)),
    ):
        wait_until(lambda: model.is_closed, "the worker ends")

    assert answered(log) == []


def test_before_its_first_partitions_a_worker_is_not_ready() -> None:
    """
    Readiness names what the worker waits for.
    """
    log = memory_log()
    worker = worker_of(log, HandModel())

    assert worker.readiness() == (False, "waiting for partitions of shadow-requests")
    with running(worker):
        wait_until(lambda: worker.readiness()[0], "it is ready")


def test_a_misbehaving_http_model_gives_an_answer_for_every_request() -> None:
    """
    A model that fails, hangs, closes early and sends garbage in turn gets one Answer each, with the outcome.
    """
    turns = itertools.count()

    async def handler(got: web.Request) -> web.StreamResponse:
        turn = next(turns) % 5
        assert got.transport is not None
        if turn == 0:
            return web.Response(text="fine")
        if turn == 1:
            return web.Response(status=500)
        if turn == 2:
            await asyncio.sleep(60)
        if turn == 3:
            got.transport.abort()
        if turn == 4:
            got.transport.write(b"\x00\x01garbage\r\n\r\n")
            got.transport.close()
        return web.Response()

    log = memory_log()
    send(log, *[request(n) for n in range(20)])
    with ServerThread(handler) as server:
        model = HttpModel(server.url, deadline_us=100_000)
        with running(worker_of(log, model, concurrency=(4, 4))):
            wait_until(lambda: committed(log) == {0: 20}, "everything is committed")

    outcomes = [answer.outcome for answer in answers_of(log)]
    assert outcomes.count("answered") == 4
    assert outcomes.count(TIMEOUT) == 4
    assert outcomes.count(ERROR) == 12


def test_a_fenced_member_joins_again() -> None:
    """
    Kafka answers but takes this member for another (as after a broker's restart): it joins anew and goes on.
    """
    log = memory_log()
    model = HandModel(is_open=True)

    with running(worker_of(log, model)):
        send(log, request(0))
        wait_until(lambda: committed(log) == {0: 1}, "the first is answered and committed")
        log.group_of(GROUP, TOPICS["requests"]).join("worker-1")
        send(log, request(1))
        wait_until(lambda: answered(log) == [0, 1], "the second is answered", within_s=20)
