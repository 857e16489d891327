"""Write the reference tables of docs/ from the code that they describe.

    python -m tests.pages        writes the tables anew
    tests/test_docs.py           fails where a page is not what this would write

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; everything around it is written by people. What a
value must be is what the settings themselves say when they refuse one.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union

from annotated_types import MaxLen, MinLen
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from typer.models import ArgumentInfo, OptionInfo

from shadow.cli.main import MODULE_BY_COMMAND, app_for
from shadow.graders.grader import GRADERS as GRADER_CLASSES
from shadow.metrics import CATALOGUE, EVERY, Metric
from shadow.settings.admin import Admin
from shadow.settings.graders import GRADERS, GraderSection
from shadow.settings.human import Human
from shadow.settings.ingest import Ingest
from shadow.settings.kafka import Kafka
from shadow.settings.notify import Endpoint, Notify
from shadow.settings.proxy import HealthSection, ListenTls, Mirror, ProxySection, ProxyTimeouts, Redact, UpstreamTls
from shadow.settings.redis import Redis
from shadow.settings.rules import RULES
from shadow.settings.run import Run
from shadow.settings.slices import Slice
from shadow.settings.stages import CanaryNeeds, CanaryStage, OfflineStage, ShadowNeeds, ShadowStage, Stages, WatchStage
from shadow.settings.times import Times
from shadow.settings.topics import Topics
from shadow.settings.units import duration_text
from shadow.settings.workers import Budget, Concurrency, Rewrite, TokenPrice, Worker

DOCS: Final = Path(__file__).parent.parent / "docs"
SECTIONS: Final[dict[str, type[BaseModel]]] = {
    "run": Run,
    "kafka": Kafka,
    "redis": Redis,
    "proxy": ProxySection,
    "proxy.mirror": Mirror,
    "proxy.redact": Redact,
    "proxy.timeouts": ProxyTimeouts,
    "proxy.health": HealthSection,
    "proxy.tls": ListenTls,
    "proxy.upstream_tls": UpstreamTls,
    "ingest": Ingest,
    "workers": Worker,
    "workers.budget": Budget,
    "workers.rewrite": Rewrite,
    "workers.concurrency": Concurrency,
    "workers.price": TokenPrice,
    "human": Human,
    "slices": Slice,
    "times": Times,
    "stages": Stages,
    "stages.offline": OfflineStage,
    "stages.shadow": ShadowStage,
    "stages.shadow.needs": ShadowNeeds,
    "stages.canary": CanaryStage,
    "stages.canary.needs": CanaryNeeds,
    "stages.watch": WatchStage,
    "topics": Topics,
    "notify": Notify,
    "notify.endpoints": Endpoint,
    "admin": Admin,
}
"""Sections of shadow.yaml by the name of their table; graders and rules have tables of their own."""

MEANINGS: Final = {
    ("kafka", "bootstrap.servers"): "Addresses of brokers, comma-separated.",
    ("proxy", "mirror"): "What is copied; `proxy.mirror` below.",
    ("proxy", "redact"): "What may stand in a copy; `proxy.redact` below.",
    ("proxy", "timeouts"): "How long each side may take; `proxy.timeouts` below.",
    ("proxy", "health"): "When an address of an upstream is passed over; `proxy.health` below.",
    ("proxy", "tls"): "How clients are spoken to; `proxy.tls` below. Without it: plain HTTP.",
    ("proxy", "upstream_tls"): "How upstreams are spoken to whose URLs are https; `proxy.upstream_tls` below.",
    ("workers", "budget"): "What the calls may cost in all; beyond it none is made, and the run holds.",
    ("workers", "rewrite"): "How the calls differ from the recorded requests.",
    ("workers", "concurrency"): "Bounds within which the number of calls under way adapts.",
    ("workers.concurrency", "min"): "Calls that may always be under way.",
    ("workers.concurrency", "max"): "Most calls under way; of a Python function its threads.",
    ("workers.price", "prompt"): "Money per million tokens of the prompt.",
    ("workers.price", "completion"): "Money per million tokens of the completion.",
    ("workers.rewrite", "headers"): "Value by name; credentials for the model belong here, as `env:NAME`.",
    ("slices", "path"): "Searched in the path.",
    ("slices", "key"): "Searched in the sampling key.",
    ("slices", "headers"): "Pattern by header; only recorded headers can be named.",
    ("slices", "json"): "Value by JSON path of the request's body; of a list, any of its values.",
    ("slices", "traffic"): "Requests that the slice brings before sampling. Optional; with it, a margin that cannot "
    "be proven before `expires` is refused.",
    ("graders", "kind"): "Which grader, one of those below.",
    ("grader.safety", "deny"): "None of these may be found in the answer.",
    ("grader.safety", "require"): "Each of these must be found in the answer.",
    ("slices", "text"): "Searched in the strings of the JSON body, else in the body; its first 64 KiB.",
    ("stages", "shadow"): "No user sees the candidate.",
    ("stages", "offline"): "A frozen suite, before any traffic; `stages.offline` below.",
    ("stages.offline", "rules"): "What the suite must prove: one mapping with one rule each, see Rules.",
    ("stages.offline", "repeat"): "`strict`: two runs over the suite must give every grade alike. `tolerate`: what "
    "differs is said, and judged all the same.",
    ("stages.offline", "alpha"): "False-rollback budget of the stage, and level of each promote test.",
    ("stages", "canary"): "Moves live traffic to the candidate in steps ([stages.md](stages.md)).",
    ("stages", "watch"): "The candidate serves everything, and the former version keeps answering a sample.",
    ("stages.shadow", "rules"): "The policy: one mapping with one rule each, see Rules.",
    ("stages.shadow", "needs"): "Conditions of evidence; `stages.shadow.needs` below.",
    ("stages.canary", "needs"): "Conditions of evidence of each step; `stages.canary.needs` below.",
    ("stages.canary", "rules"): "Without it: rules on `all`, looser than those of the shadow stage.",
    ("stages.watch", "sample"): "Share of the sampling keys that the former version still answers.",
    ("stages.watch", "for"): "How long it does.",
    ("stages.watch", "alpha"): "False-rollback budget of the stage.",
    ("stages.watch", "rules"): "Without it: those of the shadow stage about quality against production, "
    "none of them strict.",
    ("stages.canary", "alpha"): "False-rollback budget of the stage, and level of each promote test.",
    (
        "stages.shadow.needs",
        "freshness",
    ): "Greatest age of the newest closed tile; else twice `tile` + `evidence_deadline`.",
    ("stages.shadow.needs", "within"): "Length of the window in which `pairs` are counted.",
    ("stages.canary.needs", "within"): "The same.",
    ("stages.canary.needs", "freshness"): "As in the shadow stage.",
    ("topics", "requests"): "Live requests with the answer that the user got.",
    ("topics", "answers"): "Answers, recorded grades, ticks and the proxies' reports.",
    ("topics", "pairs"): "Graded pairs.",
    ("topics", "decisions"): "Beginnings of runs, and decisions.",
    ("topics", "dead_letters"): "Records that could not be used, with error and position.",
    ("admin", "proxy"): "Port of the proxy.",
    ("admin", "worker"): "Port of the worker.",
    ("admin", "comparator"): "Port of the comparator.",
    ("admin", "gate"): "Port of the gate.",
    ("admin", "notifier"): "Port of the notifier.",
    ("notify", "endpoints"): "At most 16 receivers by name (a-z, 0-9, -); `notify.endpoints` below.",
    ("grader.status", "codes"): "Statuses (`404`) and classes (`2xx`) that pass.",
    ("grader.regex", "pattern"): "Must be found in the answer.",
    ("grader.latency", "max"): "Longest time that passes.",
    ("grader.cost", "max"): "Highest cost that passes.",
    ("grader.reward_model", "budget"): "How long the service may take for one grade.",
    ("rule", "slice"): "Where it is judged.",
    ("rule", "grader"): "What it judges.",
    ("rule", "against"): "Whose answers are the reference; `human` needs the section `human`.",
    ("rule.quality", "graders"): "Weight of each grader; the weighted mean of its grades is compared.",
    ("rule.quality", "margin"): "How much worse than production is still good enough.",
    ("rule.no_regression", "margin"): "The same; by default 0.05, or, against production, 0.03 where the slice's "
    "`traffic` times its rate reaches 2,500 requests a day.",
    ("rule.no_regression", "strict"): "Roll back on any proven decrease, not only on one beyond the margin.",
    ("rule.cap", "max"): "Share of answers that may fail the grader.",
    ("rule.cap", "alpha"): "Level of this rule's promote test.",
    ("rule.floor", "min"): "Share of answers that must pass the grader.",
    ("rule.improve", "by"): "Least gain, in points of the rate (0.02: two of a hundred).",
    ("rule.improve", "fails"): "Whether a proven lack of the gain rolls back; without it, it only holds.",
    ("rule.equivalent", "margin"): "Largest difference, either way.",
    ("rule.latency", "quantile"): "Which quantile.",
    ("rule.latency", "max_ratio"): "Candidate's by production's. Needed but for quantile 0.95 (1.25) and 0.99 (1.5) of "
    "the total time.",
    ("rule.latency", "quantity"): "Time to the answer's end, or to its first byte.",
    ("rule.latency", "reference"): "Production's quantile, fixed before the run. Without it: taken from the stage's "
    "first 1,000 production answers, an equal share of each partition.",
    ("rule.cost", "cap"): "Most that one answer may cost; a dearer one is the candidate's failure.",
    ("rule.cost", "max_ratio"): "Candidate's mean cost by production's.",
    ("rule.cost", "basis"): "Money a request, or tokens.",
    ("rule.no_reward_hacking", "reward"): "Grader that can be fooled, such as a `reward_model`.",
    ("rule.no_reward_hacking", "verifiable"): "Graders that cannot; none of them a `reward_model`.",
    ("rule.no_reward_hacking", "margin"): "How much more often than for production it may happen.",
    ("rule.agreement", "margin"): "How much more often than the baseline's the candidate's answers may differ.",
    ("rule.agreement", "tag"): "Compare only the text within this tag.",
    ("rule.agreement", "json"): "Or only what this JSON path finds; without both the whole text, white space aside.",
    ("rule.no_reward_hacking", "strict"): "Roll back on any proven increase.",
    ("rule.feedback", "slice"): "Only `all`: a vote does not say what was asked.",
    ("rule.feedback", "max_ratio"): "How many times as often users may complain of the candidate's answers as of "
    "production's.",
}
"""Meanings that no docstring has in the words of the file, by table and key; `rule`: of every rule."""

PROBES: Final = ("9" * 12 + "d", "9" * 12 + "GiB", object())


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def keys(model: type[BaseModel]) -> list[str]:
    """The keys of a section, as they are written in the file."""
    return ["bootstrap.servers"] if model is Kafka else [f.alias or name for name, f in model.model_fields.items()]


def settings_table(name: str, model: type[BaseModel], skipped: tuple[str, ...] = ()) -> str:
    """The keys of one section: what they must be, what they are by default, what they mean."""
    if model is Kafka:
        rows = [("`bootstrap.servers`", "text", "required", MEANINGS["kafka", "bootstrap.servers"])]
        rows.append(("any other", "text or number, or `env:NAME`", "–", "Passed on to librdkafka as it is."))
        return table(("key", "value", "default", "meaning"), iter(rows))

    def row(attribute: str, field: FieldInfo) -> tuple[str, ...]:
        key = field.alias or attribute
        return f"`{key}`", must(field), default_text(attribute, field), meaning(name, model, attribute, key)

    fields = model.model_fields.items()
    rows_of = (row(attribute, field) for attribute, field in fields if (field.alias or attribute) not in skipped)
    return table(("key", "value", "default", "meaning"), rows_of)


def must(field: FieldInfo) -> str:
    """What a value must be, in the settings' own words."""
    return words(field.annotation, field.metadata)


