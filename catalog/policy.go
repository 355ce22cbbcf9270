package catalog

import "time"

// Policy says where a request may go and what may be done so that it is
// answered. It is that of the whole configuration (proxy.policy), of a chain
// (proxy.chains.<name>), or narrowed by a request.
type Policy struct {
	// NearOnly keeps a request on near targets, whatever fails.
	NearOnly bool
	// Regions are the labels (proxy.providers.<id>.region) of the far providers
	// that may be asked; empty for all.
	Regions []string
	// NoRegion says that of Regions none was left by what narrowed them.
	NoRegion bool
	Overflow Overflow
	Hedge    Hedge
	// Continue has the next target go on where a stream broke after content.
	Continue bool
}

// Overflow says what lets a request that a near target should have answered go
// to a far one. Other near targets of its chain may be tried in any case.
type Overflow struct {
	Failure bool // the near target failed
	Loading bool // it loads its model for longer than LoadingWait
	Queue   bool // it is saturated for longer than QueueWait
	Context bool // the request does not fit its window
	Ability bool // it does not read what the request holds (images, tools)

	LoadingWait time.Duration
	QueueWait   time.Duration

	// LargerContext lets a request that a backend refused for its length go to a
	// later target of the chain with a larger window.
	LargerContext bool
}

// Hedge says when the next target is started beside one that is slow to say
// its first token.
type Hedge struct {
	Enabled bool
	// After is a fixed wait; 0 for the usual first-token time of the target at
	// Percentile, once it was seen Samples times.
	After      time.Duration
	Percentile float64 // above 0, below 1
	Samples    int     // at most HedgeSamplesMax
}

// HedgeSamplesMax is how many first-content times are kept of a target.
const HedgeSamplesMax = 64

// DefaultPolicy returns what holds where the configuration says nothing.
func DefaultPolicy() Policy {
	return Policy{
		Overflow: Overflow{Failure: true, Loading: true, Queue: true, Context: true, Ability: true, LoadingWait: 20 * time.Second, QueueWait: 20 * time.Second},
		Hedge:    Hedge{Percentile: 0.95, Samples: 20},
	}
}
