"""What must be counted, on one page: a plain function over all records of a partition, in log order.

It keeps one entry a request for ever: nothing to snapshot, nothing to lose. It shares no code with the fold.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from shadow.records.answers import Answer, Tick

ROLES = {
    "candidate-production": ("production", "candidate"),
    "baseline-production": ("production", "candidate", "baseline"),
    "candidate-human": ("human", "candidate"),
}


@dataclass
class Met:
    """One request that was met."""

    tile: int
    open: set
    answers: dict = field(default_factory=dict)

    def answer(self, role, live):
        """(outcome, body) of a role; None while it is not there. Production's stands in the request itself."""
        return self.answers.get(role) or (("answered", live) if role == "production" else None)


def reference(records, lives, tile_us, deadlines_us):
    """Counts by closed (comparison, tile), by open one, and the counters, of (time in µs, content) in log order."""
    watermark, ticks, met = 0, [], {}
    oldest = dict.fromkeys(deadlines_us, 0)
    tiles, closed = defaultdict(Counter), {}
    counters = Counter(records=0, duplicate=0, late=0)

    def decide(request, name, counts):
        met[request].open.discard(name)
        tiles[name, max(met[request].tile, oldest[name])].update(counts)

    def meet(request, tile):
        met[request] = Met(tile, set(deadlines_us))
        for name in deadlines_us:
            if tile < oldest[name]:
                decide(request, name, ["missing"])

    def close():
        for name, deadline_us in deadlines_us.items():
            while oldest[name] < len(ticks):
                undecided = [r for r in range(ticks[oldest[name]]) if r not in met or name in met[r].open]
                if undecided and watermark <= (oldest[name] + 1) * tile_us + deadline_us:
                    break
                for request in undecided:
                    if request not in met:
                        meet(request, oldest[name])
                    if name in met[request].open:
                        decide(request, name, ["missing"])
                closed[name, oldest[name]] = tiles.pop((name, oldest[name]), Counter())
                oldest[name] += 1

    def apply(answer):
        request, role, tile = answer.request_offset, answer.role, answer.request_time_us // tile_us
        users = [name for name in deadlines_us if role in ROLES[name]]
        is_late = all(tile < oldest[name] for name in users)
        if request not in met:
            meet(request, tile)
            counters["late"] += is_late
        elif met[request].open and met[request].answer(role, lives[request]):
            counters["duplicate"] += 1
            return
        elif not met[request].open.intersection(users):
            counters["late" if is_late else "duplicate"] += 1
            return
        met[request].answers.setdefault(role, (answer.outcome, answer.body))
        for name in sorted(met[request].open):
            answers = {each: met[request].answer(each, lives[request]) for each in ROLES[name]}
            if answer.outcome == "unreadable":
                decide(request, name, ["unreadable"])
            elif all(answers.values()):
                decide(request, name, counts_of(name, answers))

    for time_us, content in records:
        watermark = max(watermark, time_us)
        close()
        if isinstance(content, Answer):
            counters["records"] += 1
            apply(content)
        elif isinstance(content, Tick) and content.tile == len(ticks) and time_us >= (content.tile + 1) * tile_us:
            ticks.append(max([content.requests_end, *ticks]))
        close()
    return closed, {key: counts for key, counts in tiles.items() if counts}, dict(counters)


def counts_of(name, answers):
    """What one request with all its answers adds to a tile."""
    outcomes = {role: outcome for role, (outcome, _) in answers.items()}
    first = ROLES[name][0]
    for role, what in (("candidate", "candidate_missing"), (first, "production_missing"), ("baseline", "missing")):
        if outcomes.get(role) == "expired":
            return [what]
    values = {role: body.strip() if outcomes[role] == "answered" else None for role, (_, body) in answers.items()}
    if name == "baseline-production":
        differs = [
            values["production"] is None or values[role] != values["production"] for role in ("candidate", "baseline")
        ]
        kind = "candidate only" if differs > differs[::-1] else "baseline only" if differs < differs[::-1] else "tie"
        return ["paired", kind]
    passed = [values[role] is not None and b"right" in values[role] for role in (first, "candidate")]
    kinds = {(True, True): "both", (True, False): "reference only", (False, True): "candidate alone"}
    return ["paired", kinds.get(tuple(passed), "neither")]
