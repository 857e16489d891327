"""Read and write the folders of suites. What is read is hashed, and only what has the pinned hash is used."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from shadow.errors import BrokenEvidence, InvalidRecord, Usage
from shadow.suite.lines import SuiteRequest, line_from_request, request_from_line
from shadow.suite.manifest import (
    MANIFEST,
    REQUESTS,
    RETRIEVAL,
    Manifest,
    Pinned,
    departures,
    is_name,
    manifest_from_bytes,
    manifest_to_bytes,
    pinned,
)

MANIFEST_BYTES_MAX: Final = 16 << 20
REQUESTS_BYTES_MAX: Final = 1 << 30
_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite as it was read.

    Args:
        requests: In the file's order.
    """

    folder: Path
    manifest: Manifest
    requests: tuple[SuiteRequest, ...]

    @property
    def retrieval(self) -> Path | None:
        """The folder of the retrieval snapshot; None without one."""
        return (self.folder / RETRIEVAL.rstrip("/")).resolve() if self.manifest.has_retrieval else None


def read_suite(folder: Path) -> Suite:
    """Read a suite, every byte of it.

    Raises:
        Usage: If it is no suite, or its requests cannot be read.
        BrokenEvidence: If a file is changed, missing, or not of the suite.
    """
    manifest = _manifest_of(folder)
    content = _content(folder / REQUESTS, REQUESTS_BYTES_MAX) if (folder / REQUESTS).is_file() else b""
    check_suite(folder, manifest, {REQUESTS: pinned(content)} if content else {})
    return Suite(folder, manifest, tuple(_requests(content, str(folder / REQUESTS))))


def check_suite(folder: Path, manifest: Manifest, known: Mapping[str, Pinned] | None = None) -> None:
    """Hash every file of a suite.

    Args:
        known: Files that were read and hashed already.

    Raises:
        BrokenEvidence: If a file is changed, missing, or not of the suite.
    """
    found = dict(known or {})
    for path in _files(folder):
        if path not in found:
            found[path] = _pinned_file(folder / path)
    told = departures(manifest, found)
    if told:
        raise BrokenEvidence("\n".join(f"{folder}: {sentence}" for sentence in told))


def write_suite(
    folder: Path, name: str, requests: tuple[SuiteRequest, ...], origin: Mapping[str, Any], retrieval: Path | None
) -> Manifest:
    """Write a new suite; the manifest comes last, so that a folder without one is no suite.

    Args:
        retrieval: Folder to copy as the retrieval snapshot.

    Raises:
        Usage: If the folder holds something, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise Usage(f"{folder} is not empty, and a suite is never written over; choose another folder")
        if retrieval is not None:
            _copy(retrieval, folder / RETRIEVAL)
        (folder / REQUESTS).write_bytes(b"".join(line_from_request(each) + b"\n" for each in requests))
    except OSError as error:
        raise Usage(f"{folder} cannot be written: {error.strerror or error}") from error
    return seal(folder, name, origin)


def seal(folder: Path, name: str, origin: Mapping[str, Any]) -> Manifest:
    """Pin every file that stands in a folder, in a new manifest.

    Raises:
        Usage: If there are no requests that can be read, or the manifest cannot be written.
    """
    if not is_name(name):
        raise Usage(f"a suite cannot be named {name!r}, must be 1 to 64 of A-Z, a-z, 0-9, ., _ and -")
    if not (folder / REQUESTS).is_file():
        raise Usage(f"{folder} has no file {REQUESTS}, in which the requests of a suite stand, one line of JSON each")
    content = _content(folder / REQUESTS, REQUESTS_BYTES_MAX)
    list(_requests(content, str(folder / REQUESTS)))
    files = {path: pinned(content) if path == REQUESTS else _pinned_file(folder / path) for path in _files(folder)}
    manifest = Manifest(name, files, origin)
    part = folder / f"{MANIFEST}.part"
    try:
        part.write_bytes(manifest_to_bytes(manifest))
        part.replace(folder / MANIFEST)
    except OSError as error:
        raise Usage(f"{folder / MANIFEST} cannot be written: {error.strerror or error}") from error
    return manifest


def _manifest_of(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not path.is_file():
        what = "is no folder" if not folder.is_dir() else f"has no {MANIFEST}"
        raise Usage(f"{folder} {what}, so it is no suite; `shadow suite make` draws one, `suite seal` pins yours")
    try:
        return manifest_from_bytes(_content(path, MANIFEST_BYTES_MAX), str(path))
    except InvalidRecord as error:
        raise Usage(str(error)) from error


def _requests(content: bytes, where: str) -> Iterator[SuiteRequest]:
    seen: dict[str, int] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            request = request_from_line(line, f"{where} line {number}")
        except InvalidRecord as error:
            raise Usage(str(error)) from error
        first = seen.setdefault(request.request_id, number)
        if first != number:
            raise Usage(f"{where} line {number} has the id {request.request_id!r} of line {first}; each must be unique")
        yield request
    if not seen:
        raise Usage(f"{where} holds no request, must hold one line of JSON each")


def _files(folder: Path) -> list[str]:
    """Every file below a folder but the manifest, as the manifest names them.

    Raises:
        Usage: If there is a link or a device, whose content nobody can pin.
    """
    found = []
    for place, folders, names in os.walk(folder):
        for name in sorted((*folders, *names)):
            path = Path(place) / name
            told = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise Usage(f"{folder}: {told} is neither a file nor a folder, so it cannot be pinned; take it away")
            if path.is_file() and told not in (MANIFEST, f"{MANIFEST}.part"):
                found.append(told)
    return sorted(found)


def _pinned_file(path: Path) -> Pinned:
    digest, size = sha256(), 0
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                size += len(piece)
    except OSError as error:
        raise Usage(f"{path} cannot be read: {error.strerror or error}") from error
    return Pinned(digest.hexdigest(), size)


def _content(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise Usage(f"{path} cannot be read: {error.strerror or error}") from error
    if len(content) > most:
        raise Usage(f"{path} is larger than the {most:,} bytes that are read")
    return content


def _copy(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise Usage(f"{source} is no folder, so there is no retrieval snapshot to copy")
    for name in _files(source):
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((source / name).read_bytes())
