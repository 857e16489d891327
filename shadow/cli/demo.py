"""`shadow demo`: the main job on this machine, with the embedded broker and store, in two acts.

Act one: a candidate that cheats is rolled back with the reason. Act two: the fixed one is promoted after
5,000 pairs. Time is compressed by the configuration alone (short tiles); the decision's clock is the log's.
"""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.live import Live
from rich.panel import Panel

from consumers.loop import WallClock
from shadow.adapters import last_known
from shadow.adapters.data import data_dir
from shadow.adapters.embedded import EmbeddedBroker, EmbeddedStore, free_port
from shadow.adapters.logs import configure
from shadow.cli import wiring
from shadow.cli.begin import begin, runs_of, transactional_id
from shadow.cli.display import SHORT_VERDICTS, run_panel
from shadow.cli.exits import exiting
from shadow.cli.supervise import Supervisor, shadow_command
from shadow.cli.traffic import Traffic, requests_module
from shadow.cli.view import live_view
from shadow.errors import Unavailable, Usage
from shadow.gate.history import Run

ACT_S_MAX = 150.0
RATE_PER_S = 160.0


@dataclass(frozen=True, slots=True)
class Act:
    """One candidate of an example.

    Args:
        title: What it shows.
        candidate: Its service's script.
        config: Its configuration.
        expects: The decision that the example was made for.
        requests: Most requests that are sent.
    """

    title: str
    candidate: str
    config: str
    expects: str
    requests: int


@dataclass(frozen=True, slots=True)
class Example:
    """An example: what it is, the services beside the candidate, its acts."""

    about: str
    services: tuple[str, ...]
    path: str
    acts: tuple[Act, ...]


