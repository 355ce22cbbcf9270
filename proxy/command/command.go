// Package command owns the command line: one file a command. It wires the
// other packages together, starts the simulated backend for serve and turns
// errors into exit codes. Signals belong to main, which hands them over as
// channels.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-json"
	"github.com/rs/zerolog"

	"nearside/proxy/access"
	"nearside/proxy/config"
	"nearside/upstream"
)

// Env is what a command is given from outside.
type Env struct {
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Getenv  func(string) string
	Lookup  func(string) (string, bool)
	Environ func() []string // nil for none
	Stop    <-chan struct{} // one value for each request to stop
	Serving func()          // called before something is to be served; may be nil
	Reload  <-chan struct{} // one value for each request to read the configuration again
	Version string
	Dialer  upstream.Dialer
}

// CLI is the command line, by what somebody is about.
type CLI struct {
	Serve   Serve         `cmd:"" default:"withargs" group:"Run:" help:"Run the proxy (the default command)."`
	Init    Init          `cmd:"" group:"Run:" help:"Find model servers and write a first configuration."`
	Connect Connect       `cmd:"" group:"Run:" help:"Print a client's settings for this proxy."`
	Service Service       `cmd:"" group:"Run:" help:"Install the proxy as a service of systemd or launchd."`
	Config  ConfigCommand `cmd:"" group:"Run:" help:"Print a setting of the configuration, change it or take it away."`
	Onboard Onboard       `cmd:"" group:"Run:" help:"Look at one more model server and print the configuration for it."`

	Check         Check         `cmd:"" group:"Understand:" help:"Check the configuration and say what it means."`
	Doctor        Doctor        `cmd:"" group:"Understand:" help:"Look for what is the matter, and say what mends it."`
	Status        Status        `cmd:"" group:"Understand:" help:"Show what state the backends of a running proxy are in."`
	Models        Models        `cmd:"" group:"Understand:" help:"List the models that can be asked, and why others cannot."`
	Probe         Probe         `cmd:"" group:"Understand:" help:"Ask one model for one tiny completion."`
	Explain       Explain       `cmd:"" group:"Understand:" help:"Show where a request would go and what would be changed in it."`
	Health        Health        `cmd:"" group:"Understand:" help:"Ask a running proxy whether it is well."`
	SupportBundle SupportBundle `cmd:"" group:"Understand:" help:"Gather what others need to help, without secrets."`

	Pause  Pause  `cmd:"" group:"Take a hand:" help:"Have a running proxy send no new requests to a backend."`
	Drain  Drain  `cmd:"" group:"Take a hand:" help:"As pause, and wait until nothing is under way there."`
	Resume Resume `cmd:"" group:"Take a hand:" help:"End pause and drain."`
	Reset  Reset  `cmd:"" group:"Take a hand:" help:"Have a running proxy forget how a backend failed."`

	Keys     Keys     `cmd:"" group:"Share:" help:"Make, list and end the keys of clients."`
	TLS      TLS      `cmd:"" group:"Share:" name:"tls" help:"Make certificates of a local authority."`
	Usage    Usage    `cmd:"" group:"Share:" help:"Print who used what, what it cost, and what near answers saved."`
	Captures Captures `cmd:"" group:"Share:" help:"Look at the requests and answers that were kept of some keys."`

	Sim        Sim        `cmd:"" group:"Try out, and others:" help:"Run a simulated model server."`
	Bench      Bench      `cmd:"" group:"Try out, and others:" help:"Measure how fast targets answer, and what the proxy costs."`
	Version    Version    `cmd:"" group:"Try out, and others:" help:"Print the version."`
	Completion Completion `cmd:"" group:"Try out, and others:" help:"Print a completion script for your shell."`
}

// Exit codes, documented in --help and docs/cli.md.
const (
	ExitOK      = 0 // all went well
	ExitFailed  = 1 // it was tried and failed
	ExitUsage   = 2 // bad flags or a configuration with problems
	ExitTrouble = 3 // probe: the backend answered, but not as it should
)

const description = `A local-first, OpenAI-compatible reverse proxy: your own machines first, hosted providers second.

	nearside                                 run it: finds LM Studio, Ollama, MLX, vLLM, … by itself
	nearside init                            write a first configuration
	nearside connect codex                   settings for a client: claude, opencode, sdk-node, …
	nearside doctor                          what is the matter?
	nearside keys add laptop --operator      a key, for clients on other machines
	nearside explain request.json            where would this go, and what would change?

Exit codes: 0 all went well; 1 it was tried and failed; 2 bad flags or configuration; 3 (probe) an answer without text.`

// usageError makes a command exit with ExitUsage.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// exitError makes a command exit with a code of its own. A nil error is one
// that was already told.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