def words(annotation: Any, metadata: list[Any] | tuple[Any, ...] = ()) -> str:
    for item in metadata:
        if isinstance(item, BeforeValidator):
            said = refusal(typing.cast(Callable[[Any], Any], item.func))
            if said:
                return said
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return words(arguments[0], arguments[1:])
    if origin in (Union, types.UnionType):
        return words(next(each for each in arguments if each is not type(None)))
    if origin is tuple:
        least = next((item.min_length for item in metadata if isinstance(item, MinLen)), 0)
        most = next((item.max_length for item in metadata if isinstance(item, MaxLen)), None)
        bound = "at least one" if least else f"at most {most}" if most else ""
        item = "a rule" if "RuleSection" in str(arguments[0]) else words(arguments[0])
        return f"list{f' ({bound})' if bound else ''} of: {item}"
    if origin is dict:
        return f"mapping of: {words(arguments[0])}; to: {words(arguments[1])}"
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if annotation is bool:
        return "`true` or `false`"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "section"
    return {str: "text", int: "whole number", float: "number"}.get(annotation, "any JSON value")


def refusal(read: Callable[[Any], Any]) -> str:
    """What a validator says that a value must be; empty where it takes anything."""
    said = []
    for probe in PROBES:
        try:
            read(probe)
        except PydanticCustomError as error:
            said.append(error.message().removeprefix("must be ").partition(";")[0])
        except (TypeError, AttributeError):
            continue  # it converts what the next one checks
    return next((sentence for sentence in said if " from " in sentence), said[-1] if said else "")


