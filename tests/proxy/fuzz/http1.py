"""Fuzz the proxy, guided by its coverage: `python -m tests.proxy.fuzz.http1 [options of libFuzzer] [corpus]`."""

from __future__ import annotations

import random
import sys

import atheris

from tests.proxy.fuzz.mutations import with_lines_moved

# What encodes the records is not what is searched, and would only make each input slower.
with atheris.instrument_imports(include=["shadow.proxy"], exclude=["shadow.adapters", "shadow.records"]):
    from tests.proxy.fuzz.memory import memory_loop
    from tests.proxy.fuzz.promises import check
    from tests.proxy.fuzz.scene import play, scene_of


def mutate(data: bytes, size_max: int, seed: int) -> bytes:
    """Change lines and words as often as bytes: what libFuzzer does to bytes seldom leaves a message whole."""
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 4)):
        data = with_lines_moved(data, chance)[:size_max] if chance.random() < 0.5 else atheris.Mutate(data, size_max)
    return data


def main() -> None:
    """Play inputs and hold each outcome against the promises, until libFuzzer ends or a promise breaks."""
    with memory_loop() as loop:

        def play_one(data: bytes) -> None:
            scene = scene_of(data)
            check(scene, play(scene, loop))

        atheris.Setup(sys.argv, play_one, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
