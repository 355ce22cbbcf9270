package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"nearside/catalog"
	"nearside/proxy/config"
	"nearside/upstream"
)

// Init writes a first configuration for what it finds.
type Init struct {
	Host             []string      `placeholder:"NAME" help:"Another machine of yours to look at for model servers: gpubox, 192.168.1.20 or gpubox:8000. Can be repeated."`
	BaseURL          string        `name:"base-url" placeholder:"URL" help:"A custom OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1."`
	APIKey           string        `name:"api-key" placeholder:"NAME" help:"Environment variable that holds the endpoint's key. A key itself is taken too, and stands in the file for all to read who can read it."`
	Model            []string      `placeholder:"ID" help:"Only this model of the endpoint, as its server names it; also one that it does not list. Can be repeated."`
	ID               string        `placeholder:"NAME" help:"What the endpoint's provider is called. Without it: custom-<host>-<port>, as OpenClaw has it."`
	CustomImageInput bool          `xor:"input" help:"The endpoint's models read images, whatever their names say."`
	CustomTextInput  bool          `xor:"input" help:"The endpoint's models read text only."`
	Output           string        `short:"o" placeholder:"FILE" help:"File to write. Without it: $$NEARSIDE_CONFIG, or nearside/config.json5 in your configuration folder."`
	Force            bool          `help:"Write over a file that exists; a copy of it is kept."`
	NonInteractive   bool          `help:"Ask nothing, also on a terminal: take what is found and the flags."`
	Yes              bool          `short:"y" help:"Take the suggested answer to every question."`
	LAN              bool          `name:"lan" help:"Listen for proxies that announce themselves in this network (proxy.mdns). On a terminal each can be taken; elsewhere they are told."`
	NoDiscovery      bool          `help:"Do not look for servers on this machine."`
	NoProbe          bool          `help:"Ask no model for a word before its server is written down."`
	Timeout          time.Duration `default:"5s" help:"How long a look at one server may take."`

	browse func(context.Context, *config.Config, time.Duration) ([]neighbour, error) // nil for that of the network
}

// Help teaches what init does.
func (Init) Help() string {
	return `Looks for model servers on this machine (LM Studio, Ollama, vLLM, llama.cpp, MLX, SGLang)
and, when told, on others, asks each for one word, and writes a configuration with comments
that says what was found. On a terminal it asks; elsewhere, and with --non-interactive, it
takes what is found and the flags. For one more server in a configuration that is there
already, "nearside onboard" prints the block.

	nearside init
	nearside init --host gpubox --yes
	nearside init --base-url http://127.0.0.1:8000/v1 --model my-model --custom-image-input
	nearside init --base-url https://api.example.com/v1 --api-key EXAMPLE_API_KEY --model m --output config.json5

A hosted provider that Nearside knows needs no line: its key in the environment is enough.

Exit codes: 0 a configuration is written; 1 no model server was found, or one does not
answer; 2 bad flags, or the file exists.`
}

// candidate is a model server that may be written down.
type candidate struct {
	id      string
	base    string
	private bool
	custom  bool
	found   upstream.Found
	look    *Onboard // how its models are chosen and told
	models  []upstream.FoundModel
	images  map[string]bool // what somebody said of a model of unknown name
	key     string          // as the file has it; empty for none
	plain   bool            // key is the key itself
}

// Run looks, asks, probes and writes.
func (c *Init) Run(env *Env) error {
	out, err := c.output(env)
	if err != nil {
		return err
	}
	switch {
	case c.Timeout <= 0:
		return usageError{errors.New("--timeout must be longer than 0")}
	case c.BaseURL == "" && (c.APIKey != "" || len(c.Model) > 0 || c.ID != "" || c.CustomImageInput || c.CustomTextInput):
		return usageError{errors.New("--api-key, --model, --id and --custom-… say something of an endpoint: name it with --base-url")}
	}
	ctx, stop := env.context()
	defer stop()
	p := newPrompts(ctx, env, c.NonInteractive || c.Yes)
	taken := map[string]bool{}
	all, err := c.servers(ctx, env, p, taken)
	if err == nil {
		all, err = c.neighbours(ctx, env, p, taken, all)
	}
	if err == nil {
		all, err = c.endpoints(ctx, env, p, taken, all)
	}
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return exitError{ExitFailed, errors.New("no model server was found that can be used: start one, name a machine with --host, or an endpoint with --base-url")}
	}
	plan, err := c.plan(p, all)
	if err != nil {
		return err
	}
	text := plan.write()
	file, problems := config.LoadText(out, text, env.configOptions())
	if len(problems.Errors()) > 0 {
		env.problems(problems)
		return fmt.Errorf("BUG: init: the configuration would not load; nothing was written")
	}
	if !c.NoProbe {
		if err := c.probe(ctx, env, p, file, plan); err != nil {
			return err
		}
	}
	if err := c.save(env, out, text); err != nil {
		return err
	}
	c.next(env, out, plan)
	return nil
}

