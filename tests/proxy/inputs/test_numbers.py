"""The list of bad inputs and the tests of this package agree."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

NUMBERS = range(1, 70)


def test_every_number_has_a_test():
    """
    Each of the numbers 1 to 69 stands as `input-N` in the id of a test that runs without a mark.
    """
    here = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "not soak", "-p", "no:cacheprovider", here]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=here.parents[2], check=False)
    assert 0 == done.returncode, done.stdout + done.stderr

    found = {int(number) for number in re.findall(r"\[input-(\d+)-", done.stdout)}
    assert set() == set(NUMBERS) - found
