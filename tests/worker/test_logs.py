"""Log lines: one a record, on stderr, no traceback for our own errors."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from shadow.adapters.logs import JsonLine, Repeated, TextLine, configure
from shadow.errors import Unavailable, Usage


@pytest.fixture
def sink() -> Iterator[tuple[logging.Logger, logging.StreamHandler[io.StringIO]]]:
    logger = logging.getLogger("shadow.test-logs")
    handler = logging.StreamHandler(io.StringIO())
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger, handler
    logger.removeHandler(handler)
    logger.propagate = True


def test_text_lines_are_short(sink: tuple[logging.Logger, logging.StreamHandler[io.StringIO]]) -> None:
    """
    Time, process, message; the level is named from warning on, and a message of several lines becomes one.
    """
    logger, handler = sink
    handler.setFormatter(TextLine())

    logger.info("partition %d", 3)
    logger.warning("one\n  two")

    first, second = handler.stream.getvalue().splitlines()
    assert first[2] == first[5] == ":" and first[8:] == " test-logs   partition 3"
    assert second.endswith("test-logs   warning: one; two")


def test_json_lines_are_objects(sink: tuple[logging.Logger, logging.StreamHandler[io.StringIO]]) -> None:
    """
    Each line is one JSON object with time, level, process and message.
    """
    logger, handler = sink
    handler.setFormatter(JsonLine())

    logger.error('a "quoted" ünit')

    line = json.loads(handler.stream.getvalue())
    assert (line["level"], line["process"], line["message"]) == ("error", "test-logs", 'a "quoted" ünit')
    assert line["time"].endswith("Z")


@pytest.mark.parametrize("formatter", [TextLine(), JsonLine()])
def test_only_defects_come_with_a_traceback(
    sink: tuple[logging.Logger, logging.StreamHandler[io.StringIO]], formatter: logging.Formatter
) -> None:
    """
    Our own errors are sentences; an exception that is none of ours keeps its traceback.
    """
    logger, handler = sink
    handler.setFormatter(formatter)

    for error in (Unavailable("kafka is away"), ZeroDivisionError("a defect")):
        try:
            raise error
        except (Unavailable, ZeroDivisionError):
            logger.exception("it failed")
    text = handler.stream.getvalue()

    assert "it failed: kafka is away" in text
    assert text.count("Traceback") == 1
    assert "ZeroDivisionError" in text


def test_the_same_trouble_is_said_every_few_seconds(
    sink: tuple[logging.Logger, logging.StreamHandler[io.StringIO]],
) -> None:
    """
    Repeats within the interval are counted, not printed; another message has its own interval.
    """
    logger, handler = sink
    now_s = 0.0
    repeated = Repeated(logger, every_s=5.0, now_s=lambda: now_s)

    for second in range(7):
        now_s = float(second)
        repeated.warning("kafka: %s", f"away {second}")
    repeated.error("redis")

    assert handler.stream.getvalue().splitlines() == ["kafka: away 0", "kafka: away 5 (and 4 times before)", "redis"]


def test_configure_sends_everything_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    """
    stdout stays free for data; libraries speak from warning on; unknown names are the user's to change.
    """
    root, ours = logging.getLogger(), logging.getLogger("shadow")
    before = (root.handlers[:], root.level, ours.level)
    try:
        configure("json", "debug")
        logging.getLogger("shadow.gate").debug("ours")
        logging.getLogger("library").info("theirs")
        out, err = capfd.readouterr()
        assert out == ""
        assert [json.loads(line)["message"] for line in err.splitlines()] == ["ours"]
        with pytest.raises(Usage, match="log format: read 'xml'"):
            configure("xml")
        with pytest.raises(Usage, match="log level: read 'loud'"):
            configure("text", "loud")
    finally:
        root.handlers[:], level, ours_level = before
        root.setLevel(level)
        ours.setLevel(ours_level)
