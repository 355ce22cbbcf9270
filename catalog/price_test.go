package catalog

import (
	"math"
	"testing"

	"nearside/shaping/wire"
)

func TestCostOfUsage(t *testing.T) {
	plain := Cost{Input: 2, Output: 10, CacheRead: 0.5, CacheWrite: 2.5}
	tiered := Cost{Input: 1, Output: 1, Tiers: []Tier{
		{Input: 2, Output: 10, CacheRead: 1, Range: []int{0, 200_000}},
		{Input: 4, Output: 20, CacheRead: 2, Range: []int{200_000}},
	}}
	for _, c := range []struct {
		name string
		cost Cost
		u    wire.Usage
		want float64
	}{
		{"nothing known", Cost{}, wire.Usage{Input: 1000, Output: 1000}, 0},
		{"plain", plain, wire.Usage{Input: 1_000_000, Output: 100_000}, 3},
		{"cached and written", plain, wire.Usage{Input: 1_000_000, Cached: 400_000, CacheWrite: 100_000, Output: 0}, 1 + 0.2 + 0.25},
		{"more cached than there is", plain, wire.Usage{Input: 100, Cached: 1000}, 100 * 0.5 / 1e6},
		{"first tier", tiered, wire.Usage{Input: 199_999, Output: 0}, 199_999 * 2 / 1e6},
		{"second tier, for all of it", tiered, wire.Usage{Input: 200_000, Cached: 100_000, Output: 1000}, (100_000*4 + 100_000*2 + 1000*20) / 1e6},
	} {
		if got := c.cost.Of(c.u); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if (&Cost{}).Priced() || !tiered.Priced() {
		t.Error("Priced does not tell a model with prices from one without")
	}
}
