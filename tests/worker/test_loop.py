"""The life of a process: signals, waiting for services, draining."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from consumers.loop import Readiness, run, wait_for
from shadow.errors import Unavailable

ROOT = Path(__file__).parent.parent.parent

PROGRAM = """
import sys, time
from consumers.loop import run
from shadow.adapters.logs import configure
configure()
said = []
def step():
    if not said:
        said.append(print("up", flush=True))
    time.sleep(0.01)
{body}
"""
CLEAN = "sys.exit(run('test', step, lambda: print('closed', flush=True)))"
SLOW = "sys.exit(run('test', step, lambda: (print('draining', flush=True), time.sleep(60))))"
LATE = "sys.exit(run('test', step, lambda: time.sleep(60), drain_s=0.2))"


def started(body: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(body=body)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_process_after_its_drain(number: int) -> None:
    """
    It closes, exits 0, and prints no traceback.
    """
    process = started(CLEAN)
    process.send_signal(number)
    out, err = process.communicate(timeout=10)

    assert (process.returncode, out) == (0, "closed\n")
    assert err.count("\n") == 1 and err.endswith("test        stopped\n")


def test_a_second_signal_ends_it_at_once() -> None:
    """
    While it drains, a second signal does not wait for the drain.
    """
    process = started(SLOW)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "draining\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=5)

    assert process.returncode == 128 + signal.SIGINT
    assert "Traceback" not in err


def test_a_drain_that_takes_too_long_is_cut_off() -> None:
    """
    After its time the process ends by itself, with a line that says so, and exit code 0.
    """
    process = started(LATE)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=10)

    assert process.returncode == 0
    assert "the drain takes longer than 0.2 s" in err


def test_a_service_that_is_away_is_waited_for() -> None:
    """
    The process says what it waits for, is not ready meanwhile, and goes on when the service answers.
    """
    readiness = Readiness()
    reasons = []
    tries = 0

    def check() -> None:
        nonlocal tries
        tries += 1
        reasons.append(readiness())
        if tries < 3:
            raise Unavailable("nobody listens at 127.0.0.1:9092")

    assert wait_for("kafka", check, threading.Event(), readiness)
    assert reasons[0] == (False, "starting")
    assert reasons[1:] == [(False, "waiting for kafka: nobody listens at 127.0.0.1:9092")] * 2
    readiness.ready()
    assert readiness() == (True, "ok")


def test_waiting_ends_with_the_stop() -> None:
    """
    Ctrl-C while a service is away ends the process, not the wait for the service.
    """
    stop = threading.Event()

    def check() -> None:
        stop.set()
        raise Unavailable("away")

    assert not wait_for("redis", check, stop)


def test_close_runs_also_where_a_step_fails() -> None:
    """
    An error in the loop still drains, and is not swallowed.
    """
    closed = []

    def step() -> None:
        raise Unavailable("gone")

    with pytest.raises(Unavailable):
        run("test", step, lambda: closed.append(True), stop=threading.Event())

    assert closed == [True]


def test_signal_handlers_come_back() -> None:
    """
    After its end the caller's own handlers are in force again.
    """
    before = signal.getsignal(signal.SIGTERM)
    is_sent = threading.Event()

    def step() -> None:
        if not is_sent.is_set():
            is_sent.set()
            os.kill(os.getpid(), signal.SIGTERM)

    assert run("test", step, lambda: None) == 0
    assert signal.getsignal(signal.SIGTERM) is before
