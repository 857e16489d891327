"""The floor: `Consumer.consume` and the functions, a table in memory, no recovery.

python -m benchmarks.peers.bare WORK.json
"""

from __future__ import annotations

import sys
from importlib.metadata import version

from confluent_kafka import Consumer, TopicPartition

from benchmarks.peers.job import MINUTE_US, Counts, Job, Work, add
from benchmarks.peers.meter import Meter

BATCH = 2000


def main() -> None:
    work = Work.load(sys.argv[1])
    job, meter = Job(work), Meter(work, work.increments)
    meter.watch()
    consumer = Consumer(
        {"bootstrap.servers": work.bootstrap, "group.id": "bare", "enable.auto.commit": False, "check.crcs": True}
    )
    consumer.assign([TopicPartition(work.topics["answers"], partition, 0) for partition in (0, 1)])
    counts: Counts = {}
    while not meter.finished.is_set():
        for message in consumer.consume(BATCH, 0.1):
            error = message.error()
            if error is not None:
                raise SystemExit(f"kafka: {error.str()}")
            meter.begin()
            pair = job.pair(message.value())
            if pair is None:
                continue
            minute = pair.time_us // MINUTE_US
            for slice in pair.slices:
                vector = counts.get((minute, slice))
                if vector is None:
                    vector = counts[minute, slice] = job.new_vector()
                add(vector, pair.cells)
            meter.count(len(pair.slices))
    meter.write(counts, {"confluent-kafka": version("confluent-kafka")})
    consumer.close()


if __name__ == "__main__":
    main()
