// Package bench measures the whole path of a request through a running proxy,
// from the outside: it starts processes, opens sockets, and reads what the
// kernel counted. It knows nothing of the proxy's insides, so that what it says
// holds for the binary that users run.
//
// Every figure stands beside a bare pass-through that was measured in the same
// run, because the same test on the same machine gives 20 to 45 % more an hour
// later.
package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

// Options say what Overhead measures. The zero value of a field is its default.
type Options struct {
	Binary   string    // the nearside to measure, and to run the backend and the bare relay
	Rounds   int       // times everything is repeated; 5 when 0
	Quick    bool      // short tests and few streams: shows that all works, not what it costs
	Progress io.Writer // gets a line for each round; may be nil
	Version  string    // of the binary, for the report

	Config  string        // a configuration that the proxy is to have beneath what is measured; empty for its defaults
	Key     string        // what the proxy is asked with, where the configuration wants one
	Against []Other       // other proxies in front of the same backend
	Listen  string        // where that backend listens for them; a free port when empty
	Wait    time.Duration // for the others to answer

	sizes *sizes // tests make them smaller still
}

// DefaultRounds is how often Overhead repeats everything when it is not told.
const DefaultRounds = 5

// RoundsMax bounds a run, which takes about a minute a round.
const RoundsMax = 100

// sizes are how long and how wide the tests of one round are.
type sizes struct {
	test    time.Duration // one closed-loop test
	warm    time.Duration // before it
	settle  time.Duration // after it, for what it abandoned
	conns   int           // of the 1 KB test
	large   int           // connections of the tests with larger bodies
	flood   int           // connections of the flooded streams
	paced   int           // paced streams
	rate    int           // requests a second of the open loop
	open    time.Duration // the open loop
	held    int           // streams held
	still   time.Duration // before memory is read
	leaves  int           // of each phase
	asks    int           // of each kind of request, one at a time, to each peer
	unheard time.Duration // a leave that the bare relay does not hand on for so long is given up
}

func sizesOf(o *Options) sizes {
	if o.sizes != nil {
		return *o.sizes
	}
	s := sizes{test: 1200 * time.Millisecond, warm: 200 * time.Millisecond, settle: 150 * time.Millisecond, conns: 64, large: 8, flood: 8, paced: 50,
		rate: 200, open: 2 * time.Second, held: 1000, still: 1500 * time.Millisecond, leaves: 9, asks: 100, unheard: 500 * time.Millisecond}
	if o.Quick {
		s.test, s.warm, s.open, s.held, s.still, s.leaves = 300*time.Millisecond, 50*time.Millisecond, 500*time.Millisecond, 100, 300*time.Millisecond, 3
		s.asks = 20
		s.unheard = 200 * time.Millisecond
	}
	return s
}

// Overhead measures what the proxy costs beside the bare relay. It starts every
// process it needs and ends them all before it returns.
func Overhead(ctx context.Context, opt Options) (*Report, error) {
	if opt.Rounds == 0 {
		opt.Rounds = DefaultRounds
	}
	if opt.Rounds < 1 || opt.Rounds > RoundsMax {
		return nil, fmt.Errorf("rounds %d: from 1 to %d", opt.Rounds, RoundsMax)
	}
	if !canCount() {
		return nil, fmt.Errorf("read /proc/self/task/*/schedstat: the figures need Linux with CONFIG_SCHED_INFO")
	}
	dir, err := os.MkdirTemp("", "nearside-bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r := &runner{opt: opt, sizes: sizesOf(&opt), dir: dir, machine: machine(), bodies: map[string][]byte{}, samples: map[string][]sample{}, added: map[addedKey][]addedRound{}}
	defer r.stop()
	started := time.Now()
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	if err := r.join(ctx); err != nil {
		return nil, err
	}
	for n := range opt.Rounds {
		began := time.Now()
		if err := r.round(ctx, n); err != nil {
			if ctx.Err() != nil && n > 0 { // what whole rounds have is worth as much as it was
				r.cut(n)
				return r.report(started), nil
			}
			return nil, fmt.Errorf("round %d: %w", n+1, err)
		}
		if opt.Progress != nil {
			fmt.Fprintf(opt.Progress, "round %d of %d: %.0f s\n", n+1, opt.Rounds, time.Since(began).Seconds())
		}
	}
	return r.report(started), nil
}
