import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The bare job on Kafka Streams, exactly_once_v2: drop ids seen before, look the user's channels up in
 * memory, write one record for each. No database, no preferences by category, no decisions, no evidence.
 *
 * <p>Arguments: bootstrap servers, application id, input topic, output prefix, threads, users, event
 * schema, delivery schema, state directory. The output topics must exist.
 */
public class Router {
  static final String[] CHANNELS = {"apns", "fcm", "sms", "email"};
  static final byte[] SEEN = {1};
  static final byte[] HEAD = {0, 0, 0, 0, 2};

  public static void main(String[] arguments) throws IOException {
    long users = Long.parseLong(arguments[5]);
    Schema in = new Schema.Parser().parse(Files.readString(Path.of(arguments[6])));
    Schema out = new Schema.Parser().parse(Files.readString(Path.of(arguments[7])));
    Map<String, String[]> targets = new HashMap<>();
    for (long user = 0; user < users; user++) {
      targets.put("u" + user, targetsOf(user));
    }
    KafkaStreams streams = new KafkaStreams(topology(arguments, in, out, targets), settings(arguments));
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
  }

  static String[] targetsOf(long user) {
    int bits = (int) (user * 2654435761L >>> 8) & 15;
    String[] found = new String[CHANNELS.length];
    for (int i = 0; i < CHANNELS.length; i++) {
      found[i] = (bits >> i & 1) == 1 ? CHANNELS[i] + "-" + user : null;
    }
    return found;
  }

  static Topology topology(String[] arguments, Schema in, Schema out, Map<String, String[]> targets) {
    ProcessorSupplier<byte[], byte[], byte[], byte[]> job = () -> new Job(in, out, targets);
    Topology topology = new Topology();
    topology.addSource("events", Serdes.ByteArray().deserializer(), Serdes.ByteArray().deserializer(), arguments[2]);
    topology.addProcessor("route", job, "events");
    topology.addStateStore(
        Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore("seen"), Serdes.ByteArray(), Serdes.ByteArray())
            .withCachingEnabled(),
        "route");
    for (String channel : CHANNELS) {
      topology.addSink(
          channel, arguments[3] + channel, Serdes.ByteArray().serializer(), Serdes.ByteArray().serializer(), "route");
    }
    return topology;
  }

  static Properties settings(String[] arguments) {
    Properties settings = new Properties();
    settings.put("bootstrap.servers", arguments[0]);
    settings.put("application.id", arguments[1]);
    settings.put("num.stream.threads", Integer.parseInt(arguments[4]));
    settings.put("state.dir", arguments[8]);
    settings.put("processing.guarantee", "exactly_once_v2");
    settings.put("auto.offset.reset", "earliest");
    settings.put("commit.interval.ms", 100);
    settings.put("replication.factor", 1);
    // As a user would who wants throughput: compressed batches, a cache in front of the store.
    settings.put("producer.compression.type", "lz4");
    settings.put("producer.linger.ms", 20);
    settings.put("max.poll.records", 5000);
    settings.put("statestore.cache.max.bytes", 256 << 20);
    return settings;
  }

  /** One record in, at most four out. */
  static final class Job implements Processor<byte[], byte[], byte[], byte[]> {
    private final Schema out;
    private final Map<String, String[]> targets;
    private final GenericDatumReader<GenericRecord> reader;
    private final GenericDatumWriter<GenericRecord> writer;
    private final ByteArrayOutputStream buffer = new ByteArrayOutputStream(512);
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<byte[], byte[]> seen;
    private BinaryDecoder decoder;
    private BinaryEncoder encoder;
    private GenericRecord event;

    Job(Schema in, Schema out, Map<String, String[]> targets) {
      this.out = out;
      this.targets = targets;
      this.reader = new GenericDatumReader<>(in);
      this.writer = new GenericDatumWriter<>(out);
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
      this.context = context;
      this.seen = context.getStateStore("seen");
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      try {
        decoder = DecoderFactory.get().binaryDecoder(record.value(), 5, record.value().length - 5, decoder);
        event = reader.read(event, decoder);
        if (seen.putIfAbsent(event.get("event_id").toString().getBytes(), SEEN) != null) {
          return;
        }
        String[] found = targets.get(event.get("user_id").toString());
        for (int i = 0; found != null && i < CHANNELS.length; i++) {
          if (found[i] != null) {
            byte[] value = delivery(CHANNELS[i], found[i]);
            context.forward(new Record<>(record.key(), value, record.timestamp()), CHANNELS[i]);
          }
        }
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }

    private byte[] delivery(String channel, String target) throws IOException {
      GenericRecord delivery = new GenericData.Record(out);
      for (String field : new String[] {"event_id", "user_id", "type", "created_at", "data"}) {
        delivery.put(field, event.get(field));
      }
      delivery.put("category", "orders");
      delivery.put("channel", channel);
      delivery.put("target", target);
      buffer.reset();
      buffer.write(HEAD);
      encoder = EncoderFactory.get().binaryEncoder(buffer, encoder);
      writer.write(delivery, encoder);
      encoder.flush();
      return buffer.toByteArray();
    }
  }
}
