package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"nearside/bench"
)

// benchOverhead are the flags of --overhead.
type benchOverhead struct {
	Overhead bool `help:"What the proxy costs beside a bare relay: processor time, memory, what it adds to first tokens, gaps and ends, departures. With --config the proxy has that configuration."`
	Quick    bool `help:"Short tests and few streams: shows that it works, not what it costs (--overhead)."`
	Check    bool `help:"End with 1 when a figure is beyond what is acceptable (--overhead)."`

	Against       []string `sep:"none" placeholder:"NAME=URL" help:"Another proxy in front of the same backend joins the rounds: NAME=http://127.0.0.1:4000/v1, with #PREFIX where it wants one before the names of models; may be repeated (--overhead)."`
	AgainstPID    []string `name:"against-pid" placeholder:"NAME=PID" help:"The process of another proxy, whose processor time and memory are then counted too."`
	AgainstHeader []string `sep:"none" placeholder:"'NAME=HEADER: VALUE'" help:"A header that another proxy wants, such as its key."`
	BackendListen string   `placeholder:"ADDR" help:"Where the backend of --overhead listens for other proxies, so that they can be configured before; a free port without it."`
}

// others are the other proxies.
func (c *benchOverhead) others() ([]bench.Other, error) {
	var all []bench.Other
	at := map[string]int{}
	for _, text := range c.Against {
		o, err := bench.ParseOther(text)
		if err != nil {
			return nil, fmt.Errorf("--against: %w", err)
		}
		if _, taken := at[o.Name]; taken {
			return nil, fmt.Errorf("--against: two are called %s", o.Name)
		}
		at[o.Name] = len(all)
		all = append(all, o)
	}
	of := func(flag, text string) (*bench.Other, string, error) {
		name, value, _ := strings.Cut(text, "=")
		i, ok := at[name]
		if !ok {
			return nil, "", fmt.Errorf("%s: %q is for no proxy of --against", flag, text)
		}
		return &all[i], value, nil
	}
	for _, text := range c.AgainstPID {
		o, value, err := of("--against-pid", text)
		if err != nil {
			return nil, err
		}
		if o.PID, err = strconv.Atoi(value); err != nil || o.PID < 1 {
			return nil, fmt.Errorf("--against-pid: %q is no NAME=PID", text)
		}
	}
	for _, text := range c.AgainstHeader {
		o, value, err := of("--against-header", text)
		if err != nil {
			return nil, err
		}
		if !strings.Contains(value, ":") || strings.ContainsAny(value, "\r\n") {
			return nil, fmt.Errorf("--against-header: %s: what follows is no 'Header: value'", o.Name)
		}
		o.Header = append(o.Header, value)
	}
	return all, nil
}

// overhead measures what the proxy costs.
func (c *Bench) overhead(env *Env) error {
	others, err := c.others()
	if err != nil {
		return usageError{err}
	}
	if c.Config != "" {
		if _, _, err := env.load(c.Config); err != nil {
			return err
		}
	}
	if c.Rounds < 1 || c.Rounds > bench.RoundsMax {
		return usageError{fmt.Errorf("--rounds: from 1 to %d", bench.RoundsMax)}
	}
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this binary: %w", err)
	}
	ctx, end := env.context()
	defer end()
	report, err := bench.Overhead(ctx, bench.Options{Binary: binary, Rounds: c.Rounds, Quick: c.Quick, Progress: env.Stderr, Version: env.Version, Config: c.Config, Key: strings.TrimSpace(env.Getenv("NEARSIDE_KEY")),
		Against: others, Listen: c.BackendListen, Wait: c.Wait})
	if report == nil && ctx.Err() != nil {
		return errStopped
	}
	if err != nil {
		return err
	}
	if c.JSON != "" {
		err = c.JSON.write(env, func(w io.Writer) error { return writeJSON(w, report) })
	}
	if c.JSON != "-" {
		err = errors.Join(err, report.Write(env.Stdout))
	}
	if err == nil && report.Stopped {
		return exitError{ExitFailed, errors.New("stopped before all rounds were done: the figures are of those that were")}
	}
	if err != nil || !c.Check {
		return err
	}
	if over := report.Exceeded(); len(over) > 0 {
		return fmt.Errorf("beyond what is acceptable: %s", strings.Join(over, "; "))
	}
	return nil
}
