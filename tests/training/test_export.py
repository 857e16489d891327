"""Reading the pairs of a run, and writing an export of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shadow.adapters.avro import encode
from shadow.cli.export import REPEATED, SUPERSEDED, Target, Wanted, write_export
from shadow.cli.read_pairs import CLOCKS_US
from shadow.errors import Unavailable, Usage
from shadow.records.answers import Tick
from shadow.records.grades import FAILED, PASSED, Grade
from shadow.training.rows import FORMATS, MESSAGES, NO_PREFERENCE, PAIRS, PREFERENCE, SFT
from tests.training.builders import GRADERS, chat, completion, pair_of
from tests.training.world import HOUR_US, TOPIC, Written, of_other_run


def asking(offset: int, **changes):
    """A pair whose request is another one at each offset."""
    return pair_of(offset, **({"request_body": chat(f"question {offset}")} | changes))


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def places(path: Path) -> list[tuple[int, int]]:
    return [(row["provenance"]["partition"], row["provenance"]["offset"]) for row in lines(path)]


def test_only_pairs_of_the_run_are_read_each_once() -> None:
    """
    By the header, or by the pair itself where an older comparator wrote none; repeats and what is no pair are counted.
    """
    written = Written().write([pair_of(0), pair_of(1), pair_of(0)])
    written.append(pair_of(2), run=None)
    written.append(of_other_run(pair_of(3)), run=None)
    written.append(of_other_run(pair_of(4)), run="another-00000000-1")
    written.append(b"garbage", run="another-00000000-1")
    written.append(b"garbage")
    written.append(encode(Tick("candidate-00000000-1")))
    written.append(pair_of(0, request_partition=1))
    found, scanned = written.read()
    assert [(0, 0), (0, 1), (0, 2), (1, 0)] == [(each.request_partition, each.request_offset) for each in found]
    assert (4, 1, 1) == (scanned.pairs, scanned.repeats, scanned.unreadable)
    assert ["1 records of pairs cannot be read and were passed over"] == scanned.warnings(TOPIC)


def test_reading_begins_shortly_before_the_run() -> None:
    """
    Records of months before are not read, even where they cannot be; a clock that was ahead loses nothing.
    """
    written = Written()
    written.append(b"garbage", run=None)
    begun_us = 24 * HOUR_US
    written.now_us = begun_us - CLOCKS_US
    written.append(pair_of(0))
    later = Written(begun_us)
    later.log = written.log
    found, scanned = later.read()
    assert ([0], 0, 0) == ([each.request_offset for each in found], scanned.unreadable, scanned.partitions_cut)


def test_a_missing_topic_is_said() -> None:
    """
    Kafka has no such topic: unavailable, not nothing.
    """
    written = Written()
    with pytest.raises(Unavailable, match="nosuch"):
        write_export(
            written.past.__class__(
                written.settings.model_copy(
                    update={"topics": written.settings.topics.model_copy(update={"pairs": "nosuch"})}
                ),
                written.log,
                written.past.run,
            ),
            Wanted(PAIRS, None, None, GRADERS),
            Target(Path("never.jsonl"), with_card=False),
        )


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_pairs_give_the_same_bytes(tmp_path: Path, format: str) -> None:
    """
    In whatever order and however often a comparator wrote them, the rows stand by the position of their requests.
    """
    pairs = [asking(offset, request_partition=partition) for partition in (1, 0) for offset in (2, 0, 1)]
    Written().write(pairs).export(tmp_path / "a.jsonl", format)
    Written().write([*reversed(pairs), *pairs]).export(tmp_path / "b.jsonl", format)
    whole = (tmp_path / "a.jsonl").read_bytes()
    assert whole == (tmp_path / "b.jsonl").read_bytes() != b""


def test_rows_are_ordered_and_deduplicated(tmp_path: Path) -> None:
    """
    Of two requests that say the same, with the same answers, the first one is kept.
    """
    same = [pair_of(5), pair_of(3), asking(4), pair_of(0, request_partition=1)]
    made = Written().write(same).export(tmp_path / "rows.jsonl", PREFERENCE)
    assert [(0, 3), (0, 4)] == places(tmp_path / "rows.jsonl")
    assert (4, 2, {REPEATED: 2}) == (made.chosen, made.rows, dict(made.left_out))


def test_what_is_wanted_is_chosen(tmp_path: Path) -> None:
    """
    By kind and by slice; what gives no row is counted with its reason.
    """
    written = Written().write(
        [
            asking(0),
            asking(1, graded={"correct": (FAILED, PASSED)}, slices=("all", "even")),
            asking(2, graded={"correct": (PASSED, PASSED)}),
            asking(3, graded={"correct": (FAILED, FAILED)}),
            asking(4, human=True, slices=("even",), production_body=b"4, says Ada"),
            asking(4, slices=("even",)),
        ]
    )
    rows = tmp_path / "rows.jsonl"
    chosen = {}
    for only in ("failed", "disagreeing", "corrected", "all", None):
        written.export(rows, PAIRS, only)
        chosen[only] = [offset for _, offset in places(rows)]
    assert {
        "failed": [0, 3, 4, 4],
        "disagreeing": [0, 1, 4, 4],
        "corrected": [4],
        "all": [0, 1, 2, 3, 4, 4],
        None: [0, 1, 3, 4, 4],
    } == chosen
    written.export(rows, PAIRS, "all", "even")
    assert [1, 4, 4] == [offset for _, offset in places(rows)]
    assert {NO_PREFERENCE: 2} == dict(written.export(rows, PREFERENCE, "all").left_out)
    learned = written.export(rows, SFT, "failed")
    assert (SUPERSEDED, 1) in learned.left_out.items()
    assert [("production", 0), ("human", 4)] == [
        (row["provenance"]["answer_of"], row["provenance"]["offset"]) for row in lines(rows)
    ]


def test_what_was_masked_stays_masked(tmp_path: Path) -> None:
    """
    Rows hold what the record holds: no header, no key, and the mask where a field was masked.
    """
    body = json.dumps({"messages": [{"role": "user", "content": "***"}], "user": "***"}).encode()
    Written().write([pair_of(0, request_body=body, key="session-of-somebody")]).export(tmp_path / "rows.jsonl", PAIRS)
    text = (tmp_path / "rows.jsonl").read_text()
    assert '"***"' in text
    assert "session-of-somebody" not in text
    assert "secret" not in text


def test_nothing_is_written_over_unasked(tmp_path: Path) -> None:
    """
    An earlier export only with --force, a folder or somebody's README never; each refusal is one sentence.
    """
    folder, file = Target(tmp_path / "new", with_card=True), Target(tmp_path / "rows.jsonl", with_card=False)
    written, wanted = Written().write([pair_of(0)]), Wanted(SFT, None, None, GRADERS)
    for target in (folder, file):
        target.check(is_replacing=False)
        write_export(written.past, wanted, target)
        with pytest.raises(Usage, match="exists; --force writes over it"):
            target.check(is_replacing=False)
        target.check(is_replacing=True)
    assert ["README.md", "train.jsonl"] == sorted(path.name for path in (tmp_path / "new").iterdir())
    folder.card.write_text("# My project")
    with pytest.raises(Usage, match="was not written by shadow export"):
        folder.check(is_replacing=True)
    with pytest.raises(Usage, match="is a file; a folder is needed"):
        Target(tmp_path / "rows.jsonl", with_card=True).check(is_replacing=True)
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(Usage, match="is a folder"):
        Target(tmp_path / "folder.jsonl", with_card=False).check(is_replacing=True)
    with pytest.raises(Usage, match="cannot be written"):
        write_export(written.past, wanted, Target(Path("/proc/none/rows.jsonl"), with_card=False))


def test_a_failed_export_leaves_the_earlier_one(tmp_path: Path) -> None:
    """
    A file is whole or not there.
    """
    target = Target(tmp_path / "rows.jsonl", with_card=False)
    target.write([b"{}\n"])

    def breaking():
        yield b"half"
        raise Unavailable("kafka went away")

    with pytest.raises(Unavailable):
        target.write(breaking())
    assert (["rows.jsonl"], b"{}\n") == ([path.name for path in tmp_path.iterdir()], target.data.read_bytes())


READ_BACK = """
import json, sys
import datasets
found = {}
folder, cache = sys.argv[1:]
for format in ("sft", "messages", "preference", "pairs", "preference/train.jsonl"):
    path = f"{folder}/{format}"
    named = {"path": "json", "data_files": path} if path.endswith("jsonl") else {"path": path}
    rows = datasets.load_dataset(**named, split="train", cache_dir=cache)
    found[format] = {"columns": rows.column_names, "count": len(rows), "last": rows[-1]}
