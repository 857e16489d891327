"""An archive gives the same digest when Kafka and Redis are away, and no byte of it can be changed unseen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from shadow.adapters.archive import open_archive
from shadow.adapters.archive_writer import GROUP_ROWS, PairFile, RecordFile
from shadow.cli.archive import Archived, public_configuration, write_archive
from shadow.errors import BrokenEvidence, Usage
from shadow.records.decisions import Decision
from shadow.records.log import LogRecord
from tests.cli.conftest import CommandLine
from tests.replay.world import TOPICS, World

FILES = ("answers.parquet", "requests.parquet", "pairs.parquet")


def archived(world: World, folder: Path) -> Archived:
    configuration = public_configuration(json.dumps(world.tree).encode(), world.settings)
    return write_archive(world.log, world.settings, world.run, folder, configuration)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of the shared run. Read only."""
    path: Path = tmp_path_factory.mktemp("archive") / "run"
    assert () == archived(world, path).trouble
    return path


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


@pytest.fixture
def shadow(tmp_path: Path) -> CommandLine:
    """The command line in a folder without any configuration."""
    return CommandLine(tmp_path)


def test_an_archive_is_replayed_without_services(world: World, folder: Path, shadow: CommandLine) -> None:
    """
    The command needs the folder alone: same tiles, digest and decision as in the run, exit 0.
    """
    done = shadow("replay", "--archive", str(folder), "-o", "json")
    document = json.loads(done.stdout)
    recorded: Decision = world.run.decisions[-1]
    assert (0, True) == (done.returncode, document["identical"])
    assert recorded.tiles_digest == document["tiles_digest"]
    assert (recorded.decision, recorded.tile) == (document["decision"]["decision"], document["decision"]["tile"])
    whole = json.loads(shadow("replay", "--archive", str(folder), "--to", "end", "-o", "json").stdout)
    assert {"archive_digest": 1, "decisions": 1} == whole["compared"]
    assert 0 == shadow("replay", "--archive", str(folder)).returncode


def test_two_machines_give_the_same_bits(folder: Path, tmp_path: Path) -> None:
    """
    Another process, another state folder, another seed of the hashes: everything but the speed is equal.
    """
    documents = []
    for seed in ("1", "2"):
        machine = tmp_path / seed
        machine.mkdir()
        shadow = CommandLine(machine)
        shadow.environment["PYTHONHASHSEED"] = seed
        document = json.loads(shadow("replay", "--archive", str(folder), "--to", "end", "-o", "json").stdout)
        del document["speed"]
        documents.append(document)
    assert documents[0] == documents[1]


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_refused_by_its_digest(own: Path, name: str) -> None:
    """
    One flipped bit in any file: one sentence with both digests.
    """
    content = bytearray((own / name).read_bytes())
    content[len(content) // 2] ^= 1
    (own / name).write_bytes(content)
    with pytest.raises(BrokenEvidence, match=rf"{name} is not what was archived: its SHA-256 is \w+, run\.json says"):
        open_archive(own)


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (lambda text: text.replace('"attempt": 1', '"attempt": 2'), BrokenEvidence, "its content has SHA-256"),
        (lambda text: text[:-5], BrokenEvidence, "it is no JSON"),
        (lambda text: "[" * 100_000, BrokenEvidence, "it is no JSON"),
        (lambda text: "[]", BrokenEvidence, "it has no SHA-256 of itself"),
        (lambda text: text.replace('"format": 1', '"format": 7'), Usage, "has format 7; this version reads 1"),
    ],
)
def test_a_changed_manifest_is_refused(own: Path, change: Any, kind: type[Exception], said: str) -> None:
    """
    run.json carries the digest of its own content.
    """
    path = own / "run.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(kind, match=said):
        open_archive(own)


def test_a_missing_file_and_no_archive_are_sentences(own: Path, tmp_path: Path, shadow: CommandLine) -> None:
    """
    A file that is gone is broken evidence; a folder without run.json is a mistake in the call.
    """
    (own / "answers.parquet").unlink()
    gone, none = shadow("replay", "--archive", str(own)), shadow("replay", "--archive", str(tmp_path / "nowhere"))
    assert (5, True) == (gone.returncode, "answers.parquet is missing from the archive" in gone.stderr)
    assert (2, True) == (none.returncode, "holds no archive" in none.stderr)


