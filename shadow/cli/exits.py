"""Exit codes of every command (design.md, section 10)."""

from __future__ import annotations

from typing import Final

DONE: Final = 0
USAGE: Final = 2
UNDECIDED: Final = 3
ROLLBACK: Final = 4
BROKEN: Final = 5

BY_DECISION: Final = {"promote": DONE, "hold": UNDECIDED, "expire": UNDECIDED, "rollback": ROLLBACK}
