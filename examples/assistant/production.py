"""The assistant's version in service: `python production.py --port PORT`."""

from __future__ import annotations

import sys

from answers import PRODUCTION
from service import serve

if __name__ == "__main__":
    sys.exit(serve(PRODUCTION))
