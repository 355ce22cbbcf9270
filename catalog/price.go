package catalog

import "nearside/shaping/wire"

// Priced says whether any price is known. A model of one's own has none.
func (c *Cost) Priced() bool {
	return c.Input != 0 || c.Output != 0 || c.CacheRead != 0 || c.CacheWrite != 0 || len(c.Tiers) > 0
}

// Of returns what a usage costs, in USD: that of the tier whose range holds the
// input, for all of it, else at the common prices. Tokens read from a cache and
// written to one have prices of their own.
func (c *Cost) Of(u wire.Usage) float64 {
	in, out, read, write := c.Input, c.Output, c.CacheRead, c.CacheWrite
	for i := range c.Tiers {
		t := &c.Tiers[i]
		if t.holds(u.Input) {
			in, out, read, write = t.Input, t.Output, t.CacheRead, t.CacheWrite
			break
		}
	}
	cached := min(max(u.Cached, 0), u.Input)
	written := min(max(u.CacheWrite, 0), u.Input-cached)
	plain := u.Input - cached - written
	return (float64(plain)*in + float64(cached)*read + float64(written)*write + float64(u.Output)*out) / 1e6
}

func (t *Tier) holds(input int64) bool {
	switch len(t.Range) {
	case 0:
		return false
	case 1:
		return input >= int64(t.Range[0])
	}
	return input >= int64(t.Range[0]) && input < int64(t.Range[1])
}
