"""A candidate that reads better, a support vector machine: `python candidate_better.py --port PORT`."""

from __future__ import annotations

import sys

from models import kernel
from service import serve

if __name__ == "__main__":
    sys.exit(serve("candidate-better", kernel))
