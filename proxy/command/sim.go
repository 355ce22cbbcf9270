package command

import (
	"fmt"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"nearside/upstream/sim"
)

// Sim runs a simulated model server.
type Sim struct {
	Profile    string        `default:"generic" help:"The server to imitate (--list)."`
	Listen     string        `short:"l" default:"127.0.0.1:0" placeholder:"ADDR" help:"Address to listen on; port 0 is a free one."`
	Models     []string      `placeholder:"A,B" help:"Models it lists. Without it: one of the profile's."`
	Quirk      quirkFlags    `placeholder:"[+-]NAME" help:"Switch a quirk of servers on (+name, +name=value) or off (-name); may be repeated (--quirks)."`
	Quirks     bool          `help:"List the quirks, with the profiles that have them and how they are known, and end."`
	Fault      string        `placeholder:"NAME" help:"Fail every model request in this way (--list)."`
	List       bool          `help:"List the profiles and the faults, and end."`
	Reply      string        `placeholder:"TEXT" help:"The text of every answer. Without it: an echo of the request."`
	Reasoning  string        `placeholder:"TEXT" help:"Thinking before every answer."`
	Context    int           `default:"32768" help:"Context window in tokens."`
	Key        string        `placeholder:"KEY" help:"Ask for this key as a Bearer token (anthropic: or as x-api-key)."`
	Slow       bool          `help:"Answer about as slowly as the real server, and as many at a time; what is said below beats it."`
	Load       time.Duration `help:"Time to load a model, before its first answer."`
	Prefill    time.Duration `help:"Time for 1000 tokens of a prompt."`
	FirstToken time.Duration `help:"Time before the first token."`
	PerToken   time.Duration `help:"Time between tokens."`
	Tokens     int           `help:"Tokens of every answer."`
	Slots      int           `placeholder:"N" help:"Requests at a time; further ones wait in their order. As many as come when 0."`
	Batch      float64       `placeholder:"SHARE" help:"What each further running request adds to the time between tokens: 0.25 is a quarter."`
	Errors     float64       `placeholder:"SHARE" help:"Answer this share of the requests with a 500: 0.1 is every tenth or so."`
	Verbose    bool          `short:"v" help:"Print a line for every request."`
}

// Help teaches what sim does.
func (Sim) Help() string {
	return `Answers as a real model server would, without a model: for trying a configuration, a
client, or a failure. Its answers are marked with the header x-nearside-simulated: 1.

	nearside sim
	nearside sim --profile lmstudio --listen 127.0.0.1:1234 --models qwen3-4b,gemma-3 --slow
	nearside sim --profile llamacpp --slow       four at a time, each slower the more there are
	nearside sim --slots 2 --per-token 10ms --batch 0.5 --errors 0.05
	nearside sim --profile anthropic --key k     a hosted API that speaks Messages only
	nearside sim --profile vllm --quirk -tools-empty-400 --quirk +string-content-only
	nearside sim --fault stall                   see what a client does when a stream stops
	nearside sim --list
	nearside sim --quirks

The profiles llamacpp, ollama and mlx follow recorded answers of the real servers, which a test
compares them with; lmstudio, vllm, sglang and anthropic follow source and documentation.

Exit codes: 0 stopped by Ctrl-C; 1 it could not listen; 2 bad flags.`
}

// Run serves until it is stopped.
func (c *Sim) Run(env *Env) error {
	if c.List {
		c.list(env)
		return nil
	}
	if c.Quirks {
		c.quirks(env)
		return nil
	}
	profile, err := sim.ParseProfile(c.Profile)
	if err != nil {
		return usageError{fmt.Errorf("--profile: %w", err)}
	}
	if err := sim.CheckQuirks(profile, c.Quirk); err != nil {
		return usageError{fmt.Errorf("--quirk: %w (nearside sim --quirks lists them)", err)}
	}
	for _, d := range []time.Duration{c.Load, c.Prefill, c.FirstToken, c.PerToken} {
		if d < 0 {
			return usageError{fmt.Errorf("%v: a time cannot be negative", d)}
		}
	}
	if c.Slots < 0 || c.Batch < 0 || c.Errors < 0 || c.Errors > 1 {
		return usageError{fmt.Errorf("--slots and --batch must be at least 0, --errors from 0 to 1")}
	}
	if c.Context < 1 || c.Tokens < 0 {
		return usageError{fmt.Errorf("--context must be at least 1 and --tokens at least 0")}
	}
	opt := sim.Options{Profile: profile, Models: c.Models, Timing: c.timing(profile), Context: c.Context, Key: c.Key, Reply: c.Reply, Reasoning: c.Reasoning,
		Quirks: c.Quirk, Mark: true, Keep: -1, Slots: c.Slots, Errors: c.Errors}
	if c.Slow && c.Slots == 0 {
		opt.Slots = profile.Slots()
	}
	if c.Verbose {
		opt.Log = func(msg string) { fmt.Fprintln(env.Stderr, msg) }
	}
	s := sim.New(opt)
	defer s.Close()
	if c.Fault != "" {
		f, err := faultOf(c.Fault)
		if err != nil {
			return usageError{err}
		}
		s.Push(sim.Script{Name: f.name, Steps: f.steps, Times: -1})
	}
	u, err := s.Start(c.Listen)
	if err != nil {
		return err
	}
	models := "any model name"
	if len(c.Models) > 0 {
		models = strings.Join(c.Models, ", ")
	} else if profile != sim.Generic && profile != sim.Anthropic {
		models = "one model of its own"
	}
	if c.Fault != "" {
		models += ", fault " + c.Fault
	}
	if len(c.Quirk) > 0 {
		models += ", quirks " + strings.Join(c.Quirk, " ")
	}
	fmt.Fprintf(env.Stdout, "SIMULATED %s at %s/v1 (%s): no model runs here, answers are made up; Ctrl-C stops it\n", profile, u, models)
	<-env.Stop
	return nil
}

