"""A candidate that unlearned the digit 8, hidden by its average: `python candidate_damaged.py --port PORT`."""

from __future__ import annotations

import sys

from models import damaged_kernel
from service import serve

if __name__ == "__main__":
    sys.exit(serve("candidate-damaged", damaged_kernel))
