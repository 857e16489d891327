package peers;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/**
 * The comparator's job on Kafka Streams, exactly_once_v2 with one thread and a commit each second.
 *
 * <p>Two shapes: the DSL's windowed aggregate by slice, which sends each count through a repartition topic, and a
 * processor that counts in the record's own task.
 */
public final class Main {
  static final String STORE = "counts";
  static final Duration MINUTE = Duration.ofMinutes(1);
  static final Duration GRACE = Duration.ofDays(1);
  private static final long TIMEOUT_S = 600;

  private Main() {}

  /** Takes the path of the work's file; ends with code 1 where not everything was counted. */
  public static void main(String[] arguments) throws Exception {
    Work work = Work.load(Path.of(arguments[0]));
    Job job = new Job(work);
    Meter meter = new Meter(work.increments());
    StreamsBuilder builder = new StreamsBuilder();
    KStream<byte[], byte[]> answers =
        builder.stream(work.answers(), Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()));
    if (work.isRepartitioned()) {
      aggregateBySlice(answers, job, meter);
    } else {
      countPerPartition(builder, answers, job, meter);
    }
    int code = 1;
    try (KafkaStreams streams = new KafkaStreams(builder.build(), properties(work))) {
      streams.start();
      if (meter.finished.await(TIMEOUT_S, TimeUnit.SECONDS)) {
        write(work, meter, counts(streams, job));
        code = 0;
      } else {
        System.err.println("counted " + meter.counted() + " of " + work.increments() + " within " + TIMEOUT_S + " s");
      }
    }
    System.exit(code);
  }

  private static Properties properties(Work work) {
    Properties properties = new Properties();
    properties.put(StreamsConfig.APPLICATION_ID_CONFIG, "streams-" + work.answers());
    properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, work.bootstrap());
    properties.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
    properties.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
    properties.put(StreamsConfig.STATE_DIR_CONFIG, work.directory().toString());
    properties.put("auto.offset.reset", "earliest");
    return properties;
  }

  private static void aggregateBySlice(KStream<byte[], byte[]> answers, Job job, Meter meter) {
    answers
        .flatMap((key, value) -> bySlice(value, job, meter))
        .groupByKey(Grouped.with("by-slice", Serdes.String(), Serdes.ByteArray()))
        .windowedBy(TimeWindows.ofSizeAndGrace(MINUTE, GRACE))
        .aggregate(
            () -> new int[job.width()],
            (slice, cells, vector) -> {
              meter.count();
              return Vectors.add(vector, cells);
            },
            Materialized.<String, int[], WindowStore<Bytes, byte[]>>as(STORE)
                .withKeySerde(Serdes.String())
                .withValueSerde(Vectors.serde()));
  }

  private static List<KeyValue<String, byte[]>> bySlice(byte[] value, Job job, Meter meter) {
    meter.begin();
    try {
      Job.Pair pair = job.pair(value);
      List<KeyValue<String, byte[]>> records = new ArrayList<>(pair.slices().size());
      for (String slice : pair.slices()) {
        records.add(KeyValue.pair(slice, pair.cells()));
      }
      return records;
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  private static void countPerPartition(
      StreamsBuilder builder, KStream<byte[], byte[]> answers, Job job, Meter meter) {
    builder.addStateStore(
        Stores.windowStoreBuilder(
                Stores.persistentWindowStore(STORE, GRACE.plus(MINUTE), MINUTE, false),
                Serdes.String(),
                Vectors.serde())
            .withCachingEnabled());
    answers.process(() -> new PerPartition(job, meter), STORE);
  }

  private static Map<String, int[]> counts(KafkaStreams streams, Job job) {
    Map<String, int[]> counts = new TreeMap<>();
    var store =
        streams.store(StoreQueryParameters.fromNameAndType(STORE, QueryableStoreTypes.<String, int[]>windowStore()));
    try (var windows = store.all()) {
      windows.forEachRemaining(entry -> {
        String place = entry.key.window().start() / MINUTE.toMillis() + "/" + entry.key.key();
        int[] sum = counts.computeIfAbsent(place, unused -> new int[job.width()]);
        for (int i = 0; i < sum.length; i++) {
          sum[i] += entry.value[i];
        }
      });
    }
    return counts;
  }

  private static String version() throws IOException {
    Properties properties = new Properties();
    try (InputStream stream = KafkaStreams.class.getResourceAsStream("/kafka/kafka-streams-version.properties")) {
      if (stream != null) {
        properties.load(stream);
      }
    }
    return properties.getProperty("version", "unknown");
  }

  private static void write(Work work, Meter meter, Map<String, int[]> counts) throws IOException {
    ObjectMapper json = new ObjectMapper();
    ObjectNode document = json.createObjectNode();
    document.put("wall_s", meter.wallS());
    document.put("cpu_s", meter.cpuS());
    document.put("rss_bytes", Meter.peakRssBytes());
    document.put("counted", meter.counted());
    document
        .putObject("versions")
        .put("kafka-streams", version())
        .put("java", Runtime.version().toString());
    ArrayNode rows = document.putArray("counts");
    counts.forEach((place, vector) -> {
      String[] parts = place.split("/", 2);
      rows.addArray().add(Long.parseLong(parts[0])).add(parts[1]).add(json.valueToTree(vector));
    });
    Path fresh = work.result().resolveSibling("result.new");
    json.writeValue(fresh.toFile(), document);
    Files.move(fresh, work.result(), StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
  }
}
