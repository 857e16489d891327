package peers;

import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.CountDownLatch;

/** Wall and CPU time of this process from the first record to the last count; the stream thread alone writes it. */
final class Meter {
  private static final OperatingSystemMXBean SYSTEM =
      (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

  private final long expected;
  private boolean hasBegun;
  private long beganNs;
  private long beganCpuNs;
  private long endedNs;
  private long endedCpuNs;
  private volatile long counted;
  final CountDownLatch finished = new CountDownLatch(1);

  Meter(long expected) {
    this.expected = expected;
  }

  void begin() {
    if (!hasBegun) {
      hasBegun = true;
      beganNs = System.nanoTime();
      beganCpuNs = SYSTEM.getProcessCpuTime();
    }
  }

  @SuppressWarnings("NonAtomicOperationOnVolatileField") // one thread writes it
  void count() {
    counted++;
    if (counted == expected) {
      endedNs = System.nanoTime();
      endedCpuNs = SYSTEM.getProcessCpuTime();
      finished.countDown();
    }
  }

  long counted() {
    return counted;
  }

  double wallS() {
    return (endedNs - beganNs) / 1e9;
  }

  double cpuS() {
    return (endedCpuNs - beganCpuNs) / 1e9;
  }

  /** Largest resident memory of this process; 0 where the system does not tell. */
  static long peakRssBytes() throws IOException {
    Path status = Path.of("/proc/self/status");
    if (!Files.exists(status)) {
      return 0;
    }
    for (String line : Files.readAllLines(status)) {
      if (line.startsWith("VmHWM:")) {
        return Long.parseLong(line.replaceAll("[^0-9]", "")) * 1024;
      }
    }
    return 0;
  }
}
