"""Candidate A, fluent and wrong about the search API: `python candidate_a.py --port PORT`."""

from __future__ import annotations

import sys

from answers import CANDIDATE_A
from service import serve

if __name__ == "__main__":
    sys.exit(serve(CANDIDATE_A))
