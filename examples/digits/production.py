"""The digit reader in service, a logistic regression: `python production.py --port PORT`."""

from __future__ import annotations

import sys

from models import logistic
from service import serve

if __name__ == "__main__":
    sys.exit(serve("production", logistic))
