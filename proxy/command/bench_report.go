package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/alecthomas/kong"
	"github.com/mattn/go-isatty"

	"nearside/bench/harness"
	"nearside/bench/measure"
	benchreport "nearside/bench/report"
)

// benchReport are the flags that say what is written.
type benchReport struct {
	JSON        outFile `name:"json" placeholder:"[FILE]" help:"Write everything as JSON, every request's times among it; to standard output without a FILE."`
	CSV         outFile `name:"csv" placeholder:"[FILE]" help:"Write every request as a line of CSV."`
	Markdown    outFile `placeholder:"[FILE]" help:"Write the tables for pasting."`
	HTML        outFile `name:"html" placeholder:"FILE" help:"Write a page with plots, which needs nothing else and no network."`
	Definitions bool    `help:"Print below the tables what every measure is; without targets, print that alone."`
	Quiet       bool    `short:"q" help:"Do not show how it goes."`
	FailOn      string  `placeholder:"LIMITS" help:"Of compare: end with 1 when something got worse beyond noise and by more, as in 'ttft:p50>5%,errors>1%'."`

	args []string
}

// AfterApply keeps the words of the command line, for the report.
func (c *benchReport) AfterApply(ctx *kong.Context) error {
	c.args = ctx.Args
	return nil
}

// outFile is where something is written to: "-" is standard output, "" nowhere.
type outFile string

// Decode takes the next word unless that is a flag: without one it is standard output.
func (o *outFile) Decode(ctx *kong.DecodeContext) error {
	*o = "-"
	token := ctx.Scan.Peek()
	text, ok := token.Value.(string)
	switch {
	case token.IsEOL() || !ok, token.Type == kong.FlagToken, token.Type == kong.ShortFlagToken:
		return nil
	case token.Type != kong.FlagValueToken && text != "-" && strings.HasPrefix(text, "-"):
		return nil
	case strings.Contains(text, "://"):
		return fmt.Errorf("%q is a target and no file: put the flag behind the targets", text)
	case text == "":
		return errors.New("the name of a file is empty")
	}
	ctx.Scan.Pop()
	*o = outFile(text)
	return nil
}

// write has f write to it, as a whole or not at all.
func (o outFile) write(env *Env, f func(io.Writer) error) error {
	if o == "-" {
		return f(env.Stdout)
	}
	part := string(o) + ".part"
	file, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	err = errors.Join(f(file), file.Close())
	if err == nil {
		err = os.Rename(part, string(o))
	}
	if err != nil {
		_ = os.Remove(part)
	}
	return err
}

// check says whether it can be written, before anything is measured for it.
func (o outFile) check() error {
	if o == "" || o == "-" {
		return nil
	}
	if i, err := os.Stat(filepath.Dir(string(o))); err != nil || !i.IsDir() {
		return fmt.Errorf("%s: there is no such folder", filepath.Dir(string(o)))
	}
	if i, err := os.Stat(string(o)); err == nil && i.IsDir() {
		return fmt.Errorf("%s is a folder: name a file in it", o)
	}
	return nil
}

// check looks at the flags before anything is measured.
func (c *benchReport) check() error {
	printed := 0
	for _, o := range []outFile{c.JSON, c.CSV, c.Markdown, c.HTML} {
		if err := o.check(); err != nil {
			return err
		}
		if o == "-" {
			printed++
		}
	}
	if printed > 1 {
		return errors.New("only one of --json, --csv, --markdown and --html can go to standard output: name files for the others")
	}
	return nil
}

// watch shows how a run goes on standard error, until the function is called.
func (c *benchReport) watch(env *Env, p *harness.Plan) (harness.Watcher, func()) {
	if c.Quiet {
		return nil, func() {}
	}
	f, ok := env.Stderr.(*os.File)
	terminal := ok && isatty.IsTerminal(f.Fd()) && env.Getenv("TERM") != "dumb"
	l := benchreport.NewLive(env.Stderr, p, benchreport.LiveOptions{Terminal: terminal, Width: func() int { return columns(f) }})
	l.Start()
	return l, l.Close
}