def default_text(attribute: str, field: FieldInfo) -> str:
    """A default as it would be written in the file."""
    if field.is_required():
        return "required"
    value, kind = field.default, must(field)
    if value is None or value in ((), {}, ""):
        return "–"
    if isinstance(value, BaseModel):
        return "its defaults"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if "a duration" in kind:
        us = value if attribute.endswith("_us") else round(value * 1_000_000)
        return f"`{duration_text(us)}`"
    if "a size" in kind:
        unit, size = next(pair for pair in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)) if value >= pair[1])
        return f"`{value // size}{unit}`"
    if attribute.endswith("_micro"):
        return f"`{value / 1e6:g}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(str(each) for each in value)}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def meaning(name: str, model: type[BaseModel], attribute: str, key: str) -> str:
    """What a key means: as MEANINGS says, else as the docstring of the section or the grader does."""
    for table_name in (name, name.partition(".")[0]):
        if (table_name, key) in MEANINGS:
            return MEANINGS[table_name, key]
    kind = name.removeprefix("grader.")
    for owner in (*model.__mro__, GRADER_CLASSES.get(kind)):
        said = arguments_of(owner)
        found = said.get(key) or said.get(attribute)
        if found:
            return found
    raise LookupError(f"nothing says what {name}.{key} means; MEANINGS in {Path(__file__).name} is the place")


