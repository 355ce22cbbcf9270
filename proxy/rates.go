package proxy

import (
	"strings"
	"time"
)

// ratesFor is over how long tokens a second are counted.
const ratesFor = 5 * time.Second

// ratesMax bounds the exchanges and the providers that are counted at once.
const ratesMax = 4096

// rates count the tokens that answers bring, by provider, from one picture to the
// next. They are of those who watch: nobody else pays for them.
type rates struct {
	since time.Time
	told  map[string]int64    // of exchanges under way, by id: events that were counted
	sums  map[string]*tallied // by provider
}

// tallied is what came of one provider.
type tallied struct {
	far   bool
	sum   float64 // tokens since the first picture
	marks [8]mark // the last pictures
	last  int     // of marks
	tally int     // how many of them are there
}

type mark struct {
	at  time.Time
	sum float64
}

// sample counts what exchanges under way have told since the last picture.
func (c *rates) sample(st *Status, now time.Time) {
	if c.since.IsZero() || now.Sub(c.since) > 2*ratesFor { // nobody looked for a while
		*c = rates{told: map[string]int64{}, sums: map[string]*tallied{}}
	}
	c.since = now
	seen := make(map[string]int64, len(st.InFlight))
	for i := range st.InFlight {
		f := &st.InFlight[i]
		if f.Ref == "" || f.Events == 0 {
			continue
		}
		if p := c.of(providerOf(f.Ref), f.Route == "far"); p != nil {
			p.sum += float64(max(f.Events-c.told[f.ID], 0))
		}
		seen[f.ID] = f.Events
	}
	if st.More == 0 {
		c.told = seen
	} else { // those that are not listed go on, too
		for id, n := range seen {
			if _, ok := c.told[id]; ok || len(c.told) < ratesMax {
				c.told[id] = n
			}
		}
	}
	for _, p := range c.sums {
		p.mark(now)
	}
}

// settled counts what a settled exchange told since the last picture, as its
// backend counted it where it did.
func (c *rates) settled(r *Receipt) {
	if c.told == nil || r.Provider == "" {
		return
	}
	n := int64(r.Events)
	if r.HasUsage {
		n = r.Usage.Output
	}
	if p := c.of(r.Provider, r.Route == "far"); p != nil {
		p.sum += float64(max(n-c.told[r.ID], 0))
	}
	delete(c.told, r.ID)
}

func (c *rates) of(provider string, far bool) *tallied {
	p := c.sums[provider]
	if p == nil && len(c.sums) < ratesMax {
		p = &tallied{far: far}
		if !c.since.IsZero() {
			p.mark(c.since)
		}
		c.sums[provider] = p
	}
	return p
}

func (p *tallied) mark(now time.Time) {
	p.last = (p.last + 1) % len(p.marks)
	p.marks[p.last] = mark{now, p.sum}
	p.tally = min(p.tally+1, len(p.marks))
}

// rate is over the last marks that are not older than ratesFor, at least two.
func (p *tallied) rate() float64 {
	newest := p.marks[p.last]
	oldest := newest
	for i := 1; i < p.tally; i++ {
		m := p.marks[(p.last-i+len(p.marks))%len(p.marks)]
		oldest = m
		if newest.at.Sub(m.at) >= ratesFor {
			break
		}
	}
	if d := newest.at.Sub(oldest.at).Seconds(); d > 0 {
		return (newest.sum - oldest.sum) / d
	}
	return 0
}

// now returns the rates by provider, and those of near and far ones together.
func (c *rates) now() (by map[string]float64, near, far float64) {
	by = make(map[string]float64, len(c.sums))
	for id, p := range c.sums {
		r := p.rate()
		by[id] = r
		if p.far {
			far += r
		} else {
			near += r
		}
	}
	return by, near, far
}

func providerOf(ref string) string {
	id, _, _ := strings.Cut(ref, "/")
	return id
}
