"""Suites as folders: what is pinned is what is read, and nothing else."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from shadow.adapters.suites import read_suite, seal, write_suite
from shadow.errors import BrokenEvidence, InvalidRecord, Usage
from shadow.suite.lines import SuiteRequest, line_from_request, request_from_line
from tests.offline.trials import requests_of, suite_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A suite with a retrieval snapshot."""
    snapshot = tmp_path / "snapshot"
    (snapshot / "docs").mkdir(parents=True)
    (snapshot / "docs" / "a.txt").write_text("search-api==4.2.0")
    write_suite(tmp_path / "suite", "doubling", requests_of(5), {"by": "hand"}, snapshot)
    return tmp_path / "suite"


def test_a_suite_is_read_as_it_was_written(folder: Path) -> None:
    """
    Requests, name, origin and snapshot come back; the digest is that of the contents, whatever the suite is called.
    """
    suite = read_suite(folder)
    assert requests_of(5) == suite.requests
    assert ("doubling", {"by": "hand"}) == (suite.manifest.name, suite.manifest.origin)
    assert suite.retrieval == (folder / "retrieval").resolve()
    assert suite.manifest.digest == seal(folder, "another", {}).digest


def test_a_changed_byte_is_refused(folder: Path) -> None:
    """
    One sentence names the file, both hashes and what to do, for each file whose content is another one.
    """
    pinned = read_suite(folder).manifest.files
    for name in ("requests.jsonl", "retrieval/docs/a.txt"):
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
        with pytest.raises(BrokenEvidence) as refused:
            read_suite(folder)
        said = str(refused.value)
        assert 1 == len(said.splitlines())
        assert f"{name} has SHA-256 " in said
        assert f"the suite pins {pinned[name].sha256}" in said
        assert "restore the file" in said
        path.write_bytes(content)
    read_suite(folder)


def test_a_missing_and_a_foreign_file_are_refused(folder: Path) -> None:
    """
    A pinned file that is gone and a file that nobody pinned are both named, each in a sentence of its own.
    """
    (folder / "retrieval" / "docs" / "a.txt").rename(folder / "retrieval" / "b.txt")
    with pytest.raises(BrokenEvidence) as refused:
        read_suite(folder)
    missing, foreign = str(refused.value).splitlines()
    assert "retrieval/docs/a.txt is missing" in missing
    assert "retrieval/b.txt" in foreign and "does not belong to the suite" in foreign


def test_a_changed_manifest_is_refused(folder: Path) -> None:
    """
    A hash that was changed in the manifest does not fit the manifest's own digest.
    """
    path = folder / "manifest.json"
    tree = orjson.loads(path.read_bytes())
    tree["files"]["requests.jsonl"]["sha256"] = "0" * 64
    path.write_bytes(orjson.dumps(tree))
    with pytest.raises(Usage, match="says that its digest is"):
        read_suite(folder)


def test_a_link_cannot_be_pinned(folder: Path) -> None:
    """
    What a link points at may change without the suite, so it is refused.
    """
    (folder / "retrieval" / "link").symlink_to("/etc/hostname")
    with pytest.raises(Usage, match="retrieval/link is neither a file nor a folder"):
        read_suite(folder)


def test_a_suite_is_not_written_over(folder: Path) -> None:
    """
    A folder that holds something is refused, and left as it is.
    """
    with pytest.raises(Usage, match="is not empty"):
        suite_in(folder, requests_of(2))
    assert 5 == len(read_suite(folder).requests)


@pytest.mark.parametrize(
    ("body", "key"),
    [(b'{"n":1}', "body"), (b'{"n": 1}', "body"), (b"", "body"), ("ü".encode(), "body"), (b"\xff\x00", "body_base64")],
    ids=["compact", "spaced", "empty", "text", "binary"],
)
def test_a_body_keeps_every_byte(body: bytes, key: str) -> None:
    """
    A request comes back from its line as it was, whatever its body is.
    """
    request = SuiteRequest("r", "k", "POST", "/v1/x", {"a": "b"}, body)
    line = line_from_request(request)
    assert key in orjson.loads(line)
    assert request == request_from_line(line, "line 1")


def test_what_is_expected_is_for_the_graders() -> None:
    """
    Expected values stand in the body that graders read, also where the objects on the way are missing.
    """
    request = SuiteRequest("r", "k", "POST", "/x", {}, b'{"n":1}', {"$.metadata.answer": "2"})
    assert {"n": 1, "metadata": {"answer": "2"}} == orjson.loads(request.graded_body())
    assert b'{"n":1}' == request.asked(1).body
    same = SuiteRequest("r", "k", "POST", "/x", {}, b'{ "a": "2" }', {"$.a": "2"})
    assert same.body == same.graded_body()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"[]", "is no JSON object"),
        (b'{"id":"r","id":"s"}', "nor may a key stand in it twice"),
        (b'{"id":"","method":"GET","path":"/"}', "has no id"),
        (b'{"id":"r","method":"GET","path":"x"}', "must begin with /"),
        (b'{"id":"r","method":"GET","path":"/","bdy":1}', "has the key 'bdy'"),
        (b'{"id":"r","method":"GET","path":"/","body":1,"body_base64":""}', "has both body and body_base64"),
        (b'{"id":"r","method":"GET","path":"/","body_base64":"?"}', "no base64"),
        (b'{"id":"r","method":"GET","path":"/","expected":{"$..a":1}}', "must be a plain JSON path"),
        (b'{"id":"r","method":"GET","path":"/","headers":{"a":1}}', "no mapping of names to texts"),
    ],
    ids=["list", "twice", "no-id", "path", "unknown", "two-bodies", "base64", "expected", "headers"],
)
def test_a_bad_line_is_one_sentence(line: bytes, said: str) -> None:
    """
    What is wrong with a line is said with its place, and what would be right.
    """
    with pytest.raises(InvalidRecord) as refused:
        request_from_line(line, "requests.jsonl line 7")
    assert str(refused.value).startswith("requests.jsonl line 7 ")
    assert said in str(refused.value)


def test_an_id_stands_once(tmp_path: Path) -> None:
    """
    Two lines with one id cannot be told apart in what is said of them, so they are refused with both places.
    """
    line = line_from_request(requests_of(1)[0]) + b"\n"
    (tmp_path / "requests.jsonl").write_bytes(line * 2)
    with pytest.raises(Usage, match="line 2 has the id 'r000' of line 1"):
        seal(tmp_path, "twice", {})