def test_another_run_or_configuration_is_refused(
    folder: Path, tmp_path: Path, shadow: CommandLine, world: World
) -> None:
    """
    The name and the configuration must be the archived run's.
    """
    tree = {**world.tree, "expires": "2d"}
    (tmp_path / "other.yaml").write_text(json.dumps(tree))
    named = shadow("replay", "nosuch-run", "--archive", str(folder))
    configured = shadow("replay", "--archive", str(folder), "-c", "other.yaml")
    assert (2, True) == (named.returncode, f"holds the run {world.run.name}, not 'nosuch-run'" in named.stderr)
    assert (2, True) == (configured.returncode, "began with the configuration" in configured.stderr)


def test_an_archive_is_judged_by_another_policy(
    folder: Path, tmp_path: Path, shadow: CommandLine, world: World
) -> None:
    """
    A back-test needs no services either; its exit code is the decision's.
    """
    tree = json.loads(json.dumps(world.tree))
    tree["stages"]["shadow"]["rules"].append({"floor": {"grader": "correct", "min": 0.99}})
    (tmp_path / "other.yaml").write_text(json.dumps(tree))
    done = shadow("replay", "--archive", str(folder), "--config", "other.yaml")
    assert (4, True) == (done.returncode, "back-test; the run: promote" in done.stdout)


def test_raw_records_are_as_in_the_log(world: World, folder: Path) -> None:
    """
    Offsets, times, keys, headers and values of the run's range, and nothing before it.
    """
    manifest, archive = open_archive(folder)
    for kind, begin in (("answers", world.started.answers_from), ("requests", world.started.requests_from)):
        records = archive.admin()
        for partition, (first, end) in enumerate(records.ends(TOPICS[kind])):
            assert begin[partition] == first
            expected = [record for record in world.records(kind, partition) if record.offset >= first]
            assert expected == records.read_at(TOPICS[kind], partition, range(first, end))
        assert manifest.files[kind]["rows"] == sum(end - first for first, end in records.ends(TOPICS[kind]))


def test_pairs_are_flat_and_each_once(world: World, folder: Path) -> None:
    """
    One row a pair that the fold counted, with the outcome of each grader and role as a column.
    """
    table = pyarrow.parquet.read_table(folder / "pairs.parquet").to_pydict()
    places = list(zip(table["request_partition"], table["request_offset"], strict=True))
    report = world.replayed(last="end")
    assert len(places) == len(set(places)) == report.replayed.pairs
    assert {"passed", "failed"} == set(table["correct.candidate.outcome"])
    right = [body == b"right" for body in table["production_body"]]
    assert right == [outcome == "passed" for outcome in table["correct.production.outcome"]]
    assert all("all" in slices for slices in table["slices"])


def test_no_secret_leaves_with_the_archive(world: World, folder: Path) -> None:
    """
    Passwords, headers for the models and addresses of services are not in it; the configuration counts the same.
    """
    content = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"secret" not in content
    assert b"127.0.0.1:1/0" not in content
    manifest, _ = open_archive(folder)
    assert world.started == manifest.started
    assert world.run.decisions == manifest.decisions


def test_a_finished_run_is_archived_up_to_its_end(world: World, folder: Path) -> None:
    """
    What other runs wrote to the topics long after the decision is not part of it.
    """
    manifest, archive = open_archive(folder)
    over_us = world.run.decisions[-1].decided_us + 60_000_000
    records = archive.admin()
    for partition, (first, end) in enumerate(records.ends(TOPICS["answers"])):
        assert all(r.time_us < over_us for r in records.read_at(TOPICS["answers"], partition, range(first, end)))
    assert manifest.replayed["tile"] >= world.run.decisions[-1].tile


