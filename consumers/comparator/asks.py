"""Put what graders ask for to their services, until the pair no longer waits for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from shadow.adapters.ask_http import AskPool
from shadow.adapters.logs import Repeated
from shadow.graders.grader import Grader
from shadow.graders.guard import read_safely
from shadow.records.grades import Grade
from shadow.stream.state import AskNow

ASKS_MAX: Final = 2000
AGAIN_S: Final = 2.0


class Asks:
    """The questions under way.

    Args:
        pool: Carries them out.
        graders: By name; they read the replies.
        is_waited_for: Whether a pair of a partition still waits for its grades.
        trouble: Told of services that do not answer.
    """

    def __init__(
        self,
        pool: AskPool,
        graders: Mapping[str, Grader],
        is_waited_for: Callable[[int, AskNow], bool],
        trouble: Repeated,
    ) -> None:
        self._pool = pool
        self._graders = graders
        self._is_waited_for = is_waited_for
        self._trouble = trouble
        self._again: deque[tuple[float, int, AskNow]] = deque()

    @property
    def is_full(self) -> bool:
        """Whether so many questions wait that no more pairs should be read."""
        return self._pool.pending() > ASKS_MAX

    def put(self, partition: int, ask: AskNow) -> None:
        """Put a question."""
        self._pool.submit(ask.ask, (partition, ask))

    def grades(self, now_s: float) -> Iterator[tuple[int, AskNow, Grade]]:
        """Grades that came back; what had no answer is asked again while its pair waits."""
        for token, reply, error in self._pool.finished():
            partition, ask = token
            if not self._is_waited_for(partition, ask):
                continue
            if reply is None:
                self._trouble.warning("grader %s: %s; asking again", ask.grader, error)
                self._again.append((now_s + AGAIN_S, partition, ask))
                continue
            yield partition, ask, read_safely(self._graders[ask.grader], reply)
        while self._again and self._again[0][0] <= now_s:
            _, partition, ask = self._again.popleft()
            if self._is_waited_for(partition, ask):
                self.put(partition, ask)
