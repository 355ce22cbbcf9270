package config

import (
	"net/url"
	"strings"

	"nearside/proxy"
)

// traces composes proxy.traces. What the file does not say, the variables of
// OpenTelemetry do.
func (l *loader) traces(n node, c *proxy.TracesConfig) {
	n.setText("endpoint", &c.Endpoint)
	if c.Endpoint = strings.TrimSpace(c.Endpoint); c.Endpoint == "" {
		c.Endpoint = l.collector()
	}
	if at := n.get("sample"); at.there() {
		if c.Sample = at.number(); c.Sample > 1 {
			l.at(at.pos(), at.path, "must be at most 1: all of them")
		}
	}
	n.setFlag("fromClients", &c.FromClients)
	n.setText("propagate", &c.Propagate)
	n.setWhole("queue", &c.Queue)
	n.setWhole("batch", &c.Batch)
	if c.Batch > c.Queue {
		at := n.get("batch").orElse(n.get("queue"))
		l.at(at.pos(), at.path, "batch (%d) is more than queue (%d) holds", c.Batch, c.Queue)
	}
	n.setSpan("every", &c.Every)
	n.setSpan("timeout", &c.Timeout)
	n.setSpan("retry", &c.Retry)
	if name, _ := l.lookup("OTEL_SERVICE_NAME"); name != "" {
		c.Service = name
	}
	n.setText("service", &c.Service)
	c.Resource = l.pairs("OTEL_RESOURCE_ATTRIBUTES", "")
	for _, e := range n.get("resource").entries() {
		c.Resource[e.key] = e.text()
	}
	if c.Endpoint == "" {
		return
	}
	if own := l.headers(n.get("headers")); len(own) > 0 {
		c.Headers = map[string]string{}
		for _, h := range own {
			c.Headers[h.Name] = h.Value
		}
	} else if !n.get("headers").there() {
		c.Headers = l.pairs("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
	}
}

// collector is the address that the environment names; empty for none.
func (l *loader) collector() string {
	if off, _ := l.lookup("OTEL_SDK_DISABLED"); strings.EqualFold(off, "true") {
		return ""
	}
	if kind, _ := l.lookup("OTEL_TRACES_EXPORTER"); kind == "none" {
		return ""
	}
	name := "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	at, _ := l.lookup(name)
	if at == "" {
		name = "OTEL_EXPORTER_OTLP_ENDPOINT"
		if at, _ = l.lookup(name); at != "" {
			at = strings.TrimRight(at, "/") + "/v1/traces"
		}
	}
	if at == "" {
		return ""
	}
	pos := l.root.pos()
	for _, of := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if kind, _ := l.lookup(of); kind != "" {
			if kind != "http/protobuf" {
				l.warn(pos, "proxy.traces", "%s is %s; spans are sent as http/protobuf only, so there are none: set proxy.traces.endpoint to an address that takes them", of, kind)
				return ""
			}
			break
		}
	}
	if wrong := wrongCollector(at); wrong != "" {
		l.warn(pos, "proxy.traces", "%s %s; there are no traces", name, wrong)
		return ""
	}
	return at
}

// pairs reads a variable of the form name=value,name=value with values escaped as in
// an address; the second where the first is not set.
func (l *loader) pairs(name, other string) map[string]string {
	text, _ := l.lookup(name)
	if text == "" && other != "" {
		text, _ = l.lookup(other)
	}
	all := map[string]string{}
	for _, pair := range strings.Split(text, ",") {
		k, v, ok := strings.Cut(pair, "=")
		if k = strings.TrimSpace(k); !ok || k == "" {
			continue
		}
		plain, err := url.PathUnescape(strings.TrimSpace(v))
		if err != nil || strings.ContainsAny(plain, "\r\n\x00") {
			continue
		}
		all[k] = plain
	}
	return all
}