def test_only_the_same_run_is_written_over(world: World, own: Path, tmp_path: Path) -> None:
    """
    A folder with something else is refused; one that holds this run, or what a cut-off archive left, is written anew.
    """
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.doc").write_text("two years of work")
    with pytest.raises(Usage, match=r"is not empty, and thesis\.doc is not of"):
        archived(world, foreign)
    assert ["thesis.doc"] == names_in(foreign)
    other = World(seed=7).play()
    same_name = archived(other, own)  # the same configuration and attempt, so the same run as far as names tell
    assert same_name.manifest == open_archive(own)[0]
    elsewhere = World({**world.tree, "expires": "2d"}).play()
    with pytest.raises(Usage, match=f"holds the archive of the run {world.run.name}, not of {elsewhere.run.name}"):
        archived(elsewhere, own)
    (own / "run.json").unlink()
    with pytest.raises(Usage, match=r"is not empty, and answers\.parquet is not of"):
        archived(world, own)
    cut_off = tmp_path / "cut-off"
    cut_off.mkdir()
    (cut_off / "answers.parquet.part").write_bytes(b"cut off")
    archived(world, cut_off)
    assert sorted([*FILES, "run.json"]) == names_in(cut_off)


def test_a_log_with_a_hole_is_not_archived(tmp_path: Path) -> None:
    """
    A record that is gone is named, and no archive is left behind.
    """
    world = World().play()
    offset = world.started.answers_from[0] + 20
    world.log.punch(TOPICS["answers"], 0, offset)
    with pytest.raises(BrokenEvidence, match=f"offsets {offset} to {offset} are missing"):
        archived(world, tmp_path / "out")
    assert [] == names_in(tmp_path / "out")


def test_an_older_archive_outlives_one_that_fails(tmp_path: Path) -> None:
    """
    Archiving again when the log has lost its beginning changes nothing of what was archived before.
    """
    world = World().play()
    archived(world, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    world.log.truncate(TOPICS["answers"], 1, world.started.answers_from[1] + 50)
    with pytest.raises(BrokenEvidence, match="are missing from the log"):
        archived(world, tmp_path / "out")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def test_without_pyarrow_one_sentence_says_what_to_install(folder: Path) -> None:
    """
    pyarrow is an extra; who has not installed it is told how.
    """
    code = "import sys; sys.modules['pyarrow'] = None; from shadow.cli.main import main; main()"
    command = [sys.executable, "-c", code, "replay", "--archive", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (2, True) == (done.returncode, "pip install 'shadow-canary[archive]'" in done.stderr), done.stderr


def test_a_run_that_cannot_be_recomputed_is_archived_and_said(tmp_path: Path) -> None:
    """
    Records whose replay gives another decision are kept, since they are what there is; what differs is said.
    """
    world = World(garbage=0.0).play()
    record = next(r for r in world.records("answers", 0) if r.headers and r.offset > world.started.answers_from[0] + 5)
    world.corrupt("answers", 0, record.offset, b"garbage")
    found = archived(world, tmp_path / "out")
    assert any("tiles_digest" in sentence for sentence in found.trouble)
    assert 1 == open_archive(tmp_path / "out")[0].replayed["unreadable"]


def test_row_groups_hold_one_partition_and_are_bounded(tmp_path: Path) -> None:
    """
    Records that come mixed lie apart by partition, and a file of many records has many groups.
    """
    file = RecordFile(tmp_path / "records.parquet")
    for offset in range(GROUP_ROWS + 10):
        for partition in range(2):
            file.add(LogRecord("topic", partition, offset, offset, None, b"value", {}))
    file.close()
    metadata = pyarrow.parquet.ParquetFile(tmp_path / "records.parquet").metadata
    assert 2 * (GROUP_ROWS + 10) == file.rows == metadata.num_rows
    assert 4 == metadata.num_row_groups
    for number in range(4):
        statistics = metadata.row_group(number).column(0).statistics
        assert statistics.min == statistics.max


def test_an_empty_run_has_empty_files(tmp_path: Path) -> None:
    """
    A run in which nothing happened yet is archived, and its replay holds.
    """
    world = World(requests=(0, 0))
    assert () == archived(world, tmp_path / "out").trouble
    manifest, _ = open_archive(tmp_path / "out")
    assert 0 == manifest.files["pairs"]["rows"]
    PairFile(tmp_path / "pairs.parquet", ["correct"], ["candidate"]).close()
    assert 0 == pyarrow.parquet.ParquetFile(tmp_path / "pairs.parquet").metadata.num_rows
