"""Replies of models are masked before they are written."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from shadow.adapters.masked import MaskedModel
from shadow.cli import parts
from shadow.proxy.config import Redaction
from shadow.proxy.redact import Redactor, Unredactable
from shadow.records.answers import ANSWERED, ERROR, REFUSED
from shadow.records.replies import Reply
from shadow.settings.loader import settings_from_bytes
from tests.settings.configurations import BASE
from tests.stream.builders import request

JSON = {"content-type": "application/json"}


class Says:
    """A model that gives one reply."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    async def call(self, request, role, version):
        return self._reply

    async def close(self) -> None:
        """Nothing is open."""


def masked(reply: Reply) -> Reply:
    redactor = Redactor(Redaction(json=("$.user",)))

    def mask(body, headers):
        try:
            return redactor.body(body, headers)
        except Unredactable:
            return None

    return asyncio.run(MaskedModel(Says(reply), mask).call(request(1), "candidate", "v2"))


def test_paths_are_masked_and_the_rest_stays():
    """
    The body changes, in an error's too, and nothing else of the reply.
    """
    for outcome in (ANSWERED, ERROR):
        found = masked(Reply(outcome, 200, JSON, b'{"user":"ada","text":"x"}', duration_us=7, error="e"))
        assert {"user": "***", "text": "x"} == orjson.loads(found.body)
        assert (outcome, 200, 7, "e") == (found.outcome, found.status, found.duration_us, found.error)


@pytest.mark.parametrize(
    ("headers", "body", "outcome"),
    [
        (JSON, b'{"user":"ada"', ANSWERED),
        ({**JSON, "content-encoding": "gzip"}, b"\x1f\x8b", REFUSED),
    ],
    ids=["broken JSON", "compressed"],
)
def test_what_cannot_be_masked_is_left_out(headers, body, outcome):
    """
    Broken JSON is the model's failure, and graded as an empty answer; a compressed body is our trouble.
    """
    found = masked(Reply(ANSWERED, 200, headers, body))
    assert (outcome, b"") == (found.outcome, found.body)


def test_a_worker_masks_where_paths_are_configured():
    """
    Its model is the bare one where nothing is to be masked.
    """
    plain = settings_from_bytes(BASE.encode(), {})
    assert not isinstance(parts.model_of(plain, "candidate"), MaskedModel)
    text = BASE.replace("proxy:\n", 'proxy:\n  redact: {json: ["$.user"]}\n')
    assert isinstance(parts.model_of(settings_from_bytes(text.encode(), {}), "candidate"), MaskedModel)
