"""Candidate B, which pins the version and divides better: `python candidate_b.py --port PORT`."""

from __future__ import annotations

import sys

from answers import CANDIDATE_B
from service import serve

if __name__ == "__main__":
    sys.exit(serve(CANDIDATE_B))
