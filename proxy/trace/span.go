package trace

import (
	"strings"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
)

// Kind is what a span is to those around it.
type Kind int32

// The kinds of spans.
const (
	Internal = Kind(otlp.Span_SPAN_KIND_INTERNAL)
	Server   = Kind(otlp.Span_SPAN_KIND_SERVER)
	Client   = Kind(otlp.Span_SPAN_KIND_CLIENT)
)

// Spans are those of one exchange, being made.
type Spans struct {
	context Context
	all     []*otlp.Span
}

// Span is one of them.
type Span struct{ *otlp.Span }

const (
	valueBytesMax = 256 // of an attribute
	eventsMax     = 64  // of a span
)

// Add adds a span. A zero parent makes it the child of the context that came.
func (s *Spans) Add(id, parent SpanID, name string, kind Kind, start, end time.Time) Span {
	if parent == (SpanID{}) {
		parent = s.context.Span
	}
	if end.Before(start) {
		end = start
	}
	span := &otlp.Span{TraceId: s.context.Trace[:], SpanId: id[:], TraceState: s.context.State, Flags: 1, Name: value(name), Kind: otlp.Span_SpanKind(kind),
		StartTimeUnixNano: uint64(start.UnixNano()), EndTimeUnixNano: uint64(end.UnixNano())}
	if parent != (SpanID{}) {
		span.ParentSpanId = parent[:]
	}
	s.all = append(s.all, span)
	return Span{span}
}

// Text notes a text, which is shortened and left out when it is empty.
func (s Span) Text(key, v string) {
	if v != "" {
		s.Attributes = append(s.Attributes, text(key, v))
	}
}

// Int notes a number.
func (s Span) Int(key string, v int64) {
	s.Attributes = append(s.Attributes, &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: v}}})
}

// Float notes a number.
func (s Span) Float(key string, v float64) {
	s.Attributes = append(s.Attributes, &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_DoubleValue{DoubleValue: v}}})
}

// True notes what is so.
func (s Span) True(key string) {
	s.Attributes = append(s.Attributes, &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_BoolValue{BoolValue: true}}})
}

// Event notes what happened at a time, with texts in pairs.
func (s Span) Event(name string, at time.Time, pairs ...string) {
	if len(s.Events) == eventsMax {
		s.DroppedEventsCount++
		return
	}
	e := &otlp.Span_Event{Name: value(name), TimeUnixNano: uint64(at.UnixNano())}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			e.Attributes = append(e.Attributes, text(pairs[i], pairs[i+1]))
		}
	}
	s.Events = append(s.Events, e)
}

// Fail says that the span ended in an error of this type.
func (s Span) Fail(kind string) {
	if kind == "" {
		kind = "_OTHER"
	}
	s.Text("error.type", kind)
	s.Status = &otlp.Status{Code: otlp.Status_STATUS_CODE_ERROR}
}

// After links the span to one before it in the same trace.
func (s Span) After(before Span) {
	s.Links = append(s.Links, &otlp.Span_Link{TraceId: before.TraceId, SpanId: before.SpanId, Flags: before.Flags,
		Attributes: []*common.KeyValue{text("nearside.link", "after")}})
}

func text(key, v string) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value(v)}}}
}

// value makes a text one that can be sent: valid UTF-8 and not too long.
func value(v string) string {
	if len(v) > valueBytesMax {
		v = v[:valueBytesMax]
	}
	return strings.ToValidUTF8(v, "_")
}
