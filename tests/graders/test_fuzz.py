"""Whatever stands in an answer or a request, every grader gives a sound grade and says nothing else."""

from __future__ import annotations

import gzip

from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.graders import build
from shadow.graders.guard import OUTCOMES, grade_safely, read_safely
from shadow.records.grades import BROKEN, Ask, Grade, GraderSpec
from tests.graders.answers import answer, request

GRADERS = [
    build(GraderSpec(kind, kind, (), params))
    for kind, params in {
        "status": {},
        "exact": {"expected": "json:$.metadata.answer", "tag": "answer"},
        "contains": {"any": ("urgent",), "regex": (r"(a+)+$",)},
        "numeric": {"expected": "json:$.metadata.answer"},
        "answer_tag": {},
        "concise": {"max_words": 5, "max_chars": 100},
        "cites_version_pin": {"package": "search-api"},
        "no_deprecated_api": {"names": ("legacy_lookup", "numpy.float")},
        "safety": {"deny": (r"(?i)rm -rf /",), "require": ("a",)},
        "reward_model": {"url": "http://127.0.0.1:1/score"},
        "latency": {"max_us": 5},
        "cost": {"max_micro": 5},
    }.items()
]
PIECES = st.sampled_from(
    [
        b'{"choices":[{"message":{"content":"',
        b'"}}]}',
        b"<answer>",
        b"</answer>",
        b"```python\n",
        b"\n```\n",
        b"search-api==",
        b"4.2",
        b"data: ",
        b"\n\n",
        b"1e400",
        b"NaN",
        b"\\ud800",
        b"\xff\xfe",
        b"legacy_lookup(",
        b"import numpy as np\n",
        b"'''",
        b"(" * 50,
    ]
)
BODIES = st.one_of(
    st.binary(max_size=200), st.lists(st.one_of(PIECES, st.binary(max_size=8)), max_size=12).map(b"".join)
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "content-type": st.sampled_from(["text/event-stream", "application/json", ""]),
        "content-encoding": st.sampled_from(["gzip", "deflate", "br", "gzip, deflate", "identity", ","]),
    },
)


@given(BODIES, BODIES, BODIES, HEADERS, st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_graded(body, other_body, request_body, headers, is_compressed):
    """
    Nothing raises, and nothing but an unread encoding is broken by what an answer says.
    """
    to = request(request_body, **{name.replace("-", "_"): value for name, value in headers.items()})
    candidate = answer(gzip.compress(body) if is_compressed else body, to=to, headers=headers)
    production = answer(other_body, to=to, role="production", headers=headers)

    for grader in GRADERS:
        for graded, other in ((production, None), (candidate, production)):
            found = grade_safely(grader, graded, other)
            if isinstance(found, Ask):
                continue
            assert found.outcome in OUTCOMES
            if found.outcome == BROKEN:
                assert "Unreadable" in found.reason or "the request's" in found.reason


@given(BODIES)
@settings(max_examples=200, deadline=None)
def test_any_reply_is_read(reply):
    """
    Any reply of a reward model is a sound grade.
    """
    for grader in GRADERS:
        found = read_safely(grader, reply)
        assert isinstance(found, Grade)
        assert found.score is None or 0 <= found.score <= 1
