package config

import (
	"net/url"
	"strconv"
	"strings"

	"nearside/proxy"
)

// observedFields are the keys of proxy.metrics.
func observedFields() []field {
	d := proxy.Defaults()
	return []field{
		ours("keys", &shape{kind: whole, zero: true}, strconv.Itoa(d.MetricsKeys), "Of how many clients' keys the metrics tell one by one, the first that are seen; the others count as other. 0 tells of none."),
	}
}

// tracesShape are the keys of proxy.traces.
func tracesShape() *shape {
	d := proxy.Defaults().Traces
	plus, dur, durOrZero := &shape{kind: whole}, &shape{kind: span}, &shape{kind: span, zero: true}
	return obj(
		ours("endpoint", textLike(wrongCollector), "",
			"Where spans are posted to as OTLP over HTTP (protobuf), whole: http://127.0.0.1:4318/v1/traces. Without it there are no traces, unless $OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or $OTEL_EXPORTER_OTLP_ENDPOINT says so. Spans hold names, times, counts and outcomes, never content."),
		ours("headers", mapOf("<name>", &shape{kind: secret}), "", "Headers of these posts, a collector's key for one. $OTEL_EXPORTER_OTLP_HEADERS is used when there are none."),
		ours("sample", &shape{kind: number, zero: true}, strconv.FormatFloat(d.Sample, 'g', -1, 64), "The share of the traces that begin here which are kept, 0 to 1."),
		ours("fromClients", &shape{kind: boolean}, strconv.FormatBool(d.FromClients), "A client's traceparent says which trace its request belongs to, and whether it is sampled. false begins a trace of our own whatever it says."),
		ours("propagate", oneOf(proxy.PropagateNone, proxy.PropagateNear, proxy.PropagateAll), strconv.Quote(d.Propagate), "Which backends are sent traceparent and tracestate: near ones, all, or none. Hosted providers have no use for them, and could tell by them which requests belong together. baggage is never passed on."),
		ours("queue", plus, strconv.Itoa(d.Queue), "How many finished exchanges may wait to be exported. Spans of those beyond are dropped and counted."),
		ours("batch", plus, strconv.Itoa(d.Batch), "How many exchanges one post tells at most."),
		ours("every", dur, inSeconds(d.Every), "The longest that one waits for others to be posted with."),
		ours("timeout", dur, inSeconds(d.Timeout), "How long one post may take, and what is left at the end of the process."),
		ours("retry", durOrZero, inSeconds(d.Retry), "How long a batch is tried again when the collector is away or says to come back; 0 drops it at once."),
		ours("service", &shape{kind: text}, strconv.Quote(d.Service), "service.name of the spans; $OTEL_SERVICE_NAME when this is not set."),
		ours("resource", mapOf("<name>", &shape{kind: text}), "", "Further attributes of all spans, above those of $OTEL_RESOURCE_ATTRIBUTES: deployment.environment.name, host.name."),
	)
}

// wrongCollector says what is wrong with the address of a collector.
func wrongCollector(text string) string {
	u, err := url.Parse(strings.TrimSpace(text))
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return "must be the whole address of an OTLP/HTTP collector, such as http://127.0.0.1:4318/v1/traces"
	case u.User != nil:
		return "must not hold a user or password; use headers"
	case strings.Trim(u.Path, "/") == "":
		return "must name the path, too: mostly /v1/traces"
	}
	return ""
}
