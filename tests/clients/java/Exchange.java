import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.AdminClient;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Writes what standard input tells it to, reads every partition of these topics to its end, and prints what it found.
 *
 * It judges nothing: check.py compares. A line is a record, its fields apart by tabs: topic, partition, codec, timestamp,
 * key, value, headers. On the way out the offset stands in place of the codec. Bytes are base64, "-" is null, headers are
 * name=value with commas.
 */
public class Exchange {
    private static final int REQUEST_BYTES_MAX = 4 << 20;
    private static final Duration POLL = Duration.ofMillis(200);
    private static final long READ_NANOS_MAX = 60_000_000_000L;

    public static void main(String[] arguments) throws Exception {
        String servers = arguments[0];
        int partitions = Integer.parseInt(arguments[1]);
        List<String[]> lines = new ArrayList<>();
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            lines.add(line.split("\t", -1));
        }
        List<String> topics = lines.stream().map(line -> line[0]).distinct().toList();
        try (AdminClient admin = AdminClient.create(Map.of("bootstrap.servers", servers))) {
            admin.createTopics(topics.stream().map(topic -> new NewTopic(topic, partitions, (short) 1)).toList())
                .all().get();
        }
        write(servers, lines);
        read(servers, topics, partitions);
    }

    private static void write(String servers, List<String[]> lines) throws Exception {
        Map<String, KafkaProducer<byte[], byte[]>> producers = new TreeMap<>();
        List<Future<?>> sent = new ArrayList<>();
        for (String[] line : lines) {
            KafkaProducer<byte[], byte[]> producer = producers.computeIfAbsent(line[2], codec -> producer(servers, codec));
            sent.add(producer.send(new ProducerRecord<>(line[0], Integer.valueOf(line[1]), Long.valueOf(line[3]),
                bytes(line[4]), bytes(line[5]), headers(line[6]))));
        }
        producers.values().forEach(KafkaProducer::flush);
        for (Future<?> record : sent) {
            record.get();
        }
        producers.values().forEach(KafkaProducer::close);
    }

    private static KafkaProducer<byte[], byte[]> producer(String servers, String codec) {
        // All records of a partition share a batch, so that compression makes it smaller.
        return new KafkaProducer<>(Map.of("bootstrap.servers", servers, "compression.type", codec, "linger.ms", 500,
            "max.request.size", REQUEST_BYTES_MAX), new ByteArraySerializer(), new ByteArraySerializer());
    }

    private static void read(String servers, List<String> topics, int partitions) throws Exception {
        List<TopicPartition> all = new ArrayList<>();
        for (String topic : topics) {
            for (int partition = 0; partition < partitions; partition++) {
                all.add(new TopicPartition(topic, partition));
            }
        }
        PrintStream output = new PrintStream(System.out, false);
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(Map.of("bootstrap.servers", servers),
                new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(all);
            consumer.seekToBeginning(all);
            Map<TopicPartition, Long> ends = consumer.endOffsets(all);
            long deadline = System.nanoTime() + READ_NANOS_MAX;
            while (all.stream().anyMatch(at -> consumer.position(at) < ends.get(at))) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException("not everything came");
                }
                consumer.poll(POLL).forEach(record -> print(output, record));
            }
        }
        output.flush();
    }

    private static void print(PrintStream output, ConsumerRecord<byte[], byte[]> record) {
        List<String> headers = new ArrayList<>();
        for (Header header : record.headers()) {
            headers.add(header.key() + "=" + text(header.value()));
        }
        output.print(String.join("\t", record.topic(), String.valueOf(record.partition()),
            String.valueOf(record.offset()), String.valueOf(record.timestamp()), text(record.key()),
            text(record.value()), String.join(",", headers)) + "\n");
    }

    private static byte[] bytes(String text) {
        return text.equals("-") ? null : Base64.getDecoder().decode(text);
    }

    private static String text(byte[] bytes) {
        return bytes == null ? "-" : Base64.getEncoder().encodeToString(bytes);
    }

    private static List<Header> headers(String text) {
        List<Header> headers = new ArrayList<>();
        for (String header : text.isEmpty() ? new String[0] : text.split(",")) {
            int at = header.indexOf('=');
            headers.add(new RecordHeader(header.substring(0, at), bytes(header.substring(at + 1))));
        }
        return headers;
    }
}