EXAMPLES = {
    "assistant": Example(
        "a scripted chat assistant: a fluent candidate that cheats, then the fixed one",
        ("production.py", "reward.py"),
        "/v1/chat/completions",
        (
            Act("candidate A: fluent, liked by the reward model", "candidate_a.py", "shadow-a.yaml", "rollback", 6500),
            Act("candidate B: pins versions, divides better", "candidate_b.py", "shadow-b.yaml", "promote", 6500),
        ),
    ),
    "digits": Example(
        "handwritten digits, really trained models: one with damaged labels for the 8, then a better one",
        ("production.py",),
        "/predict",
        (
            Act(
                "a candidate trained with damaged labels for one digit",
                "candidate_damaged.py",
                "shadow-damaged.yaml",
                "rollback",
                9000,
            ),
            Act("a better model", "candidate_better.py", "shadow-better.yaml", "promote", 9000),
        ),
    ),
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(exiting(demo))


def demo(
    example: Annotated[str, typer.Option(help=f"Which example: {', '.join(EXAMPLES)}.")] = "assistant",
    rate: Annotated[float, typer.Option(help="Requests a second.", min=1, max=2000)] = RATE_PER_S,
    keep_logs: Annotated[Path | None, typer.Option(help="Keep the processes' logs here.")] = None,
) -> int:
    """Show the main job on this machine: embedded broker and store, live progress, two decisions."""
    if example not in EXAMPLES:
        raise Usage(f"example: read {example!r}, must be one of {', '.join(EXAMPLES)}")
    configure("text", "error")
    console = Console(highlight=False)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shadow-demo-")))
        log_dir = keep_logs or folder
        log_dir.mkdir(parents=True, exist_ok=True)
        return Demo(EXAMPLES[example], data_dir("examples") / example, folder, log_dir, rate, console).play(stack)


class Demo:
    """One performance: services first, then act by act."""

    def __init__(
        self, example: Example, example_dir: Path, folder: Path, log_dir: Path, rate: float, console: Console
    ) -> None:
        self._example = example
        self._dir = example_dir
        self._folder = folder
        self._rate = rate
        self._console = console
        self._log_dir = log_dir
        self._ports = {name: free_port() for name in ("proxy", "production", "candidate", "reward")}
        self._environment: dict[str, str] = {}

    def play(self, stack: ExitStack) -> int:
        """Play all acts; the exit code is 0 where each ended as it was made for."""
        console = self._console
        console.print(Panel(f"[bold]Shadow[/]: {self._example.about}\nembedded broker and store, this machine only"))
        broker = stack.enter_context(EmbeddedBroker())
        store = stack.enter_context(EmbeddedStore())
        self._environment = {wiring.BOOTSTRAP: broker.bootstrap, wiring.REDIS_URL: store.url}
        last_known.save(wiring.LOCAL, self._environment)
        stack.callback(last_known.forget, wiring.LOCAL)
        supervisor = stack.enter_context(Supervisor(self._log_dir))
        for script in self._example.services:
            self._start_service(supervisor, script)
        outcomes = []
        for number, act in enumerate(self._example.acts, start=1):
            console.print(f"\n[bold]Act {number}[/]: {act.title}")
            outcomes.append(self._act(supervisor, number, act))
        console.print()
        for act, decision in zip(self._example.acts, outcomes, strict=True):
            console.print(f"{act.title}: [bold]{decision}[/]", soft_wrap=True)
        command = "shadow" if shutil.which("shadow") else Path(sys.executable).parent / "shadow"
        console.print(
            f"\nwhy, with the numbers: [bold]{command} explain[/]   (both runs: [bold]{command} runs[/])",
            soft_wrap=True,
        )
        return 0 if outcomes == [act.expects for act in self._example.acts] else 5

    def _start_service(self, supervisor: Supervisor, script: str) -> None:
        name = script.removesuffix(".py")
        port = self._ports["candidate" if name.startswith("candidate") else name]
        supervisor.start(name, [sys.executable, str(self._dir / script), "--port", str(port)])

    def _act(self, supervisor: Supervisor, number: int, act: Act) -> str:
        path = self._configuration(act)
        settings = wiring.settings_from(path)
        log = wiring.open_log(settings)
        store = wiring.open_store(settings)
        wiring.create_topics(settings, log)
        self._start_service(supervisor, act.candidate)
        if number == 1:
            self._start_role(supervisor, path, "proxy")
        self._wait_for_ports(supervisor)
        started = begin(settings, log, WallClock()).started
        ready = [self._start_role(supervisor, path, role) for role in ("worker", "comparator", "gate")]
        # Traffic waits for the links: a backlog at the start would be a burst of calls on a busy machine.
        wait_until_ready(ready, supervisor)
        requests = requests_module(self._dir).generate(act.requests, number)
        traffic = Traffic(f"http://127.0.0.1:{self._ports['proxy']}{self._example.path}", requests, self._rate)
        traffic.start()
        try:
            document = self._watch(supervisor, store, Run(started, ()), traffic)
        finally:
            traffic.stop()
            supervisor.stop(["worker", "comparator", "gate", act.candidate.removesuffix(".py")])
        writer = log.decisions(settings.topics.decisions, transactional_id(settings))
        try:
            run = next(run for run in runs_of(writer) if run.name == started.run)
        finally:
            writer.close()
            store.close()
        self._console.print(run_panel(document))
        self._console.print(f"users got {_statuses(traffic)}; none of it waited for the candidate")
        if not run.decisions:
            raise Unavailable(f"no decision within {ACT_S_MAX:g} s; the last state is shown above")
        return run.decisions[-1].decision

    def _watch(self, supervisor: Supervisor, store: Any, run: Run, traffic: Traffic) -> dict[str, Any]:
        """Show the progress until there is a decision."""
        deadline_s = time.monotonic() + ACT_S_MAX
        document = live_view(store, run)
        said_s = 0.0
        is_terminal = self._console.is_terminal
        with Live(console=self._console, refresh_per_second=4, transient=True) as live:
            while document.get("decision") is None and time.monotonic() < deadline_s:
                supervisor.check()
                time.sleep(0.5)
                document = live_view(store, run)
                if is_terminal:
                    live.update(run_panel(document))
                elif time.monotonic() - said_s >= 5:
                    said_s = time.monotonic()
                    self._console.print(_progress_line(document, traffic), soft_wrap=True)
        return document

    def _start_role(self, supervisor: Supervisor, config: Path, role: str) -> int:
        """Start a process; returns its admin port."""
        port = free_port()
        command = shadow_command(role, "--config", str(config), "--admin-port", str(port))
        supervisor.start(role, command, {**self._environment, "SHADOW_MEMBER": f"demo-{role}"})
        return port

    def _configuration(self, act: Act) -> Path:
        """The example's configuration with this machine's ports and short tiles."""
        tree = yaml.safe_load((self._dir / act.config).read_text())
        local = {name: f"http://127.0.0.1:{port}" for name, port in self._ports.items()}
        tree["proxy"]["listen"] = f"127.0.0.1:{self._ports['proxy']}"
        tree["proxy"]["upstream"] = local["production"]
        for role, worker in tree["workers"].items():
            worker["url"] = local["candidate" if role == "candidate" else "production"]
            # Enough for the rate from the start, and too little for a burst that would make the candidate look slow.
            worker["concurrency"] = {"min": 32, "max": 32}
        for grader in tree["graders"].values():
            if grader["kind"] == "reward_model":
                grader["url"] = f"{local['reward']}/score"
        tree |= {"kafka": "embedded", "redis": "embedded", "tile": "2s", "evidence_deadline": "30s"}
        tree["topics"] = {**tree.get("topics", {}), "partitions": 2}
        path = self._folder / act.config
        path.write_text(yaml.safe_dump(tree, sort_keys=False))
        return path

    def _wait_for_ports(self, supervisor: Supervisor) -> None:
        wanted = ["proxy", "candidate", *(script.removesuffix(".py") for script in self._example.services)]
        wait_for_ports((self._ports[name] for name in wanted), supervisor)


def wait_for_ports(ports: Iterable[int], supervisor: Supervisor, timeout_s: float = 60.0) -> None:
    """Wait until something listens on each of these loopback ports.

    Raises:
        Unavailable: If a process ended, or nothing listens in time.
    """
    deadline_s = time.monotonic() + timeout_s
    for port in ports:
        while True:
            supervisor.check()
            with socket.socket() as probe:
                probe.settimeout(0.5)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if time.monotonic() > deadline_s:
                raise Unavailable(f"nothing listens on 127.0.0.1:{port} after {timeout_s:g} s")
            time.sleep(0.1)


def wait_until_ready(ports: Iterable[int], supervisor: Supervisor, timeout_s: float = 60.0) -> None:
    """Wait until each process whose admin port this is says that it can work.

    Raises:
        Unavailable: If a process ended, or is not ready in time.
    """
    deadline_s = time.monotonic() + timeout_s
    for port in ports:
        reason = "does not answer"
        while True:
            supervisor.check()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1.0):
                    break
            except urllib.error.HTTPError as error:
                reason = error.read().decode(errors="replace").strip()
            except OSError as error:
                reason = str(error)
            if time.monotonic() > deadline_s:
                raise Unavailable(f"the process with admin port {port} is not ready after {timeout_s:g} s: {reason}")
            time.sleep(0.1)


def _progress_line(document: dict[str, Any], traffic: Traffic) -> str:
    verdicts: dict[str, int] = {}
    for line in document.get("judgement", {}).get("rules", []):
        verdicts[line["verdict"]] = verdicts.get(line["verdict"], 0) + 1
    said = ", ".join(f"{count} {SHORT_VERDICTS[verdict]}" for verdict, count in sorted(verdicts.items()))
    said = said or "no tile closed yet"
    counted = document["running"]["classes"]["paired"]
    return (
        f"sent {traffic.sent.sent:,}   pairs counted {counted:,}   in closed tiles {document.get('window_pairs', 0):,}"
        f"   rules: {said}"
    )


def _statuses(traffic: Traffic) -> str:
    said = [f"{count:,} x {status}" for status, count in sorted(traffic.sent.statuses.items())]
    return ", ".join(said) + (f", {traffic.sent.failed:,} without an answer" if traffic.sent.failed else "")
