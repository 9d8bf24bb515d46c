// Sends spans with Node's own OpenTelemetry SDK: node send.mjs PROTOCOL URL SPANS COMPRESSION [TOKEN]
// Prints how many it ended; what its exporter says goes to stderr.

import { diag, DiagConsoleLogger, DiagLogLevel, SpanKind } from "@opentelemetry/api";
import { Metadata } from "@grpc/grpc-js";
import { OTLPTraceExporter as Grpc } from "@opentelemetry/exporter-trace-otlp-grpc";
import { OTLPTraceExporter as Json } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as Protobuf } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor, NodeTracerProvider } from "@opentelemetry/sdk-trace-node";

const [protocol, url, spans, compression, token] = process.argv.slice(2);
diag.setLogger(new DiagConsoleLogger(), DiagLogLevel.WARN);

const options = { url, compression };
if (protocol === "grpc" && token) {
  options.metadata = new Metadata();
  options.metadata.set("authorization", `Bearer ${token}`);
} else if (token) {
  options.headers = { authorization: `Bearer ${token}` };
}
const Exporter = { json: Json, protobuf: Protobuf, grpc: Grpc }[protocol];
const provider = new NodeTracerProvider({
  resource: resourceFromAttributes({ "service.name": "from-node" }),
  spanProcessors: [
    new BatchSpanProcessor(new Exporter(options), { maxQueueSize: 100_000, maxExportBatchSize: 200 }),
  ],
});
const tracer = provider.getTracer("peer", "1.0");
for (let i = 0; i < Number(spans); i++) {
  const span = tracer.startSpan(`work ${i}`, {
    kind: SpanKind.SERVER,
    attributes: { i, text: "ü€😀", half: 0.5, yes: true, list: ["a", "b"], large: 2 ** 53 },
  });
  span.addEvent("seen", { at: i });
  span.end();
}
try {
  await provider.forceFlush();
  await provider.shutdown();
} catch (errors) {
  console.error(errors);
}
console.log(spans);
