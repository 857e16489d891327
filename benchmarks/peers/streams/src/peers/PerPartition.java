package peers;

import java.io.IOException;
import java.io.UncheckedIOException;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.WindowStore;

/** Counts in the task of the record's own partition, so that nothing is sent through Kafka again. */
final class PerPartition extends ContextualProcessor<byte[], byte[], Void, Void> {
  private final Job job;
  private final Meter meter;
  private WindowStore<String, int[]> counts;

  PerPartition(Job job, Meter meter) {
    this.job = job;
    this.meter = meter;
  }

  @Override
  public void init(ProcessorContext<Void, Void> context) {
    super.init(context);
    counts = context.getStateStore(Main.STORE);
  }

  @Override
  public void process(Record<byte[], byte[]> record) {
    meter.begin();
    Job.Pair pair;
    try {
      pair = job.pair(record.value());
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
    long minute = record.timestamp() - record.timestamp() % Main.MINUTE.toMillis();
    for (String slice : pair.slices()) {
      int[] known = counts.fetch(slice, minute);
      counts.put(slice, Vectors.add(known == null ? new int[job.width()] : known, pair.cells()), minute);
      meter.count();
    }
  }
}