def arguments_of(owner: Any) -> dict[str, str]:
    """The `Args` of a docstring, in the words of the configuration file."""
    found: dict[str, str] = {}
    _, _, section = inspect.cleandoc(owner.__doc__ or "").partition("Args:\n")
    for entry in re.split(r"\n(?=    \S)", section.partition("\n\n")[0]):
        names, _, text = entry.strip().partition(": ")
        said = " ".join(text.split())
        said = re.sub(r", (seconds|bytes|micro-units of money|microseconds)(?=[.;])", "", said)
        said = said.replace("None: ", "without it: ")
        found |= dict.fromkeys(names.split(", "), said[:1].upper() + said[1:])
    return found


def metrics_table(metrics: list[Metric]) -> str:
    """Metrics: name, kind, unit, labels, meaning."""

    def label(metric: Metric, name: str) -> str:
        values = metric.values.get(name)
        return f"`{name}`" + (f" ({', '.join(values)})" if values else "")

    rows = (
        (f"`{m.name}`", m.kind, m.unit, "; ".join(label(m, name) for name in m.labels) or "–", m.help) for m in metrics
    )
    return table(("metric", "kind", "unit", "labels", "meaning"), rows)


def commands() -> dict[str, Callable[..., Any]]:
    """The function of each command, in the order of the list of commands; of a group `GROUP.COMMAND`."""
    app = app_for([])
    found = {command.callback.__name__: inspect.unwrap(command.callback) for command in app.registered_commands}
    for group in app.registered_groups:
        for command in group.typer_instance.registered_commands:
            found[f"{group.typer_instance.info.name}.{command.name}"] = inspect.unwrap(command.callback)
    return {name: found[name] for first in MODULE_BY_COMMAND for name in found if name.partition(".")[0] == first}


def options_table(command: Callable[..., Any]) -> str:
    """Arguments and options of a command."""
    hints = typing.get_type_hints(command, include_extras=True)

    def row(name: str, parameter: inspect.Parameter) -> tuple[str, str, str]:
        info = next(item for item in hints[name].__metadata__ if isinstance(item, ArgumentInfo | OptionInfo))
        is_required = parameter.default is inspect.Parameter.empty
        default = "–" if parameter.default in (None, False) else f"`{parameter.default}`"
        # In an annotation the first name takes the place of the default.
        given = [each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str)]
        option = ", ".join(given or [f"--{name.replace('_', '-')}"])
        shown = info.metavar or name.upper() if isinstance(info, ArgumentInfo) else option
        return f"`{shown}`", "required" if is_required else default, info.help or "The configuration file."

    parameters = inspect.signature(command).parameters
    return table(("option", "default", "meaning"), (row(name, parameter) for name, parameter in parameters.items()))


def tables() -> dict[str, str]:
    """Every table by its name."""
    found = {name: settings_table(name, model) for name, model in SECTIONS.items()}
    found["graders"] = settings_table("graders", GraderSection)
    found |= {
        f"grader.{kind}": settings_table(f"grader.{kind}", model, ("kind", "slices")) for kind, model in GRADERS.items()
    }
    found |= {f"rule.{kind}": settings_table(f"rule.{kind}", model) for kind, model in RULES.items()}
    found["metrics.every"] = metrics_table([m for m in CATALOGUE if m.processes == EVERY or len(m.processes) > 1])
    for process in ("proxy", "worker", "comparator", "gate", "notifier"):
        found[f"metrics.{process}"] = metrics_table([m for m in CATALOGUE if m.processes == {process}])
    found |= {f"command.{name}": options_table(command) for name, command in commands().items()}
    return found


BLOCK: Final = re.compile(r"<!-- table: (\S+) -->\n.*?<!-- end -->", re.DOTALL)


def written(page: str, known: dict[str, str]) -> str:
    """A page with its tables as they must be."""
    return BLOCK.sub(lambda found: f"<!-- table: {found[1]} -->\n\n{known[found[1]]}\n\n<!-- end -->", page)


def main() -> None:
    known = tables()
    for path in sorted(DOCS.glob("*.md")):
        before = path.read_text()
        after = written(before, known)
        if before != after:
            path.write_text(after)
            print(f"{path.name} written")


if __name__ == "__main__":
    main()
