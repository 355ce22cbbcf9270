package proxy

import "nearside/upstream"

// CooldownConfig says how long keys are left alone that failed, and how many of them
// one exchange tries.
type CooldownConfig struct {
	upstream.Cooldown
	OverloadedRotations  int // further keys of a target that is overloaded
	RateLimitedRotations int // and of one where the key is limited
	Rotations            int // and in all
}
