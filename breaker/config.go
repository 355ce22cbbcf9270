package breaker

import "time"

// Config holds the settings of one breaker. Zero values take the defaults of
// Near. A negative Consecutive, ConsecutiveConnect or Ratio turns that trip
// off, a negative Jitter the jitter.
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
		OpenFor: 5 * time.Second, OpenMax: 20 * time.Second, Jitter: 0.2, Lease: 310 * time.Second}
}

// Far returns the defaults for a hosted provider.
func Far() Config {
	return Config{Consecutive: 5, ConsecutiveConnect: 2, Ratio: 0.5, RatioMin: 10, Window: 2 * time.Minute,
		OpenFor: 15 * time.Second, OpenMax: 2 * time.Minute, Jitter: 0.2, Lease: 190 * time.Second}
}

// bucket is how much of the rolling window is forgotten at a time.
func (c *Config) bucket() time.Duration { return max(c.Window/buckets, 1) }

// jitterMax keeps an open time from shrinking to nothing.
const jitterMax = 0.9

// filled returns c with Near's values where it says nothing usable.
func (c Config) filled() Config {
	near := Near()
	if c.Consecutive == 0 {
		c.Consecutive = near.Consecutive
	}
	if c.ConsecutiveConnect == 0 {
		c.ConsecutiveConnect = near.ConsecutiveConnect
	}
	if c.Ratio == 0 {
		c.Ratio = near.Ratio
	}
	if c.RatioMin <= 0 {
		c.RatioMin = near.RatioMin
	}
	if c.Window <= 0 {
		c.Window = near.Window
	}
	if c.OpenFor <= 0 {
		c.OpenFor = near.OpenFor
	}
	if c.OpenMax <= 0 {
		c.OpenMax = near.OpenMax
	}
	c.OpenMax = max(c.OpenMax, c.OpenFor)
	if c.Jitter == 0 {
		c.Jitter = near.Jitter
	}
	c.Jitter = min(max(c.Jitter, 0), jitterMax)
	if c.Lease <= 0 {
		c.Lease = near.Lease
	}
	return c
}

// openTime returns how long the opening numbered opens (from 1) lasts; r is
// random in [0, 1). OpenMax is never exceeded: what jitter would add beyond it
// is taken off instead, so that breakers at the bound stay spread out.
func (c Config) openTime(opens int, r float64) time.Duration {
	d := c.OpenFor
	for n := 1; n < opens && d < c.OpenMax; n++ {
		d *= 2
	}
	d = min(d, c.OpenMax)
	d = time.Duration(float64(d) * (1 + c.Jitter*(2*r-1)))
	if d > c.OpenMax {
		d = 2*c.OpenMax - d
	}
	return d
}
