package bench

import (
	"context"
	"fmt"
	"math"
)

// memory is what a process had at the end of a round, and had been through by then.
type memory struct {
	resident, most   int64
	requests, tokens int64
}

// remember notes the memory of those that run through all rounds.
func (r *runner) remember() error {
	for _, p := range append([]*peer{r.bare, r.ours}, r.others...) {
		if p.pid == 0 {
			continue
		}
		now, most, err := residents(p.pid)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		p.memory = append(p.memory, memory{now, most, p.requests, p.tokens})
	}
	return nil
}

// Memory is what a process held after many requests. What it left is the growth from
// the end of the first round to that of the last, which warming up has no part in.
type Memory struct {
	Name     string  `json:"name"`
	MiB      float64 `json:"mib"`      // at the end
	MostMiB  float64 `json:"most_mib"` // at any time
	Requests int64   `json:"requests"` // of the measured ones, in all
	Tokens   int64   `json:"tokens"`
	// Bytes of growth for each request and for each token since the first round; nil with
	// one round.
	Request *float64 `json:"bytes_left_per_request"`
	Token   *float64 `json:"bytes_left_per_token"`
}

func memoryOf(p *peer) Memory {
	last, first := p.memory[len(p.memory)-1], p.memory[0]
	m := Memory{Name: p.name, MiB: float64(last.resident) / (1 << 20), MostMiB: float64(last.most) / (1 << 20), Requests: last.requests, Tokens: last.tokens}
	grown := float64(last.resident - first.resident)
	if n := last.requests - first.requests; n > 0 {
		v := grown / float64(n)
		m.Request = &v
	}
	if n := last.tokens - first.tokens; n > 0 {
		v := grown / float64(n)
		m.Token = &v
	}
	return m
}

// memory measures fresh processes of ours: what an earlier test left would count. Those
// of others are as they are.
func (r *runner) memory(ctx context.Context, n int) error {
	var idle, held, slow sample
	starts := []func(context.Context) (*peer, error){r.startBare, r.startOurs}
	for _, o := range r.others {
		starts = append(starts, func(context.Context) (*peer, error) { return o, nil })
	}
	for i := range starts {
		p, err := starts[(i+n)%len(starts)](ctx)
		if err != nil {
			return err
		}
		h, err := r.hold(ctx, p)
		if p.other == nil {
			p.p.kill()
		}
		if err != nil {
			return fmt.Errorf("%s, %s: %w", figureHeld, p.name, err)
		}
		if p.other == nil {
			r.put(&idle, p, h.idle)
		}
		if p.pid != 0 {
			r.put(&held, p, h.each)
			r.put(&slow, p, h.token)
		}
	}
	r.samples[figureIdle] = append(r.samples[figureIdle], idle)
	r.samples[figureHeld] = append(r.samples[figureHeld], held)
	r.samples[figureSlow] = append(r.samples[figureSlow], slow)
	return nil
}

// holding is what many slow streams at once cost.
type holding struct {
	idle  float64 // MiB before
	each  float64 // KiB for each
	token float64 // µs of processor time for each token
}

// hold has a peer hold many slow streams, and asks through it beside them.
func (r *runner) hold(ctx context.Context, p *peer) (holding, error) {
	var h holding
	fail := func(err error) (holding, error) { return holding{}, err }
	if err := r.use(p); err != nil {
		return fail(err)
	}
	if err := pause(ctx, r.sizes.still); err != nil { // within which it has written what it keeps of them
		return fail(err)
	}
	before, err := r.weigh(p)
	if err != nil {
		return fail(err)
	}
	s, err := openStreams(p.at(backendHeld), r.sizes.held, r.ask(p, backendHeld, 1<<10, true), 1)
	if err != nil {
		return fail(err)
	}
	defer s.close()
	if err := pause(ctx, r.sizes.still/3); err != nil { // what opening them cost
		return fail(err)
	}
	used, had := r.worked(p), s.events.n.Load()
	// They all began at once: a whole number of intervals has as many tokens of each.
	window := max(r.sizes.still/heldEvery, 1) * heldEvery
	if err := pause(ctx, window); err != nil {
		return fail(err)
	}
	h.token = math.NaN()
	if n := s.events.n.Load() - had; n > 0 {
		h.token = (r.worked(p) - used) / float64(n)
	}
	after, err := r.weigh(p)
	if err != nil {
		return fail(err)
	}
	h.idle, h.each = float64(before)/(1<<20), float64(after-before)/(1<<10)/float64(r.sizes.held)
	test := addedTest{name: fmt.Sprintf("beside %d slow streams", r.sizes.held), size: 1 << 10, stream: true}
	all, err := r.alternate(ctx, test, max(r.sizes.asks/2, 1), []*peer{r.direct, p})
	if err != nil {
		return fail(err)
	}
	r.keepAdded(test, all)
	if broken := s.broken.Load(); broken != nil {
		return fail(*broken)
	}
	return h, nil
}

// use has a fresh process do once what is measured, so that its code, and what it needs
// to write an account, count as what they are: a part of the process, and not of the
// first streams.
func (r *runner) use(p *peer) error {
	const few = 8
	s, err := openStreams(p.at(backendHeld), few, r.ask(p, backendHeld, 1<<10, true), 2)
	if err != nil {
		return err
	}
	s.close()
	c, err := dial(p.at(backendQuick))
	if err != nil {
		return err
	}
	defer c.close()
	for range few {
		if err := c.do(r.ask(p, backendQuick, 1<<10, false)); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) weigh(p *peer) (int64, error) {
	if p.pid == 0 {
		return 0, nil
	}
	return resident(p.pid)
}

// worked is the processor time of a peer so far, in µs; not a number where it cannot be
// read.
func (r *runner) worked(p *peer) float64 {
	d, err := cpu(p.pid)
	if err != nil {
		return math.NaN()
	}
	return float64(d.Nanoseconds()) / 1e3
}
