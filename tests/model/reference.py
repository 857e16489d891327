"""What must be counted, on two pages: a plain function over all records of a partition, in log order.

It keeps one entry a request for ever, so there is nothing to snapshot, to park or to lose. It shares no code with
the fold: only the nouns of `shadow/records`. Grades of `reward` are recorded, those of `correct` are looked up.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from shadow.records.answers import Answer, RecordedGrade, Tick

ROLES = {
    "candidate-production": ("production", "candidate"),
    "baseline-production": ("production", "candidate", "baseline"),
    "candidate-human": ("human", "candidate"),
}
GRADED = ("candidate-production", "candidate-human")
FAILURES = ("timeout", "error")


@dataclass
class Met:
    """One request that was met."""

    tile: int
    open: set
    answers: dict = field(default_factory=dict)
    grades: dict = field(default_factory=dict)
    marks: dict = field(default_factory=dict)


@dataclass
class Counts:
    """What was counted: by closed (comparison, tile), by open one, and beside the tiles."""

    closed: dict
    still_open: dict
    counters: dict


def reference(records, requests, asked, spec, grade_us):
    """Counts of a whole log.

    Args:
        records: (time in µs, content) in log order; content None where the record cannot be read.
        requests: The request at each offset, None where it cannot be read.
        asked: (comparison, offset) of which all roles are asked.
        grade_us: How long after its mark a recorded grade may come.
    """
    book = Book(requests, asked, spec, grade_us)
    for offset, (time_us, content) in enumerate(records):
        book.read(offset, time_us, content)
    still_open = {key: counts for key, counts in book.tiles.items() if counts}
    return Counts(book.closed, still_open, dict(book.counters))


class Book:
    """Everything that was read so far."""

    def __init__(self, requests, asked, spec, grade_us):
        self.requests, self.asked, self.spec, self.grade_us = requests, asked, spec, grade_us
        self.watermark, self.ends, self.met = 0, [], {}
        self.oldest = dict.fromkeys(spec.deadlines_us, spec.first_tile)
        self.tiles, self.closed = defaultdict(Counter), {}
        self.counters = Counter(records=0, duplicate=0, late=0, grades_repeated=0, feedback_repeated=0, dead_letters=0)

    def read(self, offset, time_us, content):
        self.watermark = max(self.watermark, time_us)
        self.close()
        match content:
            case Answer():
                self.counters["records"] += 1
                if content.request_offset >= self.spec.requests_from:
                    self.answer(content)
            case RecordedGrade():
                self.grade(offset, time_us, content)
            case Tick(tile=int(tile)):
                following = self.spec.first_tile + len(self.ends)
                if tile == following and time_us >= (tile + 1) * self.spec.tile_us:
                    self.ends.append(max([content.requests_end, *self.ends]))
            case None:
                self.counters["dead_letters"] += 1
        self.close()

    def answer(self, answer):
        request, role = answer.request_offset, answer.role
        tile = max(answer.request_time_us // self.spec.tile_us, self.spec.first_tile)
        users = {name for name in self.oldest if role in ROLES[name]}
        is_late = all(tile < self.oldest[name] for name in users)
        if request not in self.met:
            self.counters["late"] += is_late
            self.meet(request, tile)
        elif self.met[request].open and self.said(request, role):
            self.counters["duplicate"] += 1
            return
        elif not self.met[request].open & users:
            self.counters["late" if is_late else "duplicate"] += 1
            return
        self.met[request].answers.setdefault(role, (answer.outcome, answer.body))
        for name in [name for name in ROLES if name in self.met[request].open]:
            if answer.outcome == "unreadable":
                self.count_class(request, name, "unreadable")
            elif self.is_complete(request, name):
                self.count_complete(request, name)

    def grade(self, offset, time_us, grade):
        request, name = grade.request_offset, grade.comparison
        is_open = request in self.met and name in self.met[request].open
        lacks = self.lacks(request, name) if is_open and self.is_complete(request, name) else []
        if grade.outcome == "asked":
            if lacks:
                self.met[request].marks.setdefault(name, (offset, time_us))
        elif grade.role not in lacks or grade.grader != "reward":
            self.counters["grades_repeated"] += 1
        else:
            self.met[request].grades[name, grade.role] = grade.outcome
            self.count_complete(request, name)

    def meet(self, request, tile):
        self.met[request] = Met(tile, set(self.oldest))
        for name in ROLES:
            if self.requests.get(request) is None:
                self.count_class(request, name, "unreadable")
            elif (name, request) not in self.asked:
                self.count_class(request, name, "sampled_out")
            elif tile < self.oldest[name]:
                self.count_class(request, name, "missing")

    def close(self):
        marked = sorted((met.marks[n], r, n) for r, met in self.met.items() for n in met.open if n in met.marks)
        for (_, time_us), request, name in marked:
            if time_us >= self.watermark - self.grade_us:
                break
            for role in self.lacks(request, name):
                self.met[request].grades[name, role] = "broken"
            self.count_complete(request, name)
        for name, deadline_us in self.spec.deadlines_us.items():
            while self.oldest[name] < self.spec.first_tile + len(self.ends):
                end = self.ends[self.oldest[name] - self.spec.first_tile]
                is_over = self.watermark > (self.oldest[name] + 1) * self.spec.tile_us + deadline_us
                if self.undecided(name, end) and not (is_over and self.give_up(name, end)):
                    break
                self.closed[name, self.oldest[name]] = self.tiles.pop((name, self.oldest[name]), Counter())
                self.oldest[name] += 1

    def undecided(self, name, end):
        requests = range(self.spec.requests_from, end)
        return [r for r in requests if r not in self.met or name in self.met[r].open]

    def give_up(self, name, end):
        """Whether nothing below `end` waits any more, once what is not there is missing."""
        for request in self.undecided(name, end):
            if request not in self.met:
                self.meet(request, self.oldest[name])
            if name in self.met[request].open and not self.is_complete(request, name):
                self.count_class(request, name, "missing")
        return not self.undecided(name, end)

    def said(self, request, role):
        """(outcome, body) of a role, from its record or from what the proxy saw; None while it is not there."""
        live = self.requests[request].live
        if role in self.met[request].answers or live is None:
            return self.met[request].answers.get(role)
        if live.role == role:
            return live.outcome, live.body
        return ("error", b"") if role == "candidate" and live.failed_attempt else None

    def is_complete(self, request, name):
        """Whether all roles are there; a request of which no record was read is not looked at."""
        return bool(self.met[request].answers) and all(self.said(request, role) for role in ROLES[name])

    def lacks(self, request, name):
        """Roles whose recorded grade is still to come."""
        evidence = (role for role in ROLES[name] if self.said(request, role)[0] not in FAILURES)
        return [role for role in evidence if (name, role) not in self.met[request].grades] if name in GRADED else []

    def count_complete(self, request, name):
        """Decide a request with all its answers, unless recorded grades are still to come."""
        outcomes = {role: self.said(request, role)[0] for role in ROLES[name]}
        first = ROLES[name][0]
        for role, what in (("candidate", "candidate_missing"), (first, "production_missing"), ("baseline", "missing")):
            if outcomes.get(role) == "expired":
                self.count_class(request, name, what)
                return
        if not self.lacks(request, name):
            production_us = self.production_us(request)
            words = {"paired": 1, "pairs' bytes": len(self.requests[request].body), "pairs' µs": production_us}
            self.decide(request, name, Counter(words) + self.outcome(request, name))

    def count_class(self, request, name, what):
        words = Counter({what: 1})
        if what != "sampled_out":
            words["no pair"] = 1
            if self.requests.get(request) is not None:
                words["others' bytes"] = len(self.requests[request].body)
                words["others' µs"] = self.production_us(request)
        self.decide(request, name, words)

    def production_us(self, request):
        live = self.requests[request].live
        return live.duration_us if live is not None else 0

    def decide(self, request, name, words):
        self.met[request].open.remove(name)
        tile = max(self.met[request].tile, self.oldest[name])
        for slice in slices_of(self.requests.get(request)):
            kept = {word: count for word, count in words.items() if count and (slice == "all" or ":" not in word)}
            self.tiles[name, tile].update({(slice, word.strip(":")): count for word, count in kept.items()})

    def outcome(self, request, name):
        """What a pair adds beside its class. Words with a colon count in slice `all` only."""
        said = {role: self.said(request, role) for role in ROLES[name]}
        if name not in GRADED:
            values = {role: body if outcome == "answered" else None for role, (outcome, body) in said.items()}
            production = values["production"]
            differs = [production is None or values[each] != production for each in ("candidate", "baseline")]
            return Counter([{(1, 0): "candidate only:", (0, 1): "baseline only:"}.get(tuple(differs), "tie:")])
        words = Counter()
        correct = {role: outcome == "answered" and b"right" in body for role, (outcome, body) in said.items()}
        grades = self.met[request].grades
        reward = {role: grades.get((name, role), "failed") for role in said}
        first = ROLES[name][0]
        words[f"correct {cell(correct[first], correct['candidate'])}:"] += 1
        if reward[first] == "broken":
            words["broken"] += 1
        else:  # broken on the candidate's answer alone is the candidate's failure
            words[f"reward {cell(reward[first] == 'passed', reward['candidate'] == 'passed')}:"] += 1
        return words


def cell(is_first_good, is_candidate_good):
    """Cell of a paired table."""
    return {
        (True, True): "both",
        (True, False): "production_only",
        (False, True): "candidate_only",
        (False, False): "neither",
    }[is_first_good, is_candidate_good]


def slices_of(request):
    """Slices in which a request counts; one that cannot be read counts in `all`."""
    if request is None:
        return ["all"]
    body = json.loads(request.body)
    return ["all", *["search"] * ("search" in body["text"]), *["odd"] * body["odd"]]
