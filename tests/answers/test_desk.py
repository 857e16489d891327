"""Which requests people are asked, what they may answer, and what is written of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shadow.adapters.content import content_of
from shadow.bodies import json_of
from shadow.cli.answers import plan_of
from shadow.desk import intake
from shadow.desk.intake import Receipt, Rejected
from shadow.errors import Unavailable, Usage
from shadow.gate.history import Run
from shadow.records.comparisons import HUMAN
from shadow.stream.answer import is_asked
from tests.answers.world import HOUR_US, Review, answered
from tests.replay.world import TOPICS, settings_of, tree_of
from tests.stream.builders import request


def test_people_are_asked_their_share_and_nothing_else() -> None:
    """
    Exported are the requests of the run whose keys people are asked; the rest, and what cannot be read, is counted.
    """
    review = Review()
    asked, told = review.questions()
    expected = [number for number in range(1, 41) if is_asked(HUMAN, f"key-{number}", 0.5)]
    assert [f"request-{number}" for number in expected] == [question["request_id"] for question in asked]
    assert (len(expected), 40 - len(expected), 2, 0, 0) == (
        told.exported,
        told.sampled_out,
        told.unreadable,
        told.answered,
        told.overdue,
    )
    # One record of an earlier run stands before the first request of this one.
    assert {"position": f"0/{expected[0]}", "run": review.run, "path": "/v1/chat"}.items() <= asked[0].items()
    assert "please search" == asked[0]["request"]["text"]
    assert "right" not in str(asked[0])


def test_a_request_nested_too_deeply_is_asked_as_text() -> None:
    """
    A body that can be read as JSON and not be written as it again stops nobody's questions.
    """
    review = Review(requests=(2, 0), sample=1.0)
    body = b'{"a":' + b"[" * 300 + b"]" * 300 + b"}"
    review.mirror(0, replace(request(99), body=body))
    asked, told = review.questions()
    assert (3, body.decode()) == (told.exported, asked[-1]["request"])


def test_what_is_answered_or_overdue_is_not_asked_again() -> None:
    """
    Answered requests are left out, so are those before `since`, and after the deadline all.
    """
    review = Review()
    asked, _ = review.questions()
    review.take([answered(asked[0])])
    again, told = review.questions()
    assert (asked[1:], 1) == (again, told.answered)
    late, _ = review.questions(since_us=asked[3]["request_time_us"])
    assert {question["position"] for question in late} == {
        question["position"] for question in asked if question["request_time_us"] >= asked[3]["request_time_us"]
    }
    review.clock.us += 7 * HOUR_US
    nobody, told = review.questions()
    assert ([], len(asked) - 1) == (nobody, told.overdue)


def test_an_answer_is_written_as_graders_read_it() -> None:
    """
    Text stays text and JSON its bytes; the record stands in the request's partition with run, role and trace.
    """
    review = Review()
    asked, _ = review.questions()
    lines = [
        answered(asked[0], " twice 4 is 8\n"),
        answered(asked[-1], {"answer": "acht", "n": 2**70, "é": 0.5}, by="ada"),
        answered(asked[1], [1]),
    ]
    assert Receipt(3, 0, 0) == review.take(lines)
    first, second, third = review.answers()
    assert (b" twice 4 is 8\n", "text/plain; charset=utf-8", "people") == (
        first.body,
        first.headers["content-type"],
        first.version,
    )
    assert b"[1]" == second.body
    assert f'{{"answer":"acht","n":{2**70},"é":0.5}}'.encode() == third.body
    assert ("application/json", "ada", 1) == (third.headers["content-type"], third.version, third.request_partition)
    for answer, question in ((first, asked[0]), (second, asked[1]), (third, asked[-1])):
        place = f"{answer.request_partition}/{answer.request_offset}"
        assert (place, answer.request_time_us) == (question["position"], question["request_time_us"])
        assert (review.run, HUMAN, "answered") == (answer.run, answer.role, answer.outcome)
    with review.log.changed:
        record = review.log.fetch(TOPICS["answers"], 0, 0, 1)[0][0]
    assert {"run": review.run.encode(), "role": b"human", "traceparent": b"00-1"} == record.headers
    assert first == content_of(record, review.run)
    assert json_of(third.body)["answer"] == "acht"


def test_the_same_lines_may_be_taken_in_again() -> None:
    """
    Nothing is written twice, by the same desk or by another one, and a file that grew brings only what is new.
    """
    review = Review()
    asked, _ = review.questions()
    lines = [answered(question) for question in asked]
    desk = review.desk()
    assert Receipt(3, 0, 0) == review.take(lines[:3], desk)
    assert Receipt(0, 3, 0) == review.take(lines[:3], desk)
    assert Receipt(len(lines) - 3, 3, 0) == review.take(lines, review.desk())
    assert Receipt(0, len(lines), 0) == review.take(lines, desk)
    assert len(lines) == len(review.answers())
    assert Receipt(0, 0, 0) == review.take([])


def test_everything_that_is_wrong_is_named_and_nothing_written() -> None:
    """
    All problems come at once, each with its line; the right lines beside them are not written.
    """
    review = Review()
    asked, told = review.questions()
    assert told.sampled_out
    positions = {question["position"] for question in asked}
    unasked = next(f"0/{offset}" for offset in range(1, 21) if f"0/{offset}" not in positions)
    question = asked[0]
    wrong = {
        b"twice 4 is 8": "is no JSON object; read 'twice 4 is 8'",
        b'{"position": NaN}': "contains NaN, which is not JSON",
        b'{"answer": "a", "answer": "b"}': "has the key 'answer' twice",
        b'{"a": ' + b"[" * 100_000: "is nested too deeply",
        b'{"answer": "\\ud800"}': "lone surrogate",
        b"{" + b'"a":' * 3: "is not JSON",
    }
    for changes, sentence in (
        ({"position": "0/0"}, "the run has no request 0/0"),
        ({"position": "0/99"}, "the run has no request 0/99"),
        ({"position": "7/1"}, "the run has no request 7/1"),
        ({"position": "0/-1"}, 'must be "PARTITION/OFFSET" as it was exported'),
        ({"position": 4}, "position: read 4"),
        ({"position": "0/21"}, "the request 0/21 cannot be read"),
        ({"position": unasked, "request_id": f"request-{unasked[2:]}"}, f"people are not asked the request {unasked}"),
        ({"position": asked[1]["position"]}, f"and the request {asked[1]['position']} is '{asked[1]['request_id']}'"),
        ({"run": "another-run-1"}, f"is of the run 'another-run-1', not of {review.run}"),
        ({"answer": ""}, "answer: is empty"),
        ({"answer": " \n"}, "answer: is empty"),
        ({"answer": None}, "answer: is empty"),
        ({"answer": {}}, "answer: is empty"),
        ({"answer": "x" * (review.plan.body_bytes_max + 1)}, "proxy.mirror.body_max allows 1,048,576"),
        ({"by": "a\nb"}, "by: read 'a\\nb', must be a text of 1 to 128 printable characters"),
        ({"grade": 1}, "has the unknown key 'grade'"),
    ):
        with pytest.raises(Rejected) as refused:
            review.take([{**answered(question), **changes}])
        assert sentence in refused.value.problems[0], refused.value.problems
        assert refused.value.problems[0].startswith("line 1: ")
    lines = [answered(asked[2]), *wrong, answered(asked[3]), answered(asked[2]), {"answer": ""}]
    with pytest.raises(Rejected) as refused:
        review.take(lines)
    for number, sentence in enumerate(wrong.values(), start=2):
        assert any(each.startswith(f"line {number}: ") and sentence in each for each in refused.value.problems)
    doubled = f"line 9: answers {asked[2]['position']} again, as line 1 does"
    assert doubled in refused.value.problems
    assert 3 == sum(each.startswith("line 10: ") for each in refused.value.problems)
    assert not refused.value.is_late
    assert [] == review.answers()


def test_of_very_many_problems_the_first_are_told() -> None:
    """
    A file of the wrong kind does not fill the memory with sentences.
    """
    with pytest.raises(Rejected) as refused:
        Review((1, 1)).take([b"no"] * (intake.PROBLEMS_MAX + 5))
    assert (intake.PROBLEMS_MAX + 1, "and 5 more") == (len(refused.value.problems), refused.value.problems[-1])


def test_late_answers_are_refused_unless_wanted() -> None:
    """
    After the deadline only `with_late` writes them, and says how many; one that stands there is skipped, not refused.
    """
    review = Review()
    asked, _ = review.questions()
    review.take([answered(asked[0])])
    # The last moment at which the first answer still counts; the second request stands in the same tile.
    review.clock.us = review.plan.until_us(asked[0]["request_time_us"])
    assert Receipt(1, 0, 0) == review.take([answered(asked[1])])
    review.clock.us += 60_000_000
    with pytest.raises(Rejected, match=r"line 2: comes \d+ s after the deadline of 21,600 s") as refused:
        review.take([answered(asked[0]), answered(asked[2])])
    assert refused.value.is_late
    assert Receipt(1, 1, 1) == review.take([answered(asked[0]), answered(asked[2])], with_late=True)


def test_a_run_that_has_ended_takes_no_answers() -> None:
    """
    They would count nowhere, and the sentence says how the run ended.
    """
    review = Review()
    asked, _ = review.questions()
    review.plan = replace(review.plan, ended="promote")
    with pytest.raises(Rejected, match=r"the run has ended \(promote\)") as refused:
        review.take([answered(asked[0])])
    assert refused.value.is_late


def test_a_log_that_is_away_takes_nothing_and_everything_later() -> None:
    """
    While the log is away the desk says so; the same lines come in once it is back, each once.
    """
    review = Review()
    asked, _ = review.questions()
    desk = review.desk()
    review.log.stop()
    with pytest.raises(Unavailable):
        review.take([answered(asked[0])], desk)
    review.log.start()
    assert Receipt(1, 0, 0) == review.take([answered(asked[0])], desk)
    assert 1 == len(review.answers())


def test_a_request_that_retention_took_is_named_and_hides_no_other() -> None:
    """
    Its line is refused with the reason, whatever else is in the file.
    """
    review = Review()
    asked, _ = review.questions()
    gone = int(asked[0]["position"].partition("/")[2])
    review.log.punch(TOPICS["requests"], 0, gone)
    with pytest.raises(Rejected) as refused:
        review.take([answered(asked[0]), answered(asked[1])])
    assert [f"line 1: position: the request 0/{gone} is not in the log any more"] == refused.value.problems


def test_nobody_is_asked_without_a_rule_or_by_another_configuration() -> None:
    """
    Where answers would count nowhere, the sentence says why.
    """
    review = Review((1, 1))
    plain = settings_of(tree_of())
    with pytest.raises(Usage, match=r"give the run's own with -c"):
        plan_of(plain, Run(review.started, ()))
    started = replace(review.started, digest=plain.digest())
    with pytest.raises(Usage, match=r"no rule of the run .* says against: human"):
        plan_of(plain, Run(started, ()))
