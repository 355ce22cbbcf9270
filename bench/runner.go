package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
)

// peer is one process under test, or the backend itself.
type peer struct {
	name  string
	p     *process
	pid   int               // 0 where it is not known
	addrs map[string]string // host:port by backend

	other *Other // another's proxy; nil for what was started here
	path  string

	requests, tokens int64    // that it was measured with
	memory           []memory // at the end of each round
}

// at is where a backend is asked through the peer.
func (p *peer) at(backend string) string {
	if p.other != nil || backend == modelStream {
		backend = backendAll
	}
	return p.addrs[backend]
}

func (p *peer) to(backend string) target { return target{p.at(backend), p.pid} }

// sample is one figure of one round.
type sample struct {
	direct, bare, ours float64
	others             map[string]float64
}

func (r *runner) put(s *sample, p *peer, v float64) {
	switch {
	case p == r.direct:
		s.direct = v
	case p.other != nil:
		if s.others == nil {
			s.others = map[string]float64{}
		}
		s.others[p.name] = v
	case p.name == r.bare.name:
		s.bare = v
	default:
		s.ours = v
	}
}

// runner holds what one run started and measured.
type runner struct {
	opt    Options
	sizes  sizes
	dir    string
	direct *peer
	bare   *peer
	ours   *peer
	others []*peer
	leaves leaveBook

	machine Machine // before anything was started

	bodies  map[string][]byte
	samples map[string][]sample // by figure
	added   map[addedKey][]addedRound
	stopped bool
}

// cut leaves what the first n rounds measured.
func (r *runner) cut(n int) {
	r.stopped, r.opt.Rounds = true, n
	for k, all := range r.samples {
		r.samples[k] = all[:min(n, len(all))]
	}
	for k, all := range r.added {
		r.added[k] = all[:min(n, len(all))]
	}
}

// start starts the backend and one process of each peer.
func (r *runner) start(ctx context.Context) error {
	p, addrs, err := startSim(ctx, r.opt.Binary, r.opt.Listen, r.leaves.note)
	if err != nil {
		return err
	}
	r.direct = &peer{name: "backend", p: p, pid: p.pid(), addrs: addrs}
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
	return &peer{name: "bare", p: p, pid: p.pid(), addrs: addrs}, nil
}

func (r *runner) startOurs(ctx context.Context) (*peer, error) {
	dir, err := os.MkdirTemp(r.dir, "proxy")
	if err != nil {
		return nil, err
	}
	p, addrs, err := startProxy(ctx, r.opt.Binary, dir, r.opt.Config, r.direct.addrs)
	if err != nil {
		return nil, err
	}
	return &peer{name: "nearside", p: p, pid: p.pid(), addrs: addrs}, nil
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
// that none always has the warmer machine.
func (r *runner) pair(round int) []*peer {
	all := append([]*peer{r.bare, r.ours}, r.others...)
	n := round % len(all)
	all = append(all[n:len(all):len(all)], all[:n]...)
	return all
}

// ask returns the bytes of a request to a peer, made once.
func (r *runner) ask(p *peer, backend string, size int, stream bool) []byte {
	key := fmt.Sprint(p.name, backend, size, stream)
	if r.bodies[key] == nil {
		r.bodies[key] = r.compose(p, backend, size, stream)
	}
	return r.bodies[key]
}

func (r *runner) compose(p *peer, backend string, size int, stream bool) []byte {
	switch {
	case p.other != nil:
		lines := ""
		for _, h := range p.other.Header {
			lines += h + "\r\n"
		}
		key := "local"
		if slices.ContainsFunc(p.other.Header, func(h string) bool { return strings.HasPrefix(strings.ToLower(h), "authorization:") }) {
			key = ""
		}
		return requestTo(p.path, key, lines, p.other.Prefix+backend, size, stream)
	case p.name != "nearside":
		if backend == modelStream {
			return request(backend, size, stream)
		}
		return request(backend+"/m", size, stream)
	}
	model := backend + "/m"
	if backend == modelStream {
		model = backendAll + "/" + backend
	}
	key := r.opt.Key
	if key == "" {
		key = "local"
	}
	return requestTo("/v1/chat/completions", key, "", model, size, stream)
}

// compare measures one figure for all peers whose process is known.
func (r *runner) compare(ctx context.Context, round int, figure string, f func(*peer) (float64, error)) error {
	var s sample
	for _, p := range r.pair(round) {
		if p.pid == 0 {
			continue
		}
		v, err := f(p)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", figure, p.name, err)
		}
		r.put(&s, p, v)
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
	loop := func(figure, backend string, conns, size int, stream bool, tokens int) error {
		return r.compare(ctx, n, figure, func(p *peer) (float64, error) {
			s, err := closedLoop(ctx, p.to(backend), conns, z.warm, z.test, r.ask(p, backend, size, stream))
			p.requests += s.done
			each := 1.0
			if stream {
				each = float64(tokens)
				p.tokens += s.done * int64(tokens)
			}
			return s.each() / each, err
		})
	}
	for _, f := range []func() error{
		func() error { return loop(figure1K, backendQuick, z.conns, 1<<10, false, 0) },
		func() error { return loop(figure100K, backendQuick, z.large, 100<<10, false, 0) },
		func() error { return loop(figure1M, backendQuick, z.large, 1<<20, false, 0) },
		func() error {
			return r.compare(ctx, n, figurePaced, func(p *peer) (float64, error) {
				s, err := pacedStreams(ctx, p.to(backendPaced), z.paced, z.warm, z.test, r.ask(p, backendPaced, 1<<10, true))
				p.requests += int64(z.paced)
				p.tokens += s.done
				return s.each(), err
			})
		},
		func() error { return loop(figureFlood, backendFlood, z.flood, 1<<10, true, floodTokens) },
		func() error { return r.open(ctx, n) },
		func() error { return r.latencies(ctx, n) },
		func() error { return r.memory(ctx, n) },
		func() error { return r.leave(ctx, n) },
	} {
		if err := f(); err != nil {
			return err
		}
	}
	return r.remember()
}

// open measures the median of 200 requests a second, with and without a peer.
func (r *runner) open(ctx context.Context, n int) error {
	var s sample
	for _, p := range append([]*peer{r.direct}, r.pair(n)...) {
		h, err := openLoop(ctx, p.at(backendQuick), r.sizes.rate, r.sizes.open, r.ask(p, backendQuick, 1<<10, false))
		if err != nil {
			return fmt.Errorf("%s, %s: %w", figureAdded, p.name, err)
		}
		us := float64(h.ValueAtQuantile(50)) / 1e3
		if p != r.direct {
			us -= s.direct
		}
		r.put(&s, p, us)
	}
	r.samples[figureAdded] = append(r.samples[figureAdded], s)
	return nil
}
