"""What the settings promise beyond single fields: secrets, the digest, names, defaults and YAML's traps."""

from __future__ import annotations

import pytest

from shadow.errors import Usage
from shadow.records.policy import Cap, Cost, Floor, Latency, NoRegression, Quality
from shadow.settings.template import first_configuration
from shadow.settings.tree import tree_from_bytes
from shadow.usage import Price
from tests.settings.configurations import BASE, changed, problems_of, settings_of

KAFKA = "kafka: {bootstrap.servers: 'kafka:9092', sasl.password: 'env:KAFKA_PASSWORD', socket.keepalive.enable: true}"
HEADERS = "    deadline: 30s\n    rewrite: {headers: {Authorization: 'env:CANDIDATE_KEY'}}"


def test_secrets_come_from_the_environment():
    """
    `env:NAME` is replaced where secrets may stand, and booleans become what librdkafka reads.
    """
    settings = settings_of(changed("kafka: embedded", KAFKA), {"KAFKA_PASSWORD": "hunter2\n"})

    assert {
        "bootstrap.servers": "kafka:9092",
        "sasl.password": "hunter2",
        "socket.keepalive.enable": "true",
    } == settings.kafka_properties()
    assert "hunter2" not in repr(settings)


def test_a_missing_secret_is_refused_by_who_needs_it():
    """
    The gate needs no key of the candidate, so a variable that is not set is refused when it is used.
    """
    settings = settings_of(changed("kafka: embedded", KAFKA))

    with pytest.raises(Usage, match=r"^kafka.sasl.password: the environment variable KAFKA_PASSWORD is not set$"):
        settings.kafka_properties()
    with pytest.raises(Usage, match=r"^redis.url: the environment variable REDIS_URL is not set$"):
        settings_of(changed("redis: embedded", "redis: {url: 'env:REDIS_URL'}")).redis_url()


def test_a_secret_is_not_quoted_in_a_problem():
    """
    A value that may be a secret is never part of a sentence, even when it came from the environment.
    """
    text = changed("    deadline: 30s", HEADERS)

    with pytest.raises(Usage) as caught:
        settings_of(text, {"CANDIDATE_KEY": "Bearer hunter2\x00"})

    assert "workers.candidate.rewrite.headers.Authorization: read a value that is not shown" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("listen: 0.0.0.0:8080", "listen: 127.0.0.1:9000"),
        ("http://production:8000", "http://10.0.0.1:80"),
        ("http://candidate:8000", "https://candidate.example"),
        ("http://reward:9000/score", "http://other:9000/score"),
        ("kafka: embedded", KAFKA),
        ("redis: embedded", "redis: {url: 'redis://redis:6379/0'}"),
        ("tile: 60s", "tile: 1m\nadmin: {gate: 0}\ntopics: {requests: r}"),
        ("    deadline: 30s", "    deadline: 30000ms\n    budget: {calls: 5}\n    concurrency: {max: 8}"),
        ("sample: 0.2", "sample: 0.20   # a comment"),
    ],
)
def test_the_digest_ignores_what_counts_nothing(old, new):
    """
    Addresses, secrets, budgets and the way of writing do not make another run.
    """
    assert settings_of().digest() == settings_of(changed(old, new)).digest()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("candidate: search-agent-v42", "candidate: search-agent-v43"),
        ("sample: 0.2", "sample: 0.3"),
        ("quotas: {division: 1.0}", "quotas: {division: 0.9}"),
        ('paths: ["/v1/*"]', 'paths: ["/v2/*"]'),
        ("proxy:\n", 'proxy:\n  redact: {json: ["$.user"]}\n'),
        ("    deadline: 30s", "    deadline: 20s"),
        ("    deadline: 30s", "    sample: 0.5"),
        ("    deadline: 30s", "    rewrite: {json: {$.model: a}}"),
        ("    deadline: 30s", "    price: {prompt: 1}"),
        ("tile: 60s", "tile: 30s"),
        ("evidence_deadline: 15m", "evidence_deadline: 16m"),
        ("expires: 7d", "expires: 8d"),
        ("x{500}", "x{400}"),
        ("passes_at: 0.5", "passes_at: 0.6"),
        ("strict: true", "strict: false"),
        ("alpha: 0.05", "alpha: 0.04"),
        ("      - latency: {quantile: 0.95}", "      - cost: {cap: 0.5}"),
    ],
)
def test_the_digest_covers_what_is_counted_or_judged(old, new):
    """
    Whatever changes a count or a verdict makes another run.
    """
    assert settings_of().digest() != settings_of(changed(old, new)).digest()


def test_the_digest_is_that_of_every_machine():
    """
    The digest of a fixed file is a constant; a change of it would end every run that goes on.
    """
    assert "17bd6aef79cbfb860c310a9f557d1cc9437c819e4fda4960089a85e35ac41286" == settings_of().digest()


