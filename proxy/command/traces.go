package command

import (
	"reflect"

	"github.com/rs/zerolog"

	"nearside/proxy"
	"nearside/proxy/trace"
)

// newTracer starts the exporter of traces; nil where there are none.
func newTracer(c *proxy.TracesConfig, version string, log zerolog.Logger) *trace.Tracer {
	if c.Endpoint == "" {
		return nil
	}
	return trace.New(trace.Options{Endpoint: c.Endpoint, Headers: c.Headers, Sample: c.Sample, FromClients: c.FromClients, Queue: c.Queue, Batch: c.Batch, Every: c.Every,
		Timeout: c.Timeout, Retry: c.Retry, Service: c.Service, Version: version, Resource: c.Resource, Log: log})
}

// sameTraces says whether what the exporter was started with is still so. Whom the
// context is passed on to may change.
func sameTraces(was, is proxy.TracesConfig) bool {
	was.Propagate = is.Propagate
	return was.Endpoint == "" && is.Endpoint == "" || reflect.DeepEqual(was, is)
}