// output returns the file to write, which must be free.
func (c *Init) output(env *Env) (string, error) {
	out := c.Output
	if out == "" {
		out = env.Getenv("NEARSIDE_CONFIG")
	}
	if out == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return "", usageError{fmt.Errorf("name the file with --output: %w", err)}
		}
		out = filepath.Join(dir, "nearside", "config.json5")
	}
	if _, err := os.Lstat(out); err == nil && !c.Force {
		return "", usageError{fmt.Errorf("%s exists: --force writes over it and keeps a copy, --output names another; nearside onboard prints a further server's block, nearside config set changes single settings", out)}
	}
	return out, nil
}

// endpoints adds the custom one of the flags, or those that are told.
func (c *Init) endpoints(ctx context.Context, env *Env, p *prompts, taken map[string]bool, all []*candidate) ([]*candidate, error) {
	if c.BaseURL != "" {
		one, err := c.endpoint(ctx, env, p, &Onboard{URL: c.BaseURL, Model: c.Model, ID: c.ID, CustomImageInput: c.CustomImageInput, CustomTextInput: c.CustomTextInput}, c.APIKey)
		if err != nil {
			return nil, err
		}
		return join(all, one, taken), nil
	}
	for p.asks {
		at, err := p.ask("Base URL of another OpenAI-compatible endpoint (empty for none)", "")
		if err != nil || at == "" {
			return all, err
		}
		key, err := p.ask("  Environment variable that holds its key (empty for none)", "")
		if err != nil {
			return nil, err
		}
		ids, err := p.ask("  Models, as its server names them (empty for those that it lists)", "")
		if err != nil {
			return nil, err
		}
		one, err := c.endpoint(ctx, env, p, &Onboard{URL: at, Model: strings.FieldsFunc(ids, func(r rune) bool { return r == ' ' || r == ',' })}, key)
		if errors.Is(err, errStopped) {
			return nil, err
		}
		if err != nil {
			fmt.Fprintf(env.Stderr, "  %v\n", err)
			continue
		}
		all = join(all, one, taken)
	}
	return all, nil
}

// endpoint looks at a custom endpoint.
func (c *Init) endpoint(ctx context.Context, env *Env, p *prompts, look *Onboard, key string) (*candidate, error) {
	base, id, err := look.place()
	if err != nil {
		return nil, usageError{err}
	}
	one := &candidate{id: id, base: base, private: catalog.PlaceOf(base) == catalog.PlacePrivate, custom: true, look: look, images: map[string]bool{}}
	if err := c.keyOf(env, p, one, key); err != nil {
		return nil, err
	}
	cfg := upstream.Config{ID: id, BaseURL: base, API: catalog.Completions, Near: catalog.PlaceOf(base).Near()}
	if one.private {
		cfg.AllowPrivate = &one.private
	}
	if secret := one.secret(env); secret != "" {
		cfg.Key = upstream.NewSecret(secret)
	}
	fmt.Fprintf(env.Stderr, "Looking at %s …\n", base)
	one.found = upstream.Inspect(ctx, cfg, upstream.InspectOptions{Timeout: c.Timeout, Dialer: env.Dialer})
	switch f := &one.found; {
	case ctx.Err() != nil:
		return nil, errStopped
	case len(look.Model) > 0 && (c.NoProbe || f.Err == nil): // its list may be closed to us, or not be there: the probe tells
	case f.Err != nil:
		return nil, exitError{ExitFailed, fmt.Errorf("no model server can be asked at %s: %w", base, f.Err)}
	case f.State == upstream.StateMisconfigured, f.State == upstream.StateFailing:
		return nil, exitError{ExitFailed, fmt.Errorf("%s is not ready to be configured: %s", base, inFlags(f.Detail, id, "--api-key", "--base-url"))}
	}
	var notes []string
	if one.models, notes, err = look.models(&one.found); err != nil {
		return nil, exitError{ExitFailed, err}
	}
	for _, n := range notes {
		fmt.Fprintln(env.Stderr, "  "+n)
	}
	fmt.Fprintf(env.Stderr, "  %s\n", modelNames(one.models))
	// As OpenClaw's onboarding: names tell, and only unknown ones are asked about.
	for i := range one.models {
		m := &one.models[i]
		if _, known := catalog.InfersImages(m.ID); known || len(m.Input) > 0 || look.CustomImageInput || look.CustomTextInput || len(one.models) > onboardAsked {
			continue
		}
		reads, err := p.yes("  Does "+m.ID+" read images?", false)
		if err != nil {
			return nil, err
		}
		if p.asks {
			one.images[m.ID] = reads
		}
	}
	return one, nil
}

// onboardAsked is of how many models a person is asked one by one.
const onboardAsked = 5

// shoutedName is how variables with keys are called, and no key is.
var shoutedName = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)

