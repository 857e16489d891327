"""The first configuration, as `shadow init` writes it."""

from __future__ import annotations

from typing import Final

from shadow.errors import Usage
from shadow.settings.names import url_problem

_TEMPLATE: Final = """\
# What Shadow tries, and what must be proven before the candidate is promoted.
# `shadow check -c shadow.yaml` says everything that is wrong with this file at once.
run: {{candidate: candidate-1, production: production-1}}     # names of the two versions: a-z, 0-9 and -

# `embedded` runs a broker and a store on this machine, for a first try. For real traffic name your own:
#   kafka: {{bootstrap.servers: "kafka:9092"}}                # any property of librdkafka; secrets as env:NAME
#   redis: {{url: "redis://redis:6379/0"}}
kafka: embedded
redis: embedded

proxy:
  listen: 127.0.0.1:8080                                  # send your traffic here instead of to production
  upstream: {production}
  mirror:
    sample: 1.0                                           # share of the sessions that are copied, in (0, 1]
    key: "header:x-session-id"                            # requests of one session are copied together or not at all
    methods: [POST]                                       # copied are only these methods …
    paths: ["/v1/*"]                                      # … of these paths; the candidate gets them too, so no writes
    body_max: 1MiB                                        # larger bodies are forwarded, and not copied
  # redact: {{headers: [x-tenant], json: ["$.user"]}}       # headers to record beside the default ones; values to mask

workers:
  candidate:
    url: {candidate}
    deadline: 30s                                         # a later answer counts as a failure of the candidate
    # budget: {{cost: 50, calls: 200000}}                   # beyond it no call is made, and the run holds
    # rewrite: {{json: {{"$.model": candidate-1}}, headers: {{authorization: "env:CANDIDATE_KEY"}}}}

# Parts of the traffic that are judged on their own, for example:
#   slices:
#     division: {{text: "(?i)divided? by", traffic: 300/h}}   # traffic lets `check` refuse what cannot be proven
slices: {{}}

# Rules on single answers. Others are contains, regex, exact, numeric, answer_tag, concise, cites_version_pin,
# no_deprecated_api, safety, reward_model, latency, cost and python.
graders:
  served: {{kind: status}}                                  # the answer's status is 2xx
  # correct: {{kind: numeric, tag: answer, expected: "json:$.metadata.answer", tolerance: 1e-6}}
  # safe: {{kind: safety, deny: ["(?i)rm -rf /"]}}

expires: 7d                                               # a run that has proven nothing by then ends without effect
stages:
  shadow:
    needs: {{pairs: 5000, within: 24h, slice_pairs: 1250, coverage: 0.98}}
    alpha: 0.05                                           # chance of a false rollback, and of each false promotion
    rules:
      # Strict: roll back on any proven decrease. Promotion needs the proof that it is not worse than the margin.
      - no_regression: {{slice: all, grader: served, margin: 0.05, strict: true}}
      - latency: {{quantile: 0.95, max_ratio: 1.25}}
"""


def first_configuration(production_url: str, candidate_url: str) -> str:
    """The commented YAML of a first configuration; it loads without a problem.

    Args:
        production_url: `http://host:port`, without a path.
        candidate_url: `http://` or `https://`, with or without a path.

    Raises:
        Usage: If one of them is no such URL.
    """
    for name, url, schemes in (
        ("PRODUCTION_URL", production_url, ("http",)),
        ("CANDIDATE_URL", candidate_url, ("http", "https")),
    ):
        problem = url_problem(url, schemes)
        if problem is not None:
            raise Usage(f"{name}: read {url!r}, {problem}")
    return _TEMPLATE.format(production=_quoted(production_url), candidate=_quoted(candidate_url))


def _quoted(url: str) -> str:
    return '"' + url.replace("\\", "\\\\").replace('"', '\\"') + '"'