print(json.dumps(found))
"""
"""In a process of its own, as a user has it, without the network."""


def test_datasets_reads_what_is_written(tmp_path: Path) -> None:
    """
    Each format as a folder, and one as a file, gives the rows that were written, scores and empty lists among them.
    """
    scored = {"correct": {"production": Grade(PASSED, 0.9), "candidate": Grade(FAILED, 0.1, "no")}}
    plain = [asking(each, slices=()) for each in range(3)]
    odd = [asking(4, request_body=b"{}", candidate_body=completion(None, tool_calls=[{"id": "1"}]))]
    written = Written().write([*plain, *odd, asking(5, grades=scored, request_body=chat("»π«", "\u2028"))])
    counts = {}
    for format in FORMATS:
        target = Target(tmp_path / format, with_card=True)
        made, _ = write_export(written.past, Wanted(format, None, None, GRADERS), target)
        counts[format] = made.rows
    assert {SFT: 5, MESSAGES: 5, PREFERENCE: 4, PAIRS: 5} == counts
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", READ_BACK, str(tmp_path), str(tmp_path / "cache")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert 0 == done.returncode, done.stderr
    for name, found in json.loads(done.stdout).items():
        format = name.partition("/")[0]
        rows = lines(tmp_path / format / "train.jsonl")
        assert (list(rows[-1]), counts[format], rows[-1]) == (found["columns"], found["count"], found["last"]), name
