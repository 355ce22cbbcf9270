package proxy

import "time"

// AffinityConfig says how long a conversation stays where it was served.
type AffinityConfig struct {
	Sessions int           // how many are remembered; 0 for none
	For      time.Duration // after the last answer
	Targets  bool          // also at a target
}
