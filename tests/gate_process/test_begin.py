"""Beginning a run: once a configuration, at the topics' ends, and only where it can be judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from shadow.adapters.avro import encode
from shadow.adapters.memory_log import MemoryLog
from shadow.cli.begin import begin, runs_of, transactional_id, worker_group
from shadow.cli.safety import live_risks
from shadow.errors import Usage
from shadow.records.decisions import Decision
from shadow.settings.settings import Settings
from tests.settings.configurations import changed, settings_of

STAMPED = {"message.timestamp.type": "LogAppendTime", "retention.ms": "691200000", "retention.bytes": "-1"}
SECTION14 = Path(__file__).parent.parent / "settings" / "section14.yaml"


class Clock:
    def now_us(self) -> int:
        return 7_200_000_000


def log_of(settings: Settings, *, requests: dict[str, str] = STAMPED, answers: dict[str, str] = STAMPED) -> MemoryLog:
    """A log with the configuration's topics, three requests and one answer in their partition 1."""
    log, topics = MemoryLog(Clock().now_us), settings.topics
    partitions = {topics.requests: 2, topics.answers: 2, topics.decisions: 1}
    log.admin().create_topics(partitions, {topics.requests: requests, topics.answers: answers})
    for topic, count in ((topics.requests, 3), (topics.answers, 1)):
        for _ in range(count):
            log.append(topic, 1, b"", b"x", {})
    return log


def test_second_start_finds_the_run():
    """The same configuration begins one run; the second call finds it and writes nothing."""
    settings = settings_of()
    log = log_of(settings)
    first, second = begin(settings, log, Clock()), begin(settings, log, Clock())
    assert (True, False) == (first.is_new, second.is_new)
    assert first.started == second.started
    writer = log.decisions(settings.topics.decisions, transactional_id(settings))
    assert [first.started] == [run.started for run in runs_of(writer)]


def test_a_run_begins_at_the_ends():
    """Positions are the topics' ends, and the workers' group begins at the run's first request."""
    settings = settings_of()
    log = log_of(settings)
    started = begin(settings, log, Clock()).started
    assert ((0, 3), (0, 1)) == (started.requests_from, started.answers_from)
    assert 120 == started.first_tile
    group = log.group_of(worker_group(settings, started.run, "candidate"), settings.topics.requests)
    assert {0: 0, 1: 3} == group.committed


def test_answers_are_read_before_requests():
    """A request that is mirrored and answered while the run begins has its answer behind the run's first offset."""
    settings = settings_of()
    log = log_of(settings)
    topics, asked = settings.topics, []

    class Busy(MemoryLog):
        """A log whose traffic goes on between the two readings."""

        def bounds(self, topic: str, partition: int) -> tuple[int, int]:
            found = super().bounds(topic, partition)
            asked.append(topic)
            if topic == topics.answers and partition == 1:
                self.append(topics.requests, 1, b"", b"x", {})
                self.append(topics.answers, 1, b"", b"x", {})
            return found

    busy = Busy(Clock().now_us)
    busy.admin().create_topics({topics.requests: 2, topics.answers: 2, topics.decisions: 1}, {})
    started = begin(settings, busy, Clock()).started
    assert ((0, 1), (0, 0)) == (started.requests_from, started.answers_from)
    assert asked.index(topics.answers) < asked.index(topics.requests)
    assert log is not busy


def test_attempts_count_over_configurations():
    """Another configuration of the same candidate and production is the next attempt."""
    settings, other = settings_of(), settings_of(changed("alpha: 0.05", "alpha: 0.04"))
    log = log_of(settings)
    first = begin(settings, log, Clock()).started
    writer = log.decisions(settings.topics.decisions, transactional_id(settings))
    ended = Decision("id", first.run, 1, "expire", "shadow", "expired", 0, "", (0, 0), (), "", "{}", 0)
    writer.append(b"", lambda records: encode(ended))
    assert (1, 2) == (first.attempt, begin(other, log, Clock()).started.attempt)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({**STAMPED, "message.timestamp.type": "CreateTime"}, "message.timestamp.type CreateTime"),
        ({"retention.ms": "691200000"}, "message.timestamp.type CreateTime"),
        ({**STAMPED, "retention.ms": "604800000"}, "retention.ms 604800000, and the run may need them for 605700000"),
        ({**STAMPED, "retention.bytes": "1000000"}, "retention.bytes 1000000"),
    ],
)
@pytest.mark.parametrize("topic", ["requests", "answers"])
def test_topics_that_cannot_carry_a_run_are_refused(topic, config, says):
    """A topic without the log's time, or one that forgets too soon, is named, and nothing is written."""
    settings = settings_of()
    log = log_of(settings, **{topic: config})
    with pytest.raises(Usage, match=says) as refused:
        begin(settings, log, Clock())
    assert str(refused.value).startswith(getattr(settings.topics, topic))
    assert [] == runs_of(log.decisions(settings.topics.decisions, transactional_id(settings)))


def test_endless_retention_is_enough():
    """A retention of -1 keeps everything."""
    settings = settings_of()
    assert begin(settings, log_of(settings, requests={**STAMPED, "retention.ms": "-1"}), Clock()).is_new


def test_rewritten_requests_are_a_risk_of_live_traffic():
    """What the worker rewrites is not rewritten for live requests, and beginning a run says so in one sentence."""
    settings = settings_of(SECTION14.read_text(encoding="utf-8"))
    (risk,) = live_risks(settings)
    assert "stages.canary.upstream" in risk
    assert "\n" not in risk
