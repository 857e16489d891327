package peers;

import java.nio.ByteBuffer;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;

/** Vectors of counts, and their bytes in the store. */
final class Vectors {
  private Vectors() {}

  static int[] add(int[] vector, byte[] cells) {
    for (byte cell : cells) {
      vector[cell]++;
    }
    return vector;
  }

  static Serde<int[]> serde() {
    Serializer<int[]> serializer = (topic, vector) -> {
      if (vector == null) {
        return null;
      }
      ByteBuffer buffer = ByteBuffer.allocate(4 * vector.length);
      buffer.asIntBuffer().put(vector);
      return buffer.array();
    };
    Deserializer<int[]> deserializer = (topic, bytes) -> {
      if (bytes == null) {
        return null;
      }
      int[] vector = new int[bytes.length / 4];
      ByteBuffer.wrap(bytes).asIntBuffer().get(vector);
      return vector;
    };
    return Serdes.serdeFrom(serializer, deserializer);
  }
}
