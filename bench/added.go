package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"nearside/bench/stats"
)

// added are what one kind of request takes beside asking the backend itself: how soon
// the first token comes, the gaps between tokens, how long all of it takes.
type addedTest struct {
	name   string // for people: "1 KB"
	size   int
	stream bool
	gaps   bool // tells of the gaps too
}

// The kinds of request. Gaps do not depend on how long the prompt was.
var addedTests = []addedTest{
	{name: "1 KB", size: 1 << 10, stream: true, gaps: true},
	{name: "100 KB", size: 100 << 10, stream: true},
	{name: "1 MB", size: 1 << 20, stream: true},
	{name: "1 KB, whole", size: 1 << 10},
}

// What is told of each kind.
const (
	measureFirst = "first token"
	measureGap   = "between tokens"
	measureEnd   = "end"
)

// quantiles are told of each.
var quantiles = [...]float64{0.5, 0.9, 0.99}

// timing is when what of one answer came, from when it was asked.
type timing struct {
	first, end time.Duration
	gaps       []time.Duration
}

// timings are the times of one kind of request to one peer in one round.
type timings struct {
	first, gaps, end []float64 // µs
}

func (t *timings) add(a *timing) {
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
	if a.first > 0 {
		t.first = append(t.first, us(a.first))
	}
	for _, g := range a.gaps {
		t.gaps = append(t.gaps, us(g))
	}
	t.end = append(t.end, us(a.end))
}

// addedRound are the quantiles of one round: of the backend itself, and through a peer.
type addedRound struct{ direct, via [len(quantiles)]float64 }

// addedKey is a kind of request and a peer.
type addedKey struct{ test, measure, peer string }

// alternate asks every peer in turn, n times: each request through a peer has one to
// the backend itself right beside it. Who comes first changes each time.
func (r *runner) alternate(ctx context.Context, test addedTest, n int, peers []*peer) (map[*peer]*timings, error) {
	clients, out := map[*peer]*client{}, map[*peer]*timings{}
	for _, p := range peers {
		c, err := dial(p.at(backendAll))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		defer c.close()
		clients[p], out[p] = c, &timings{}
	}
	for i := range n + 1 {
		for j := range peers {
			p := peers[(i+j)%len(peers)]
			t, err := clients[p].timed(r.ask(p, modelStream, test.size, test.stream), test.stream)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p.name, err)
			}
			if i > 0 { // the first warms connections
				out[p].add(&t)
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return out, nil
}

// latencies measures what peers add to single requests.
func (r *runner) latencies(ctx context.Context, round int) error {
	peers := append([]*peer{r.direct}, r.pair(round)...)
	for _, test := range addedTests {
		all, err := r.alternate(ctx, test, r.sizes.asks, peers)
		if err != nil {
			return fmt.Errorf("added, %s: %w", test.name, err)
		}
		r.keepAdded(test, all)
	}
	return nil
}

// keepAdded keeps the quantiles of a round.
func (r *runner) keepAdded(test addedTest, all map[*peer]*timings) {
	direct := all[r.direct].each(&test)
	for p, t := range all {
		if p == r.direct {
			continue
		}
		p.requests += int64(len(t.end))
		p.tokens += int64(len(t.first) + len(t.gaps))
		for measure, values := range t.each(&test) {
			if len(values) == 0 || len(direct[measure]) == 0 {
				continue
			}
			var q addedRound
			for i := range quantiles {
				at := stats.Percentile(quantiles[i])
				q.direct[i], q.via[i] = at(direct[measure]), at(values)
			}
			key := addedKey{test.name, measure, p.name}
			r.added[key] = append(r.added[key], q)
		}
	}
}

// each are what is told of a kind of request.
func (t *timings) each(test *addedTest) map[string][]float64 {
	all := map[string][]float64{measureFirst: t.first, measureEnd: t.end}
	if test.gaps {
		all[measureGap] = t.gaps
	}
	return all
}

// timed sends a request and notes when what of its answer came.
func (c *client) timed(request []byte, stream bool) (timing, error) {
	began := time.Now()
	if _, err := c.c.Write(request); err != nil {
		return timing{}, err
	}
	if !stream {
		err := c.answer()
		return timing{end: time.Since(began)}, err
	}
	chunked, _, err := c.head()
	if err != nil {
		return timing{}, err
	}
	if !chunked {
		return timing{}, errors.New("the answer is not streamed")
	}
	var (
		t    timing
		last time.Duration
		rest []byte // of an event that has not ended
	)
	for {
		p, err := c.chunkBytes()
		if err != nil {
			return timing{}, err
		}
		at := time.Since(began)
		if p == nil {
			break
		}
		rest = append(rest, p...)
		for {
			event, more, ok := bytes.Cut(rest, []byte("\n\n"))
			if !ok {
				break
			}
			rest = more
			if !hasText(event) {
				continue
			}
			if t.first == 0 {
				t.first = at
			} else {
				t.gaps = append(t.gaps, at-last)
			}
			last, t.end = at, at
		}
	}
	if t.first == 0 {
		return timing{}, errors.New("a stream without a token")
	}
	return t, nil
}

var contentMember = []byte(`"content":"`)

// hasText says whether an event of a chat stream carries text, whatever else it has.
func hasText(event []byte) bool {
	_, after, ok := bytes.Cut(event, contentMember)
	if !ok { // as some proxies write it
		_, after, ok = bytes.Cut(event, []byte(`"content": "`))
	}
	return ok && len(after) > 0 && after[0] != '"'
}

// chunkBytes reads one chunk; nil is the end of the body. What it returns holds until
// the next is read.
func (c *client) chunkBytes() ([]byte, error) {
	n, err := c.size()
	if err != nil {
		return nil, err
	}
	if cap(c.buf) < n+2 {
		c.buf = make([]byte, n+2)
	}
	p := c.buf[:n+2]
	if err := c.full(p); err != nil {
		return nil, fmt.Errorf("read chunk: %w", err)
	}
	if n == 0 {
		return nil, nil
	}
	return p[:n], nil
}
