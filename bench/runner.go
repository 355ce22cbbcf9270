package bench

import (
	"context"
	"fmt"
	"os"
)

// peer is one process under test, or the backend itself.
type peer struct {
	name  string
	p     *process
	addrs map[string]string // host:port by backend
}

func (p *peer) to(backend string) target { return target{p.addrs[backend], p.p.pid()} }

// sample is one figure of one round.
type sample struct{ direct, bare, ours float64 }

// runner holds what one run started and measured.
type runner struct {
	opt    Options
	sizes  sizes
	dir    string
	direct *peer
	bare   *peer
	ours   *peer
	leaves leaveBook

	machine Machine // before anything was started

	bodies  map[string][]byte
	samples map[string][]sample // by figure
}

// start starts the backend and one process of each peer.
func (r *runner) start(ctx context.Context) error {
	p, addrs, err := startSim(ctx, r.opt.Binary, r.leaves.note)
	if err != nil {
		return err
	}
	r.direct = &peer{"backend", p, addrs}
	if r.bare, err = r.startBare(ctx); err != nil {
		return err
	}
	r.ours, err = r.startOurs(ctx)
	return err
}

func (r *runner) startBare(ctx context.Context) (*peer, error) {
	p, addrs, err := startBare(ctx, r.opt.Binary, r.direct.addrs)
	if err != nil {
		return nil, err
	}
	return &peer{"bare", p, addrs}, nil
}

func (r *runner) startOurs(ctx context.Context) (*peer, error) {
	dir, err := os.MkdirTemp(r.dir, "proxy")
	if err != nil {
		return nil, err
	}
	p, addrs, err := startProxy(ctx, r.opt.Binary, dir, r.direct.addrs)
	if err != nil {
		return nil, err
	}
	return &peer{"nearside", p, addrs}, nil
}

// stop ends what start started.
func (r *runner) stop() {
	for _, p := range []*peer{r.ours, r.bare, r.direct} {
		if p != nil {
			p.p.kill()
		}
	}
}

// pair returns the peers in the order of a round: who goes first changes, so
// that neither always has the warmer machine.
func (r *runner) pair(round int) []*peer {
	if round%2 == 1 {
		return []*peer{r.ours, r.bare}
	}
	return []*peer{r.bare, r.ours}
}

// request returns the bytes of a request, made once.
func (r *runner) request(backend string, size int, stream bool) []byte {
	key := fmt.Sprint(backend, size, stream)
	if r.bodies[key] == nil {
		r.bodies[key] = request(backend+"/m", size, stream)
	}
	return r.bodies[key]
}

// compare measures one figure for both peers.
func (r *runner) compare(ctx context.Context, round int, figure string, f func(*peer) (float64, error)) error {
	var s sample
	for _, p := range r.pair(round) {
		v, err := f(p)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", figure, p.name, err)
		}
		if p == r.bare {
			s.bare = v
		} else {
			s.ours = v
		}
		if err := pause(ctx, r.sizes.settle); err != nil {
			return err
		}
	}
	r.samples[figure] = append(r.samples[figure], s)
	return nil
}

// round measures every figure once.
func (r *runner) round(ctx context.Context, n int) error {
	z := r.sizes
	loop := func(figure, backend string, conns, size int, stream bool, each float64) error {
		req := r.request(backend, size, stream)
		return r.compare(ctx, n, figure, func(p *peer) (float64, error) {
			s, err := closedLoop(ctx, p.to(backend), conns, z.warm, z.test, req)
			return s.each() / each, err
		})
	}
	for _, f := range []func() error{
		func() error { return loop(figure1K, backendQuick, z.conns, 1<<10, false, 1) },
		func() error { return loop(figure100K, backendQuick, z.large, 100<<10, false, 1) },
		func() error { return loop(figure1M, backendQuick, z.large, 1<<20, false, 1) },
		func() error {
			req := r.request(backendPaced, 1<<10, true)
			return r.compare(ctx, n, figurePaced, func(p *peer) (float64, error) {
				s, err := pacedStreams(ctx, p.to(backendPaced), z.paced, z.warm, z.test, req)
				return s.each(), err
			})
		},
		func() error { return loop(figureFlood, backendFlood, z.flood, 1<<10, true, floodTokens) },
		func() error { return r.added(ctx, n) },
		func() error { return r.memory(ctx, n) },
		func() error { return r.leave(ctx, n) },
	} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// added measures the median of 200 requests a second, with and without a peer.
func (r *runner) added(ctx context.Context, n int) error {
	req := r.request(backendQuick, 1<<10, false)
	var s sample
	for _, p := range append([]*peer{r.direct}, r.pair(n)...) {
		h, err := openLoop(ctx, p.addrs[backendQuick], r.sizes.rate, r.sizes.open, req)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", figureAdded, p.name, err)
		}
		us := float64(h.ValueAtQuantile(50)) / 1e3
		switch p {
		case r.direct:
			s.direct = us
		case r.bare:
			s.bare = us - s.direct
		default:
			s.ours = us - s.direct
		}
	}
	r.samples[figureAdded] = append(r.samples[figureAdded], s)
	return nil
}

// memory measures fresh processes: what an earlier test left would count.
func (r *runner) memory(ctx context.Context, n int) error {
	var idle, held sample
	starts := []func(context.Context) (*peer, error){r.startBare, r.startOurs}
	for i := range starts {
		p, err := starts[(i+n)%2](ctx)
		if err != nil {
			return err
		}
		before, per, err := r.hold(ctx, p)
		p.p.kill()
		if err != nil {
			return fmt.Errorf("%s, %s: %w", figureHeld, p.name, err)
		}
		if p.name == r.bare.name {
			idle.bare, held.bare = before, per
		} else {
			idle.ours, held.ours = before, per
		}
	}
	r.samples[figureIdle] = append(r.samples[figureIdle], idle)
	r.samples[figureHeld] = append(r.samples[figureHeld], held)
	return nil
}

// hold returns a fresh peer's memory in MiB, and in KiB for each held stream.
func (r *runner) hold(ctx context.Context, p *peer) (idle, per float64, err error) {
	if err := pause(ctx, r.sizes.still/3); err != nil {
		return 0, 0, err
	}
	before, err := resident(p.p.pid())
	if err != nil {
		return 0, 0, err
	}
	s, err := openStreams(p.addrs[backendHeld], r.sizes.held, r.request(backendHeld, 1<<10, true), 1)
	if err != nil {
		return 0, 0, err
	}
	defer s.close()
	if err := pause(ctx, r.sizes.still); err != nil {
		return 0, 0, err
	}
	after, err := resident(p.p.pid())
	if err != nil {
		return 0, 0, err
	}
	if broken := s.broken.Load(); broken != nil {
		return 0, 0, *broken
	}
	return float64(before) / (1 << 20), float64(after-before) / (1 << 10) / float64(r.sizes.held), nil
}
