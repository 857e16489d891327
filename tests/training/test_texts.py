"""What prompts and answers are read out of bodies."""

from __future__ import annotations

import gzip
import json
import zlib

import brotli
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shadow.training.texts import (
    BODY,
    INPUT,
    MESSAGES,
    NO_TEXT,
    OTHER_CONTENT,
    PROMPT,
    TOOL_CALL,
    UNASKED,
    LeftOut,
    Message,
    answer_of,
    any_answer_of,
    any_prompt_of,
    prompt_of,
    shown_text,
)
from tests.training.builders import BODIES, chat, completion

STREAM = (
    b"".join(b'data: {"choices": [{"delta": {"content": "%s"}}]}\n\n' % piece for piece in (b"it is ", b"4"))
    + b"data: [DONE]\n\n"
)
RESPONSES = (
    b'{"output": [{"type": "reasoning"}, {"type": "message", "content": [{"type": "output_text", "text": "4"}]}]}'
)


def user(text: str) -> Message:
    return Message("user", text)


@pytest.mark.parametrize(
    ("body", "source", "messages"),
    [
        (chat("a", "b"), MESSAGES, [user("a"), user("b")]),
        (
            b'{"messages": [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "a"}]}',
            MESSAGES,
            [Message("system", "be brief"), user("a")],
        ),
        (
            b'{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"text": "b"}]}]}',
            MESSAGES,
            [user("ab")],
        ),
        (b'{"input": "a", "instructions": "be brief"}', INPUT, [Message("system", "be brief"), user("a")]),
        (b'{"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}]}', INPUT, [user("a")]),
        (b'{"prompt": "once upon"}', PROMPT, [user("once upon")]),
        (b'{"text": "twice 4", "n": 4}', BODY, [user('{"text": "twice 4", "n": 4}')]),
        (b"plain", BODY, [user("plain")]),
        ("π".encode("utf-16"), BODY, [user("π")]),
        (b"[1, 2]", BODY, [user("[1, 2]")]),
    ],
    ids=["chat", "developer", "parts", "input", "input-parts", "prompt", "json", "text", "utf-16", "list"],
)
def test_a_prompt_is_read_from_where_it_stands(body, source, messages):
    """
    OpenAI-style bodies become chats; anything else is the text of one user, and which it was is said.
    """
    prompt = prompt_of(body)
    assert (source, messages) == (prompt.source, list(prompt.messages))


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], NO_TEXT),
        ([{"role": "tool", "content": "4"}], TOOL_CALL),
        ([{"role": "assistant", "tool_calls": [{"id": "1"}]}], TOOL_CALL),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}], OTHER_CONTENT),
        ([{"role": "user", "content": None}], OTHER_CONTENT),
        ([{"role": "oracle", "content": "a"}], OTHER_CONTENT),
        (["a"], OTHER_CONTENT),
        ([{"role": "system", "content": "a"}], UNASKED),
    ],
    ids=["empty", "tool", "tool-calls", "picture", "null", "role", "no-object", "system-last"],
)
def test_what_is_no_chat_of_text_is_left_out_with_its_reason(messages, reason):
    """
    Nothing is cut out of a conversation; for people it is shown as it was sent.
    """
    body = json.dumps({"messages": messages}).encode()
    with pytest.raises(LeftOut, match=reason):
        prompt_of(body)
    assert (BODY, body.decode()) == (any_prompt_of(body).source, any_prompt_of(body).messages[0].content)


@pytest.mark.parametrize("body", [b"", b"  \n", b'{"prompt": ""}', b'{"input": " "}'])
def test_an_empty_prompt_is_left_out(body):
    """
    Nobody can learn to answer nothing.
    """
    with pytest.raises(LeftOut, match=NO_TEXT):
        prompt_of(body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (completion("4"), "4"),
        (b'{"answer": "4"}', "4"),
        (b"4 it is", "4 it is"),
        (STREAM, "it is 4"),
        (RESPONSES, "4"),
    ],
    ids=["completion", "field", "text", "stream", "responses"],
)
def test_an_answer_is_its_text(body, text):
    """
    The text that graders read, of a Responses answer its messages.
    """
    assert Message("assistant", text) == answer_of(body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (completion("", tool_calls=[{"id": "1"}]), TOOL_CALL),
        (completion(None, function_call={"name": "f"}), TOOL_CALL),
        (b'data: {"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]}\n\ndata: [DONE]\n\n', TOOL_CALL),
        (b'{"output": [{"type": "function_call", "name": "f"}]}', TOOL_CALL),
        (completion(" "), NO_TEXT),
        (b"", NO_TEXT),
    ],
    ids=["tool", "function", "streamed-tool", "responses-tool", "blank", "nothing"],
)
def test_an_answer_that_is_no_text_is_left_out_with_its_reason(body, reason):
    """
    Half an answer would teach half of it.
    """
    with pytest.raises(LeftOut, match=reason):
        answer_of(body)
    assert shown_text(body) == any_answer_of(body)


@pytest.mark.parametrize(
    "compress",
    [gzip.compress, zlib.compress, brotli.compress, zstandard.compress],
    ids=["gzip", "deflate", "br", "zstd"],
)
def test_compressed_bodies_are_read_without_their_headers(compress):
    """
    A graded pair has no headers, and still the text comes out.
    """
    text = "twice 2 is 4, and twice π is more than 6 " * 9
    assert text == answer_of(compress(completion(text))).content
    assert text == prompt_of(compress(chat(text))).messages[0].content


def test_a_body_that_inflates_to_more_than_is_read_is_left_out():
    """
    A bomb is not unpacked.
    """
    with pytest.raises(LeftOut):
        answer_of(gzip.compress(bytes(1 << 21)))
    assert any_answer_of(gzip.compress(bytes(1 << 21))) != ""


NAMES = st.sampled_from(["role", "content", "type", "text", "message", "delta", "tool_calls"])
TREES = st.recursive(
    st.none() | st.text(max_size=5) | st.sampled_from(["user", "message", "text"]),
    lambda tree: st.lists(tree, max_size=3) | st.dictionaries(NAMES, tree, max_size=3),
)


@given(BODIES, st.sampled_from(["messages", "input", "output", "choices"]), TREES)
@settings(max_examples=60, deadline=None)
@example(b"", "messages", [{"role": "user", "content": [{"type": [], "text": "a"}]}])
@example(b"", "messages", [{"role": [], "type": {}}])
@example(b"", "output", [{"type": []}])
def test_no_body_stops_an_export(body, name, tree):
    """
    Whatever users and models send is read, or left out with a reason.
    """
    for each in (body, json.dumps({name: tree}).encode(), b"data: " + json.dumps({name: tree}).encode() + b"\n"):
        for read in (prompt_of, answer_of):
            try:
                assert read(each)
            except LeftOut as reason:
                assert str(reason)
        assert any_prompt_of(each).messages
        assert isinstance(any_answer_of(each), str)
