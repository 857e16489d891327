package peers;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Path;

/** What the runner tells this engine; the same file as the Python engines read. */
record Work(
    String bootstrap,
    String answers,
    int pairs,
    long increments,
    Path directory,
    Path result,
    Path schemas,
    boolean isRepartitioned,
    boolean isRe2,
    JsonNode slices,
    JsonNode graders) {

  static Work load(Path path) throws IOException {
    JsonNode tree = new ObjectMapper().readTree(path.toFile());
    JsonNode options = tree.get("options");
    return new Work(
        tree.get("bootstrap").textValue(),
        tree.get("topics").get("answers").textValue(),
        tree.get("pairs").intValue(),
        tree.get("increments").longValue(),
        Path.of(tree.get("directory").textValue()),
        Path.of(tree.get("result").textValue()),
        Path.of(options.get("schemas").textValue()),
        options.get("is_repartitioned").booleanValue(),
        options.get("is_re2").booleanValue(),
        tree.get("slices"),
        tree.get("graders"));
  }
}
