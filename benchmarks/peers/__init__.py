"""The comparator's job on other engines: the same records, the same functions, the same Apache Kafka, one run.

Every engine is a process of its own, which reads what it shall do from a JSON file (`job.py`), measures itself
(`meter.py`) and writes what it counted to another one. `benchmarks/bench_comparator.py` runs them in turn.
"""
