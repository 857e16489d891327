"""A suite's manifest: which files belong to it, and the SHA-256 of each. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import orjson

from shadow.bodies import json_of
from shadow.errors import InvalidRecord

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
REQUESTS: Final = "requests.jsonl"
RETRIEVAL: Final = "retrieval/"
"""Files below it are the retrieval snapshot: pinned, and the models' own to read."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Pinned:
    """Content of a file: its SHA-256 in hexadecimal, and its size."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a suite is made of.

    Args:
        files: By path below the suite's folder, `/` between its parts; the manifest itself is not among them.
        origin: How it was made, for people.
    """

    name: str
    files: Mapping[str, Pinned]
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_retrieval(self) -> bool:
        """Whether there is a retrieval snapshot."""
        return any(path.startswith(RETRIEVAL) for path in self.files)

    @property
    def digest(self) -> str:
        """SHA-256 of the names and contents of all files: the same for the same suite, however it came about."""
        tree = {path: [pinned.sha256, pinned.bytes] for path, pinned in self.files.items()}
        return sha256(orjson.dumps(tree, option=orjson.OPT_SORT_KEYS)).hexdigest()


def pinned(content: bytes) -> Pinned:
    """Pin a content."""
    return Pinned(sha256(content).hexdigest(), len(content))


def manifest_to_bytes(manifest: Manifest) -> bytes:
    """The manifest's file."""
    tree = {
        "format": FORMAT,
        "name": manifest.name,
        "digest": manifest.digest,
        "origin": dict(manifest.origin),
        "files": {path: {"sha256": each.sha256, "bytes": each.bytes} for path, each in sorted(manifest.files.items())},
    }
    return orjson.dumps(tree, option=orjson.OPT_INDENT_2) + b"\n"


def manifest_from_bytes(content: bytes, where: str) -> Manifest:
    """Read a manifest.

    Args:
        where: Its file, for sentences.

    Raises:
        InvalidRecord: If it is none that this version reads, or is not the one that was written.
    """
    tree = json_of(content)
    if not isinstance(tree, dict):
        raise InvalidRecord(f"{where} is no JSON object")
    if tree.get("format") != FORMAT:
        raise InvalidRecord(f"{where} has format {tree.get('format')!r}, this version reads {FORMAT}")
    name, files, origin = tree.get("name"), tree.get("files"), tree.get("origin", {})
    if not isinstance(name, str) or not is_name(name):
        raise InvalidRecord(f"{where} names the suite {name!r}, must be 1 to 64 of A-Z, a-z, 0-9, ., _ and -")
    if not isinstance(files, dict) or not isinstance(origin, dict):
        raise InvalidRecord(f"{where} has no mapping of files")
    manifest = Manifest(name, {path: _pinned(path, value, where) for path, value in files.items()}, origin)
    if REQUESTS not in manifest.files:
        raise InvalidRecord(f"{where} does not name {REQUESTS}, in which the requests of a suite stand")
    if tree.get("digest") != manifest.digest:
        raise InvalidRecord(
            f"{where} says that its digest is {tree.get('digest')!r}, but its files make {manifest.digest}; "
            "restore it, or seal the suite anew with `shadow suite seal`"
        )
    return manifest


def is_name(name: str) -> bool:
    """Whether a suite may be called so."""
    return _NAME.fullmatch(name) is not None


def _pinned(path: str, value: Any, where: str) -> Pinned:
    if not path or path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")):
        raise InvalidRecord(f"{where} names the file {path!r}, must be a path below the suite's folder")
    digest = value.get("sha256") if isinstance(value, dict) else None
    size = value.get("bytes") if isinstance(value, dict) else None
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest) or not isinstance(size, int) or size < 0:
        raise InvalidRecord(f"{where} has no sha256 and bytes of {path}")
    return Pinned(digest, size)


def departures(manifest: Manifest, found: Mapping[str, Pinned]) -> list[str]:
    """How the files that were found depart from the manifest, one sentence each; empty where they do not."""
    told = []
    for path, wanted in sorted(manifest.files.items()):
        have = found.get(path)
        if have is None:
            told.append(f"{path} is missing; the suite pins it with SHA-256 {wanted.sha256}: put it back")
        elif have != wanted:
            told.append(
                f"{path} has SHA-256 {have.sha256} ({have.bytes:,} bytes), the suite pins {wanted.sha256} "
                f"({wanted.bytes:,} bytes): restore the file, or make another suite of it with `shadow suite seal`"
            )
    for path in sorted(found.keys() - manifest.files.keys()):
        told.append(
            f"{path} (SHA-256 {found[path].sha256}) does not belong to the suite, which pins no such file: take it "
            "away, or make another suite with it with `shadow suite seal`"
        )
    return told
