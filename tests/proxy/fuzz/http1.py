"""Fuzz the proxy, guided by its coverage: `python -m tests.proxy.fuzz.http1 [options of libFuzzer] [corpus]`."""

from __future__ import annotations

import sys

import atheris

# What encodes the records is not what is searched, and would only make each input slower.
with atheris.instrument_imports(include=["shadow.proxy"], exclude=["shadow.adapters", "shadow.records"]):
    from tests.proxy.fuzz.memory import memory_loop
    from tests.proxy.fuzz.promises import check
    from tests.proxy.fuzz.scene import play, scene_of


def main() -> None:
    """Play inputs and hold each outcome against the promises, until libFuzzer ends or a promise breaks."""
    with memory_loop() as loop:

        def play_one(data: bytes) -> None:
            scene = scene_of(data)
            check(scene, play(scene, loop))

        atheris.Setup(sys.argv, play_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
