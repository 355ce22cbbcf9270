package breaker

import "time"

// Config holds the settings of one breaker. Zero values take the defaults of
// Near or Far.
type Config struct {
	Disabled           bool          // every ticket is granted; outcomes are still counted
	Consecutive        int           // failures in a row that open it
	ConsecutiveConnect int           // connect-level failures in a row that open it
	Ratio              float64       // share of failures in Window that opens it
	RatioMin           int           // samples in Window before Ratio counts
	Window             time.Duration // rolling
	OpenFor            time.Duration // first open time; doubles with each reopening
	OpenMax            time.Duration // bound of the open time
	Jitter             float64       // ± share of the open time
	Lease              time.Duration // a half-open probe whose ticket is never settled is given back after this
}

// Near returns the defaults for a backend on your own machines.
func Near() Config {
	return Config{Consecutive: 3, ConsecutiveConnect: 2, Ratio: 0.5, RatioMin: 5, Window: 2 * time.Minute,
		OpenFor: 5 * time.Second, OpenMax: time.Minute, Jitter: 0.2, Lease: 310 * time.Second}
}

// Far returns the defaults for a hosted provider.
func Far() Config {
	return Config{Consecutive: 5, ConsecutiveConnect: 2, Ratio: 0.5, RatioMin: 10, Window: 2 * time.Minute,
		OpenFor: 15 * time.Second, OpenMax: 2 * time.Minute, Jitter: 0.2, Lease: 190 * time.Second}
}
