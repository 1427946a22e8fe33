import java.time.Duration;
import org.apache.flink.api.common.JobExecutionResult;
import org.apache.flink.api.common.accumulators.LongCounter;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichFlatMapFunction;
import org.apache.flink.api.common.functions.RichMapFunction;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.connector.file.src.FileSource;
import org.apache.flink.connector.file.src.enumerate.NonSplittingRecursiveEnumerator;
import org.apache.flink.connector.file.src.reader.TextLineInputFormat;
import org.apache.flink.core.fs.Path;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.streaming.api.functions.windowing.ProcessWindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.SlidingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;

/**
 * The same counting as a stream job: clicks by product in one-minute event-time windows, and every five minutes the sum
 * over an hour. There is no sink: the sums are dropped.
 *
 * <p>Reads a file of JSON lines and prints the total clicks of all minutes and of all hours: each click is in one minute
 * and in twelve hours.
 */
public final class HotProducts {
  private static final String MINUTES = "minutes";
  private static final String HOURS = "hours";

  public static void main(String[] arguments) throws Exception {
    StreamExecutionEnvironment environment = StreamExecutionEnvironment.getExecutionEnvironment();
    environment.setParallelism(Runtime.getRuntime().availableProcessors());
    // One file in one split: splits that are read in parallel arrive out of order, and late events are dropped.
    FileSource<String> lines =
        FileSource.forRecordStreamFormat(new TextLineInputFormat(), new Path(arguments[0]))
            .setFileEnumerator(NonSplittingRecursiveEnumerator::new)
            .build();
    WatermarkStrategy<Tuple2<String, Long>> watermarks =
        WatermarkStrategy.<Tuple2<String, Long>>forBoundedOutOfOrderness(Duration.ofSeconds(30))
            .withTimestampAssigner((click, none) -> click.f1);
    environment
        .fromSource(lines, WatermarkStrategy.noWatermarks(), "file")
        .setParallelism(1)
        .flatMap(new Parse())
        .returns(Types.TUPLE(Types.STRING, Types.LONG))
        .setParallelism(1)
        .assignTimestampsAndWatermarks(watermarks)
        .setParallelism(1)
        .keyBy(click -> click.f0)
        .window(TumblingEventTimeWindows.of(Duration.ofMinutes(1)))
        .aggregate(new Count(), new Label())
        .map(new Tell(MINUTES))
        .returns(Types.TUPLE(Types.STRING, Types.LONG, Types.LONG))
        .keyBy(minute -> minute.f0)
        .window(SlidingEventTimeWindows.of(Duration.ofHours(1), Duration.ofMinutes(5)))
        .reduce((a, b) -> Tuple3.of(a.f0, a.f1, a.f2 + b.f2))
        .map(new Tell(HOURS))
        .returns(Types.TUPLE(Types.STRING, Types.LONG, Types.LONG))
        .sinkTo(new DiscardingSink<>());
    JobExecutionResult result = environment.execute("hot products");
    for (String name : new String[] {MINUTES, HOURS}) {
      Long clicks = result.getAccumulatorResult(name);
      System.out.println(name + " " + clicks);
    }
  }

  /** The product and the event time of a line, if it is a click. */
  private static final class Parse extends RichFlatMapFunction<String, Tuple2<String, Long>> {
    private transient ObjectMapper mapper;

    @Override
    public void open(OpenContext context) {
      mapper = new ObjectMapper();
    }

    @Override
    public void flatMap(String line, Collector<Tuple2<String, Long>> out) throws Exception {
      JsonNode event = mapper.readTree(line);
      if ("click".equals(event.get("action").asText())) {
        out.collect(Tuple2.of(event.get("product_id").asText(), event.get("event_time").asLong()));
      }
    }
  }

  private static final class Count implements AggregateFunction<Tuple2<String, Long>, Long, Long> {
    @Override
    public Long createAccumulator() {
      return 0L;
    }

    @Override
    public Long add(Tuple2<String, Long> click, Long count) {
      return count + 1;
    }

    @Override
    public Long getResult(Long count) {
      return count;
    }

    @Override
    public Long merge(Long a, Long b) {
      return a + b;
    }
  }

  /** Product, end of the minute, clicks. */
  private static final class Label
      extends ProcessWindowFunction<Long, Tuple3<String, Long, Long>, String, TimeWindow> {
    @Override
    public void process(
        String product, Context context, Iterable<Long> counts, Collector<Tuple3<String, Long, Long>> out) {
      out.collect(Tuple3.of(product, context.window().getEnd(), counts.iterator().next()));
    }
  }

  /** Adds up the counts of the windows, so that the caller can check that no click is lost. */
  private static final class Tell extends RichMapFunction<Tuple3<String, Long, Long>, Tuple3<String, Long, Long>> {
    private final LongCounter clicks = new LongCounter();
    private final String name;

    private Tell(String name) {
      this.name = name;
    }

    @Override
    public void open(OpenContext context) {
      getRuntimeContext().addAccumulator(name, clicks);
    }

    @Override
    public Tuple3<String, Long, Long> map(Tuple3<String, Long, Long> sum) {
      clicks.add(sum.f2);
      return sum;
    }
  }

  private HotProducts() {}
}
