package command

import (
	"fmt"

	"nearside/bench"
)

// Bench measures.
type Bench struct {
	benchRun
	benchReport

	benchOverhead

	Rounds int `default:"5" aliases:"repeats" help:"How often everything is repeated, targets in turn; 15 where differences under 1.3 matter."`

	// The processes that --overhead starts of this same binary.
	Child    string   `hidden:"" enum:",sim,bare" default:"" help:"Run as a process of --overhead."`
	Upstream []string `hidden:"" help:"NAME=HOST:PORT of a backend, for --child=bare."`
}

// Help teaches what bench does.
func (Bench) Help() string {
	return `Asks targets by turns, and says when their tokens came.

	nearside bench 'http://127.0.0.1:8000/v1#qwen3-8b' 'http://127.0.0.1:8080/v1#qwen3-8b-4bit'
	nearside bench mlx=mlx/qwen3-8b vllm=gpubox/qwen3-8b     models of the configuration, by names
	nearside bench direct=gpubox/qwen3-8b through=via:gpubox/qwen3-8b
	nearside bench 'openai/gpt-5.4?dialect=responses' --dry-run

What is asked is synthetic unless --workload says otherwise: beginnings that are shared, agents'
sessions, tools, pictures, or a file of your own.

	nearside bench 'http://127.0.0.1:8000/v1#qwen3-8b' --workload agent --turns 6
	nearside bench 'http://127.0.0.1:8000/v1#qwen3-8b' --workload prompts.jsonl

With --card it looks how targets behave instead: whether they call the right tools, keep to a
schema, take the context that they claim, and stop when a client leaves.

	nearside bench 'http://127.0.0.1:8000/v1#qwen3-8b' --card

What is sent when:
	--concurrency 1,2,4,8            so many at a time
	--rate 1,2,4 --for 30s           so many a second, whether or not the target keeps up
	--rate 2 --arrivals gamma:0.3    in bursts
	--ramp 1..8 --for 2m             more and more
	--saturate --goal 'ttft:p95<500ms,itl:p99<50ms' --between 0.5..32
	                                 the highest rate that meets a goal

What is written:
	--json run.json --csv run.csv    every request's times
	--html run.html                  a page with plots that works offline
	--markdown                       the tables for pasting
	--definitions                    what each measure is

What changed between two runs, beyond noise:
	nearside bench compare before.json after.json
	nearside bench compare before.json after.json --fail-on 'ttft:p50>5%,errors>1%'

With --overhead it starts this binary three times on 127.0.0.1 (a simulated backend, a relay that parses
nothing, and the proxy with its defaults), measures them in turn, and prints
the figures beside what they may be, and what each adds to what a client sees. Other proxies
before the same backend join the rounds (--against). It needs Linux and a machine that does nothing else.

	nearside bench --overhead
	nearside bench --overhead --rounds 15 --json
	nearside bench --overhead --quick --check
	nearside bench --overhead --config config.json5        with a configuration of your own
	nearside bench --overhead --against other=http://127.0.0.1:4000/v1 --backend-listen 127.0.0.1:8901

Ctrl-C ends a run and prints what was measured until then.

Exit codes: 0 measured; 1 it failed or was stopped, with --check a figure is too high, or with
--fail-on something got worse; 2 bad flags or files, or a priced target without --yes.`
}

// Run measures until it is done or stopped.
func (c *Bench) Run(env *Env) error {
	switch c.Child {
	case bench.ChildSim:
		return bench.ServeSim(env.Stdout, c.BackendListen, env.Stop)
	case bench.ChildBare:
		return bench.ServeBare(env.Stdout, c.Upstream, env.Stop)
	}
	if len(c.Targets) > 0 && c.Targets[0] == "compare" {
		return c.compare(env, c.Targets[1:])
	}
	if err := c.check(); err != nil {
		return usageError{fmt.Errorf("bench: %w", err)}
	}
	if !c.Overhead && (c.Quick || c.Check || len(c.Against)+len(c.AgainstPID)+len(c.AgainstHeader) > 0 || c.BackendListen != "") {
		return usageError{fmt.Errorf("bench: --against, --backend-listen, --quick and --check belong to --overhead")}
	}
	if err := c.belongs(); err != nil {
		return usageError{fmt.Errorf("bench: %w", err)}
	}
	if !c.Overhead {
		return c.measure(env)
	}
	if len(c.Targets) > 0 {
		return usageError{fmt.Errorf("bench: --overhead takes no targets")}
	}
	return c.overhead(env)
}