// meta is what a report says of the run. The servers are asked who they are.
func (c *benchReport) meta(ctx context.Context, env *Env, p *harness.Plan) benchreport.Meta {
	m := benchreport.Meta{Version: env.Version, Workload: p.Source.Name(), Seed: p.Seed, Targets: p.Targets, Flags: shownArgs(c.args), Digest: benchreport.Digest(p), Machine: benchreport.ThisMachine(), Servers: map[string]string{}}
	client := measure.New(measure.Options{})
	defer client.Close()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, t := range p.Targets {
		wg.Go(func() {
			if v := client.Version(ctx, t); v != "" {
				mu.Lock()
				m.Servers[t.Name] = v
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return m
}

// write writes a report wherever it is to go. One that could not be written does not
// keep the others from it: what was measured is not measured again soon.
func (c *benchReport) write(env *Env, r *benchreport.Report) error {
	var errs []error
	table := true
	for _, out := range []struct {
		to outFile
		f  func(io.Writer) error
	}{{c.JSON, r.WriteJSON}, {c.CSV, r.WriteCSV}, {c.Markdown, r.WriteMarkdown}, {c.HTML, r.WriteHTML}} {
		if out.to == "" {
			continue
		}
		table = table && out.to != "-"
		if err := out.to.write(env, out.f); err != nil {
			errs = append(errs, err)
		} else if out.to != "-" {
			fmt.Fprintf(env.Stderr, "written: %s\n", out.to)
		}
	}
	if table {
		errs = append(errs, r.WriteTable(env.Stdout))
		if c.Definitions {
			errs = append(errs, benchreport.WriteDefinitions(env.Stdout))
		}
	}
	return errors.Join(errs...)
}

// secretFlag is what flags are called whose values no report has.
var secretFlag = regexp.MustCompile(`(?i)^--?[a-z-]*(key|header|token|secret|password|auth)[a-z-]*$`)

// shownArgs are the words of the command line without credentials.
func shownArgs(args []string) []string {
	all := slices.Clone(args)
	hide := false
	for i, a := range all {
		name, value, ok := strings.Cut(a, "=")
		switch {
		case hide && !strings.HasPrefix(a, "--"):
			all[i], hide = "***", false
			continue
		case secretFlag.MatchString(name) && ok && value != "":
			all[i] = name + "=***"
		}
		hide = secretFlag.MatchString(a)
		if u, err := url.Parse(a); err == nil && u.User != nil {
			u.User = url.User("***")
			all[i] = u.String()
		}
	}
	return all
}

// compare says what changed between two reports.
func (c *benchReport) compare(env *Env, files []string) error {
	if len(files) != 2 {
		return usageError{fmt.Errorf("bench compare takes two files that --json wrote: nearside bench compare before.json after.json")}
	}
	var limits []benchreport.Limit
	if c.FailOn != "" {
		var err error
		if limits, err = benchreport.ParseLimits(c.FailOn); err != nil {
			return usageError{fmt.Errorf("--fail-on: %w", err)}
		}
	}
	var both [2]*benchreport.Report
	for i, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return usageError{err}
		}
		both[i], err = benchreport.Read(f)
		f.Close()
		if err != nil {
			return usageError{fmt.Errorf("%s: %w", name, err)}
		}
	}
	cmp, err := benchreport.Compare(both[0], both[1], files[0], files[1])
	if err != nil {
		return usageError{err}
	}
	if err := cmp.Exceed(limits); err != nil {
		return usageError{fmt.Errorf("--fail-on: %w", err)}
	}
	if c.JSON != "" {
		err = c.JSON.write(env, func(w io.Writer) error { return writeJSON(w, cmp) })
	}
	if c.JSON != "-" {
		err = errors.Join(err, cmp.Write(env.Stdout))
	}
	if err == nil && len(cmp.Over) > 0 {
		err = exitError{ExitFailed, fmt.Errorf("worse than allowed: %s", strings.Join(cmp.Over, "; "))}
	}
	return err
}
