"""The frozen nouns that travel between the links: one module per topic, read first.

Times are integer microseconds since the Unix epoch, durations integer microseconds, money integer
micro-units of the configured currency. Nothing here reads a clock or does I/O.
"""