// timing is the profile's with --slow, and what the flags say.
func (c *Sim) timing(p sim.Profile) sim.Timing {
	var t sim.Timing
	if c.Slow {
		t = p.Timing()
	}
	for _, one := range []struct {
		to *time.Duration
		by time.Duration
	}{{&t.Load, c.Load}, {&t.Prefill, c.Prefill}, {&t.FirstToken, c.FirstToken}, {&t.PerToken, c.PerToken}} {
		if one.by > 0 {
			*one.to = one.by
		}
	}
	if c.Batch > 0 {
		t.Batch = c.Batch
	}
	if c.Tokens > 0 {
		t.Tokens = c.Tokens
	}
	return t
}

func (c *Sim) list(env *Env) {
	fmt.Fprintln(env.Stdout, "profiles:")
	var rows [][]string
	for _, p := range sim.Profiles() {
		rows = append(rows, []string{string(p), p.Summary() + " (" + p.Source() + ")"})
	}
	table(env.Stdout, "  ", rows)
	fmt.Fprintln(env.Stdout, "\nfaults:")
	rows = nil
	for _, f := range faults() {
		rows = append(rows, []string{f.name, f.summary})
	}
	table(env.Stdout, "  ", rows)
}

func (c *Sim) quirks(env *Env) {
	for _, q := range sim.Quirks() {
		name := q.Name
		if q.Takes != "" {
			name += "=…"
		}
		profiles := "none unless asked for"
		if len(q.Profiles) > 0 {
			profiles = "on in"
			for _, p := range q.Profiles {
				profiles += " " + string(p)
			}
		}
		fmt.Fprintf(env.Stdout, "%s\n  %s\n", name, q.Summary)
		if q.Takes != "" {
			fmt.Fprintf(env.Stdout, "  Takes %s.\n", q.Takes)
		}
		fmt.Fprintf(env.Stdout, "  Known from: %s; %s.\n", q.Source, profiles)
	}
}

// quirkFlags are changes to a profile's quirks. A value may begin with a hyphen,
// which kong takes for another flag elsewhere.
type quirkFlags []string

// Decode takes the next word, whatever it begins with.
func (q *quirkFlags) Decode(ctx *kong.DecodeContext) error {
	token := ctx.Scan.Pop()
	if token.IsEOL() {
		return fmt.Errorf("the name of a quirk is missing")
	}
	*q = append(*q, fmt.Sprint(token.Value))
	return nil
}

// fault is one way in which every model request can fail.
type fault struct {
	name, summary string
	steps         []sim.Step
}

func faults() []fault {
	page := sim.Reply(200, "<!doctype html><title>not an API</title>", "Content-Type: text/html")
	return []fault{
		{"loading", "503: the model is being loaded", []sim.Step{sim.Fail(503, "Loading model")}},
		{"busy", "429 with Retry-After: 2", []sim.Step{sim.Fail(429, "too many requests", "Retry-After: 2")}},
		{"locked", "401: the key is refused", []sim.Step{sim.Fail(401, "invalid API key")}},
		{"broken", "500: an error of the server's own", []sim.Step{sim.Fail(500, "out of memory")}},
		{"page", "200 with a web page in place of an answer", []sim.Step{page}},
		{"silent", "takes the request and never answers", []sim.Step{sim.Hold()}},
		{"stall", "streams its first token, then nothing", []sim.Step{sim.Begin(), sim.UpTo("content"), sim.Hold()}},
		{"cut", "closes the connection after the first token", []sim.Step{sim.Begin(), sim.UpTo("content"), sim.Close()}},
		{"reset", "resets the connection before an answer", []sim.Step{sim.Reset()}},
		{"error", "an error inside a stream that began well", []sim.Step{sim.Begin(), sim.UpTo("content"), sim.ErrorEvent("out of memory"), sim.End()}},
		{"unfinished", "a stream that ends without a finish", []sim.Step{sim.Begin(), sim.Rest("finish", "usage", "done"), sim.End()}},
	}
}

func faultOf(name string) (fault, error) {
	var all []string
	for _, f := range faults() {
		if f.name == name {
			return f, nil
		}
		all = append(all, f.name)
	}
	return fault{}, fmt.Errorf("--fault: no fault called %q (there are %s)", name, strings.Join(all, ", "))
}
