package peers;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Predicate;
import java.util.regex.Pattern;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.message.BinaryMessageDecoder;

/**
 * The job of benchmarks/peers/job.py in Java: decode, slice, grade on both sides. It knows what the benchmark's
 * configuration uses: slices by a pattern on the text or by one JSON field, the graders contains and answer_tag.
 */
final class Job {
  /** A pair as it is counted: its slices, and the places of their vectors that go up by one. */
  record Pair(List<String> slices, byte[] cells) {}

  private record Slice(String name, Predicate<String> text, String field, JsonNode expected) {
    boolean holds(JsonNode body, String bodyText) {
      return text != null ? text.test(bodyText) : expected.equals(body.get(field));
    }
  }

  private interface Grader {
    boolean passes(String text, String lowerCase);
  }

  private final BinaryMessageDecoder<GenericRecord> decoder;
  private final ObjectMapper json = new ObjectMapper();
  private final List<Slice> slices = new ArrayList<>();
  private final List<Grader> graders = new ArrayList<>();

  Job(Work work) throws IOException {
    Schema.Parser parser = new Schema.Parser();
    parser.parse(work.schemas().resolve("shadow.MirroredRequest.avsc").toFile());
    Schema answer = parser.parse(work.schemas().resolve("shadow.Answer.avsc").toFile());
    decoder = new BinaryMessageDecoder<>(GenericData.get(), answer);
    for (JsonNode slice : work.slices()) {
      slices.add(sliceOf(slice, work.isRe2()));
    }
    for (JsonNode grader : work.graders()) {
      graders.add(graderOf(grader));
    }
  }

  /** Number of counts in a slice's minute. */
  int width() {
    return 1 + 4 * graders.size();
  }

  Pair pair(byte[] value) throws IOException {
    GenericRecord answer = decoder.decode(value);
    GenericRecord request = (GenericRecord) answer.get("exchange");
    String production = answerText((ByteBuffer) ((GenericRecord) request.get("live")).get("body"));
    String candidate = answerText((ByteBuffer) answer.get("body"));
    String productionLower = production.toLowerCase();
    String candidateLower = candidate.toLowerCase();
    byte[] cells = new byte[1 + graders.size()];
    for (int i = 0; i < graders.size(); i++) {
      Grader grader = graders.get(i);
      int cell = (grader.passes(production, productionLower) ? 0 : 2) + (grader.passes(candidate, candidateLower) ? 0 : 1);
      cells[1 + i] = (byte) (1 + 4 * i + cell);
    }
    return new Pair(slicesOf(json.readTree(bytes((ByteBuffer) request.get("body")))), cells);
  }

  private List<String> slicesOf(JsonNode body) {
    StringBuilder text = new StringBuilder();
    collect(body, text);
    List<String> names = new ArrayList<>(4);
    names.add("all");
    String bodyText = text.toString();
    for (Slice slice : slices) {
      if (slice.holds(body, bodyText)) {
        names.add(slice.name());
      }
    }
    return names;
  }

  private static void collect(JsonNode node, StringBuilder text) {
    if (node.isTextual()) {
      text.append(node.textValue()).append('\n');
    } else {
      node.forEach(child -> collect(child, text));
    }
  }

  private String answerText(ByteBuffer body) throws IOException {
    return json.readTree(bytes(body)).get("answer").textValue();
  }

  private static byte[] bytes(ByteBuffer buffer) {
    byte[] bytes = new byte[buffer.remaining()];
    buffer.duplicate().get(bytes);
    return bytes;
  }

  private static Slice sliceOf(JsonNode spec, boolean isRe2) {
    String name = spec.get("name").textValue();
    if (spec.hasNonNull("text")) {
      return new Slice(name, found(spec.get("text").textValue(), isRe2), null, null);
    }
    var condition = spec.get("json").properties().iterator().next();
    if (!condition.getKey().startsWith("$.")) {
      throw new IllegalArgumentException("slice " + name + ": the path " + condition.getKey() + " is not $.field");
    }
    return new Slice(name, null, condition.getKey().substring(2), condition.getValue());
  }

  /** Whether a pattern is found in a text: by RE2, whose time is bounded as in Shadow, or by Java's own matcher. */
  private static Predicate<String> found(String pattern, boolean isRe2) {
    if (isRe2) {
      com.google.re2j.Pattern compiled = com.google.re2j.Pattern.compile(pattern);
      return text -> compiled.matcher(text).find();
    }
    return Pattern.compile(pattern).asPredicate();
  }

  private static Grader graderOf(JsonNode spec) {
    JsonNode parameters = spec.get("params");
    return switch (spec.get("kind").textValue()) {
      case "contains" -> {
        List<String> words = new ArrayList<>();
        parameters.get("any").forEach(word -> words.add(word.textValue().toLowerCase()));
        yield (text, lowerCase) -> words.stream().anyMatch(lowerCase::contains);
      }
      case "answer_tag" -> {
        String opening = "<" + parameters.get("tag").textValue() + ">";
        String closing = "</" + parameters.get("tag").textValue() + ">";
        yield (text, lowerCase) -> isTagged(text, opening, closing);
      }
      default -> throw new IllegalArgumentException("grader " + spec + ": this kind is not written in Java");
    };
  }

  /** Whether the tag opens once, closes once behind it, and holds something. */
  private static boolean isTagged(String text, String opening, String closing) {
    int start = text.indexOf(opening);
    int end = text.indexOf(closing);
    return start >= 0
        && start == text.lastIndexOf(opening)
        && end == text.lastIndexOf(closing)
        && end >= start + opening.length()
        && !text.substring(start + opening.length(), end).isBlank();
  }
}