// Code returns the exit code.
func (e exitError) Code() int { return e.code }

// errStopped is what a command returns that was interrupted.
var errStopped = errors.New("stopped")

// ConfigFlag is shared by the commands that read the configuration.
type ConfigFlag struct {
	Config string `short:"c" placeholder:"FILE" help:"Configuration file. Without it: $$NEARSIDE_CONFIG, ./config.json5, then nearside/config.json5 in your configuration folder."`
}

func (e *Env) configOptions() config.Options {
	return config.Options{LookupEnv: e.Lookup, Environ: e.Environ}
}

// find returns the configuration's path; empty for the built-in defaults.
func (e *Env) find(flag string) (string, error) {
	path, err := config.Find(flag, e.Getenv)
	if err != nil && !errors.Is(err, config.ErrNone) {
		return "", usageError{err}
	}
	return path, nil
}

// load reads the configuration; with problems they are printed and the error
// says how many there are.
func (e *Env) load(flag string) (*config.Config, config.Problems, error) {
	path, err := e.find(flag)
	if err != nil {
		return nil, nil, err
	}
	file, problems := config.Load(path, e.configOptions())
	if n := len(problems.Errors()); n > 0 {
		e.problems(problems)
		return nil, problems, usageError{fmt.Errorf("%s has %s", path, count(n, "problem"))}
	}
	return file, problems, nil
}

// composer returns one for commands that look and do not serve: it starts no
// simulated backend.
func (e *Env) composer(ctx context.Context, file *config.Config, offline bool) *composer {
	c := &composer{log: zerolog.Nop(), dialer: e.Dialer, file: file, listing: true}
	if kept, err := access.ReadFile(keysPath(file)); err == nil { // nearside check says what is wrong with it
		c.kept = kept
	}
	if !offline {
		c.look(ctx)
	}
	return c
}

// problems prints the problems of a configuration, one a line.
func (e *Env) problems(all config.Problems) {
	for _, p := range all {
		fmt.Fprintln(e.Stderr, p.String())
	}
}

// context returns one that ends when the command is asked to stop. The function
// must be called; it waits for what was started.
func (e *Env) context() (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-e.Stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel()
		<-done
	}
}

// json prints v, indented.
func (e *Env) json(v any) error { return writeJSON(e.Stdout, v) }

func writeJSON(w io.Writer, v any) error {
	out, err := json.MarshalIndentWithOption(v, "", "  ", json.DisableHTMLEscape())
	if err != nil {
		return fmt.Errorf("BUG: write JSON: %w", err)
	}
	_, err = w.Write(append(out, '\n'))
	return err
}

// count says how many there are of a thing.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// newParser builds the command line's parser.
func newParser(cli *CLI, env *Env, exit func(int)) (*kong.Kong, error) {
	return kong.New(cli, kong.Name("nearside"), kong.Description(description),
		kong.Writers(env.Stdout, env.Stderr), kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100}), kong.Bind(env))
}

// Run parses args, runs the command and returns the exit code.
func Run(args []string, env *Env) int {
	code := -1
	var cli CLI
	parser, err := newParser(&cli, env, func(c int) {
		if code < 0 {
			code = c
		}
	})
	if err != nil {
		fmt.Fprintln(env.Stderr, "nearside: BUG:", err)
		return ExitFailed
	}
	ctx, err := parser.Parse(args)
	if code >= 0 { // --help was printed
		return code
	}
	if err != nil {
		fmt.Fprintf(env.Stderr, "nearside: %v%s\n", err, suggestion(parser.Model.Children, args))
		fmt.Fprintln(env.Stderr, "Run \"nearside --help\" for the commands and flags.")
		return ExitUsage
	}
	if err = ctx.Run(env); err == nil {
		return ExitOK
	}
	var coded interface{ Code() int }
	var usage usageError
	if errors.As(err, &coded) {
		if err.Error() != "" {
			fmt.Fprintln(env.Stderr, "nearside:", err)
		}
		return coded.Code()
	}
	fmt.Fprintln(env.Stderr, "nearside:", err)
	if errors.As(err, &usage) {
		return ExitUsage
	}
	return ExitFailed
}

// suggestion names the command that was probably meant. Serve takes no
// arguments, so a first word that is no command is one misspelt.
func suggestion(commands []*kong.Node, args []string) string {
	if len(args) == 0 || args[0] == "" || args[0][0] == '-' {
		return ""
	}
	best, far := "", 3
	for _, c := range commands {
		if c.Name == args[0] {
			return ""
		}
		if d := distance(args[0], c.Name); d < far {
			best, far = c.Name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// distance is the edit distance of two short words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