def test_names_of_runs():
    """
    A run's name is candidate, digest and attempt, and fits into 64 characters.
    """
    settings = settings_of(changed("candidate: search-agent-v42", "candidate: " + "a" * 50))

    assert f"{'a' * 50}-{settings.digest()[:8]}-9999" == settings.run_name(9999)
    assert 64 == len(settings.run_name(9999))
    for attempt in (0, 10_000):
        with pytest.raises(Usage, match="must be from 1 to 9,999"):
            settings.run_name(attempt)


def test_defaults_of_rules():
    """
    Rules without numbers have those of statistics.md, a.4; a busy slice is judged more closely.
    """
    rules = """
      - quality: {graders: {correct: 1}}
      - no_regression: {grader: reward}
      - no_regression: {grader: correct, slice: division}
      - cap: {grader: safe}
      - floor: {grader: correct}
      - latency: {}
      - latency: {quantile: 0.99}
      - cost: {cap: 0.5}
"""
    text = BASE[: BASE.index("    rules:")] + "    rules:" + rules

    assert (
        Quality({"correct": 1.0}, 0.03),
        NoRegression("reward", margin=0.05),
        NoRegression("correct", "division", margin=0.03),
        Cap("safe", 0.005, 0.01),
        Floor("correct", 0.95),
        Latency(0.95, 1.25),
        Latency(0.99, 1.5),
        Cost(1.10, "request", 500_000),
    ) == settings_of(text).policy().stages[0].rules
    rare = settings_of(text.replace("traffic: 300/h", "traffic: 100/h")).policy().stages[0].rules
    assert NoRegression("correct", "division", margin=0.05) == rare[2]


def test_defaults_of_canary_and_watch():
    """
    A canary without rules has looser ones on `all`; a watch without rules has the shadow stage's, none strict.
    """
    text = changed("stages:\n", "stages:\n  canary: {}\n  watch: {production_url: 'http://old:8000'}\n")

    _, canary, watch = settings_of(text).policy().stages

    assert (
        Quality({"correct": 1.0}, 0.05, "canary/all"),
        Cap("safe", 0.02, slice="canary/all"),
        Latency(0.95, 1.5, slice="canary/all"),
    ) == canary.rules
    assert (
        Quality({"correct": 1.0}, 0.03, "watch/all"),
        NoRegression("correct", "watch/division", 0.05, strict=False),
        Cap("safe", 0.005, slice="watch/all"),
    ) == watch.rules


def test_prices_are_exact():
    """
    Money becomes whole micro-units, and production is priced like the candidate where it has no price of its own.
    """
    settings = settings_of(changed("    deadline: 30s", "    price: {prompt: 0.1, completion: 8}"))

    assert Price(100_000, 8_000_000) == settings.price("candidate") == settings.price("production")


def test_production_needs_no_address():
    """
    A worker of production may carry a price only, since the proxy records production's answers.
    """
    text = changed("workers:\n", "workers:\n  production: {price: {prompt: 3}}\n")

    assert Price(3_000_000, 0) == settings_of(text).price("production")


def test_settings_are_frozen():
    """
    Nothing changes a configuration after it was checked.
    """
    settings = settings_of()

    with pytest.raises(ValueError, match="frozen"):
        settings.run.candidate = "another"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("No", "No"),
        ("1_0", "1_0"),
        ("12:30:45", "12:30:45"),
        ("010", "010"),
        ("0x10", "0x10"),
        ("2001-01-01", "2001-01-01"),
        ("=", "="),
        ("1e-6", 1e-6),
        (".5", 0.5),
        ("-3", -3),
        ("true", True),
        ("~", None),
        ("'true'", "true"),
        ("'3'", "3"),
        ("NaN", "NaN"),
        ("1" * 41, float("1" * 41)),
    ],
)
def test_scalars_mean_what_they_look_like(text, value):
    """
    A plain scalar is null, true, false or a decimal number, else a text: nothing of YAML 1.1's surprises.
    """
    read = tree_from_bytes(f"a: {text}\n".encode()).root["a"]

    assert value == read
    assert type(value) is type(read)


def test_the_first_configuration_loads():
    """
    What `shadow init` writes loads cleanly and has a strict rule on `all`.
    """
    text = first_configuration("http://127.0.0.1:8000", "https://models.example/candidate")

    assert [] == problems_of(text)
    rules = settings_of(text).policy().stages[0].rules
    assert any(isinstance(rule, NoRegression) and rule.strict and rule.slice == "all" for rule in rules)


def test_the_first_configuration_needs_addresses():
    """
    Bad addresses are refused before a file is written.
    """
    with pytest.raises(
        Usage, match=r"^PRODUCTION_URL: read 'production:8000', must be a URL such as http://host:8000$"
    ):
        first_configuration("production:8000", "http://candidate:8000")


def test_commented_examples_of_the_first_configuration_are_right():
    """
    Lines that are commented out load as well once their mark is taken away.
    """
    text = first_configuration("http://127.0.0.1:8000", "http://127.0.0.1:8001")
    for mark in ("  # redact", "    # budget", "    # rewrite", "  # correct", "  # safe"):
        assert text.count(mark) == 1
        text = text.replace(mark, mark.replace("# ", ""))

    assert [] == problems_of(text)
