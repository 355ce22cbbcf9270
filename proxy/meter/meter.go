// Package meter owns the metrics: what is counted, its bounded labels and the
// Prometheus text. It decides nothing.
package meter

import (
	"time"

	"nearside/shaping/wire"
)

// Exchange is what one finished exchange tells the metrics.
type Exchange struct {
	Dialect  string // chat, responses, completions, plain
	Provider string // that served, or was tried last; empty when none was
	Model    string // declared ref; "other" for passed-through ids
	Route    string // near, far or none
	Outcome  string // ok, error, rejected, client_closed, timeout, shutdown
	Status   int
	Stream   bool

	Duration     time.Duration
	FirstContent time.Duration // 0 when there was none
	Own          time.Duration // our own added time: total less what was spent waiting for backend and client
	Gaps         *Gaps         // between events, nil when not streamed
	AbortPhase   string        // queue, connect, upload, headers, content, stream, answer; with client_closed
	Usage        wire.Usage
	Attempts     []Attempt
	Dropped      []string
}

// Attempt is one try of one target.
type Attempt struct {
	Provider string
	Model    string
	Outcome  string // low cardinality: good, connect_refused, timeout_first_content, status_503, …
}

// Gaps counts the times between a stream's events in the buckets of the
// histogram, local to one exchange, so that the relay touches nothing shared.
type Gaps struct{}
