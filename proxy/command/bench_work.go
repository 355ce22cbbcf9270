package command

import (
	"fmt"
	"os"
	"strings"

	"nearside/bench/measure"
	"nearside/bench/workload"
)

// benchWork are the flags that say what is asked.
type benchWork struct {
	Workload string          `default:"synthetic" placeholder:"NAME|FILE" help:"What is asked: synthetic, prefix, agent, tools, vision, or a file of your own (JSONL of prompts, messages or whole request bodies; ShareGPT's JSON)."`
	Input    workload.Length `placeholder:"TOKENS" help:"Tokens of a prompt: 512, 128..1024 (any of them alike), ~512±128 (normal). Without it: 256; prefix 1024; agent: of the results between turns, 512."`
	Output   workload.Length `placeholder:"TOKENS" help:"Tokens of an answer, written alike. Without it: 128, or what the file says."`
	Lengths  string          `placeholder:"FILE" help:"Lengths of a trace: lines of input and output tokens, one request each (synthetic)."`
	Turns    int             `placeholder:"N" help:"Turns of a conversation. Without it: 4 for agent, 1 for a file."`
	Prefixes int             `placeholder:"N" help:"Beginnings that prompts share: 8 for prefix; agents have one each without it."`
	Suffixes int             `placeholder:"N" help:"Ends of each beginning (prefix). Without it each prompt has its own."`
	Share    int             `default:"75" placeholder:"PERCENT" help:"How much of a prompt is its beginning (prefix)."`
	Images   int             `default:"1" placeholder:"N" help:"Pictures of a request (vision)."`
	Side     int             `default:"256" placeholder:"PIXELS" help:"Width and height of a picture (vision)."`

	NoCalibrate bool `help:"Do not ask each target first how many tokens a word has: lengths are words then."`
}

// The workloads by name.
var benchWorkloads = []string{"synthetic", "prefix", "agent", "tools", "vision"}

// source is what the flags say. The function returned lets it go.
func (c *benchWork) source(stream bool, seed uint64) (workload.Source, func(), error) {
	nothing := func() {}
	fail := func(format string, args ...any) (workload.Source, func(), error) {
		return nil, nothing, fmt.Errorf(format, args...)
	}
	for _, f := range [...]struct {
		name      string
		n         int
		low, high int
	}{{"--turns", c.Turns, 0, 1000}, {"--prefixes", c.Prefixes, 0, 1_000_000}, {"--suffixes", c.Suffixes, 0, 1_000_000}, {"--share", c.Share, 1, 99}, {"--images", c.Images, 1, 16}, {"--side", c.Side, 16, 4096}} {
		if f.n < f.low || f.n > f.high {
			return fail("%s: from %d to %d", f.name, f.low, f.high)
		}
	}
	if err := c.belongs(); err != nil {
		return fail("%w", err)
	}
	in, out := c.Input, c.Output
	or := func(l *workload.Length, n int) {
		if *l == (workload.Length{}) {
			*l = workload.Fixed(n)
		}
	}
	or(&out, 128)
	switch c.Workload {
	case "synthetic":
		or(&in, 256)
		s := &workload.Synthetic{Input: in, Output: out, Stream: stream, Exact: true, Seed: seed}
		if c.Lengths != "" {
			t, err := workload.ReadTrace(c.Lengths)
			if err != nil {
				return fail("--%w", err)
			}
			s.Trace = t
		}
		return s, nothing, nil
	case "prefix":
		or(&in, 1024)
		n := c.Prefixes
		if n == 0 {
			n = 8
		}
		return &workload.Prefix{Prefixes: n, Suffixes: c.Suffixes, Share: c.Share, Input: in, Output: out, Stream: stream, Exact: true, Seed: seed}, nothing, nil
	case "agent", "tools":
		or(&in, 512)
		turns := c.Turns
		switch {
		case c.Workload == "tools":
			turns = 1
		case turns == 0:
			turns = 4
		}
		// An agent's answer ends where the model says so: a call that is padded is none.
		return &workload.Agent{Turns: turns, Prefixes: c.Prefixes, Result: in, Output: out, Stream: stream, Seed: seed}, nothing, nil
	case "vision":
		return &workload.Vision{Images: c.Images, Side: c.Side, Output: out, Stream: stream, Exact: true, Seed: seed}, nothing, nil
	}
	if _, err := os.Stat(c.Workload); err != nil {
		return fail("--workload: %q is neither a file nor one of %s", c.Workload, strings.Join(benchWorkloads, ", "))
	}
	f, err := workload.OpenFile(c.Workload, workload.FileOptions{Output: out, Force: c.Output != (workload.Length{}), Turns: max(c.Turns, 1), Stream: stream, Exact: true})
	if err != nil {
		return fail("--%w", err)
	}
	return f, func() { f.Close() }, nil
}

// belongs says which flag has nothing to do with the workload.
func (c *benchWork) belongs() error {
	file := true
	for _, w := range benchWorkloads {
		file = file && c.Workload != w
	}
	is := func(names ...string) bool {
		for _, n := range names {
			if c.Workload == n || n == "a file" && file {
				return true
			}
		}
		return false
	}
	for _, f := range [...]struct {
		name  string
		given bool
		with  []string
	}{
		{"--input", c.Input != workload.Length{} && c.Lengths == "", []string{"synthetic", "prefix", "agent"}},
		{"--lengths", c.Lengths != "", []string{"synthetic"}},
		{"--turns", c.Turns > 0, []string{"agent", "a file"}},
		{"--prefixes", c.Prefixes > 0, []string{"prefix", "agent", "tools"}},
		{"--suffixes", c.Suffixes > 0, []string{"prefix"}},
	} {
		if f.given && !is(f.with...) {
			return fmt.Errorf("%s does nothing with --workload %s: it is for %s", f.name, c.Workload, strings.Join(f.with, ", "))
		}
	}
	if c.Lengths != "" && (c.Input != workload.Length{} || c.Output != workload.Length{}) {
		return fmt.Errorf("--lengths says how long prompts and answers are: leave --input and --output out")
	}
	return nil
}

// fits says why a target cannot be asked what a file has.
func (c *benchWork) fits(src workload.Source, t *measure.Target) error {
	f, ok := src.(*workload.File)
	if !ok {
		return nil
	}
	for d, n := range f.Dialects() {
		if d != t.Dialect {
			return fmt.Errorf("%s has %d request bodies of the dialect %s, and %s is asked in %s: add --dialect %s, or give messages without further members", c.Workload, n, d, t.Name, t.Dialect, d)
		}
	}
	return nil
}