// keyOf decides how the file names an endpoint's key.
func (c *Init) keyOf(env *Env, p *prompts, one *candidate, said string) error {
	said = strings.TrimSpace(said)
	name := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(said, "$"), "{"), "}")
	switch value, set := env.Lookup(name); {
	case said == "":
		return nil
	case shoutedName.MatchString(name) && (!set || value == ""):
		return usageError{fmt.Errorf("the variable %s is not set, and the endpoint's key is to be in it: export %[1]s=…", name)}
	case shoutedName.MatchString(name):
		one.key = "${" + name + "}"
		return nil
	}
	fmt.Fprintln(env.Stderr, "That is a key and not the name of a variable: it will stand in the file, for all to read who can read it.")
	if p.asks {
		write, err := p.yes("  Write it there?", false)
		if err != nil {
			return err
		}
		if !write {
			return usageError{errors.New("put the key into a variable, and give its name")}
		}
	}
	one.key, one.plain = said, true
	return nil
}

// secret is the key itself.
func (one *candidate) secret(env *Env) string {
	if one.plain || one.key == "" {
		return one.key
	}
	value, _ := env.Lookup(one.key[2 : len(one.key)-1])
	return value
}

// input decides what a model reads, and says by whom.
func (one *candidate) input(m *upstream.FoundModel) (input []string, why string) {
	if reads, said := one.images[m.ID]; said {
		input = []string{catalog.InputText}
		if reads {
			input = append(input, catalog.InputImage)
		}
		return input, "as you say"
	}
	return one.look.input(m)
}

// probe asks the first model of each server for one word.
func (c *Init) probe(ctx context.Context, env *Env, p *prompts, file *config.Config, plan *initPlan) error {
	for _, ref := range plan.firsts() {
		fmt.Fprintf(env.Stderr, "Asking %s for a word …", ref)
		probe := &Probe{Ref: ref, Prompt: "Reply with exactly: pong", MaxTokens: 64, Timeout: time.Minute, file: file}
		a := &answered{asked: time.Now()}
		within, cancel := context.WithTimeout(ctx, probe.Timeout)
		err := probe.local(within, env, a)
		cancel()
		took := took(time.Since(a.asked))
		switch {
		case ctx.Err() != nil:
			fmt.Fprintln(env.Stderr)
			return errStopped
		case err == nil && strings.TrimSpace(a.text) == "":
			fmt.Fprintf(env.Stderr, " it answers after %s, without text: %s\n", took, probe.noText(a).Error())
			continue
		case err == nil:
			fmt.Fprintf(env.Stderr, " it answers after %s\n", took)
			continue
		}
		fmt.Fprintf(env.Stderr, " it does not answer: %v\n", err)
		write := false
		if p.asks {
			if write, err = p.yes("Write it down all the same?", false); err != nil {
				return err
			}
		}
		if !write {
			return exitError{ExitFailed, fmt.Errorf("%s does not answer: nothing was written (--no-probe writes without asking)", ref)}
		}
	}
	return nil
}

// save writes the file, with a copy of one that was there.
func (c *Init) save(env *Env, out string, text []byte) error {
	if _, err := os.Stat(out); err == nil {
		backup, err := keep(out)
		if err != nil {
			return exitError{ExitFailed, fmt.Errorf("keep %s as it was: %w", out, err)}
		}
		fmt.Fprintf(env.Stdout, "%s keeps what was there\n", backup)
	} else if err := os.MkdirAll(filepath.Dir(out), 0o700); err != nil {
		return exitError{ExitFailed, err}
	}
	if err := config.WriteFile(out, text, 0o600); err != nil {
		return exitError{ExitFailed, err}
	}
	return nil
}

// next says what was done and what to do now.
func (c *Init) next(env *Env, out string, plan *initPlan) {
	with := ""
	if found, err := config.Find("", env.Getenv); err != nil || !sameFile(found, out) {
		with = " --config " + quoted(out)
	}
	fmt.Fprintf(env.Stdout, "%s is written: %s, default is %s\n", out, count(len(plan.all), "provider"), plan.primary)
	to, err := (&Connect{ConfigFlag: ConfigFlag{Config: out}, Offline: true}).connection(env)
	if err != nil {
		return
	}
	first, _ := curlSettings(to) // which cannot fail
	if to.keyEnv != "" {         // keys outlive a configuration
		first = "export " + to.keyEnv + "=…   # a client's key: nearside keys add NAME makes one\n" + first
	}
	fmt.Fprintf(env.Stdout, "\nNext:\n  nearside check%[1]s\n  nearside serve%[1]s\n  nearside connect%[1]s codex   # or claude, opencode, sdk-node, …: a client's settings\n\nA first request, once it runs:\n%[2]s", with, first)
}

func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	other, wrong := os.Stat(b)
	return err == nil && wrong == nil && os.SameFile(one, other)
}
