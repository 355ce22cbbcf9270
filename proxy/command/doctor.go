package command

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"nearside/catalog"
	"nearside/proxy"
	"nearside/proxy/config"
	"nearside/upstream"
)

// Doctor looks for what is the matter.
type Doctor struct {
	ConfigFlag
	Refs    []string      `arg:"" optional:"" name:"ref" help:"Models to be asked (provider/model-id, an alias, default). Without one: of each near provider one that is loaded."`
	Far     bool          `help:"Also ask far models for tiny completions, which costs a few tokens each. Their addresses are looked at anyway."`
	Timeout time.Duration `default:"120s" help:"How long all of it may take."`
	JSON    bool          `help:"As JSON."`
}

// Help teaches what doctor does.
func (Doctor) Help() string {
	return `Looks at the configuration, this machine, and the way to each backend from the bottom
up: name, address policy, connection, TLS, clock, model list, then one model of it: a tiny
completion, a stream, contents as parts, one tool call, an agent's list of tools. It stops
at the first rung that fails, says what that means, and prints the line that mends it.
It changes nothing. Far models are asked for completions with --far only.

	nearside doctor
	nearside doctor lmstudio/qwen3-4b
	nearside doctor default --json
	nearside doctor --far

Exit codes: 0 nothing failed (there may be warnings); 1 something did; 2 bad flags, or a
configuration with problems.`
}

// The levels of a finding. A note is no judgement, skip was not tried.
const (
	levelPass = "pass"
	levelNote = "note"
	levelWarn = "warn"
	levelFail = "fail"
	levelSkip = "skip"
)

// finding is what one check came to.
type finding struct {
	Area  string `json:"area"`         // config, environment, listen, data, backend, model
	Of    string `json:"of,omitempty"` // a provider, or a ref
	Check string `json:"check"`
	Level string `json:"level"`
	Text  string `json:"text"`
	Fix   string `json:"fix,omitempty"` // a line to type
}

// doctor gathers findings. Checks of different providers run beside one another.
type doctor struct {
	env  *Env
	cmd  *Doctor
	file *config.Config
	snap *proxy.Snapshot

	mu       sync.Mutex // guards all below
	findings []finding
	in, out  int64 // tokens that completions took
}

func (d *doctor) say(f finding) string {
	if d.cmd.Config != "" && (strings.HasPrefix(f.Fix, "nearside config ") || strings.HasPrefix(f.Fix, "nearside doctor ")) {
		f.Fix += " --config " + shell(d.cmd.Config) // typed without it, the line would change another file
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.findings = append(d.findings, f)
	return f.Level
}

// Run looks.
func (c *Doctor) Run(env *Env) error {
	if c.Timeout <= 0 {
		return usageError{fmt.Errorf("--timeout must be longer than 0")}
	}
	path, err := env.find(c.Config)
	if err != nil {
		return err
	}
	d := &doctor{env: env, cmd: c}
	file, problems := config.Load(path, env.configOptions())
	d.config(path, file, problems)
	if n := len(problems.Errors()); n > 0 {
		if err := d.tell(); err != nil {
			return err
		}
		return exitError{code: ExitUsage}
	}
	ctx, stop := env.context()
	defer stop()
	bounded, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	comp := env.composer(bounded, file, false)
	defer comp.close()
	snap, err := comp.snapshot()
	if err != nil {
		return err
	}
	d.file, d.snap = file, snap
	asked, err := d.models()
	if err != nil {
		return err
	}
	d.environment()
	d.listen()
	d.data(bounded)
	d.backends(bounded, asked)
	if ctx.Err() != nil {
		return errStopped
	}
	if bounded.Err() != nil {
		d.say(finding{Area: "model", Check: "time", Level: levelFail, Text: fmt.Sprintf("not all was looked at within %v", c.Timeout), Fix: "nearside doctor --timeout 10m"})
	}
	if err := d.tell(); err != nil {
		return err
	}
	if d.count(levelFail) > 0 {
		return exitError{code: ExitFailed}
	}
	return nil
}

// models returns the models to be asked: those that were named, or none.
func (d *doctor) models() ([]*catalog.Model, error) {
	var all []*catalog.Model
	for _, ref := range d.cmd.Refs {
		res, err := d.snap.Catalog.Resolve(ref, catalog.ResolveOptions{Fallback: "none"})
		if err == nil && len(res.Models) == 0 {
			err = fmt.Errorf("%s means no model now; see nearside models", ref)
		}
		if err != nil {
			return nil, usageError{err}
		}
		all = append(all, res.Models[0])
	}
	return all, nil
}

// doctorAside bounds the providers that are looked at beside one another.
const doctorAside = 4

// backends looks at each provider, and then at its models.
func (d *doctor) backends(ctx context.Context, asked []*catalog.Model) {
	configs := map[string]upstream.Config{}
	for _, b := range d.snap.Backends {
		configs[b.ID] = b
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, doctorAside)
	any := false
	for _, p := range d.snap.Catalog.Providers {
		if len(asked) > 0 && !slices.ContainsFunc(asked, func(m *catalog.Model) bool { return m.Provider == p }) {
			continue
		}
		if p.Unavailable != "" {
			if p.Source != catalog.FromBuiltin {
				d.say(finding{Area: "backend", Of: p.ID, Check: "usable", Level: levelFail, Text: p.Unavailable})
			} else if len(asked) > 0 {
				d.say(finding{Area: "backend", Of: p.ID, Check: "usable", Level: levelFail, Text: p.Unavailable + ": the provider is not used without it"})
			}
			continue
		}
		if p.Source == catalog.FromBuiltin && len(asked) == 0 && !d.chained(p) { // nobody asks for it
			continue
		}
		cfg, ok := configs[p.ID]
		if !ok {
			continue
		}
		any = true
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			d.backend(ctx, p, cfg, asked)
		})
	}
	wg.Wait()
	for _, url := range refused(d.snap) {
		d.say(finding{Area: "backend", Of: url, Check: "address policy", Level: levelFail, Text: d.snap.States[url].Detail})
	}
	if !any {
		d.say(finding{Area: "backend", Check: "any", Level: levelFail, Text: "no model server is configured and none was found on this machine: start one (LM Studio, Ollama, llama.cpp, MLX, vLLM), or write its address", Fix: "nearside init --host 127.0.0.1:1234"})
	}
}

// chained says whether the default chain has a model of a provider.
func (d *doctor) chained(p *catalog.Provider) bool {
	return slices.ContainsFunc(defaultRefs(d.snap), func(ref string) bool { return strings.HasPrefix(ref, p.ID+"/") })
}

// backend looks at one provider from the bottom up.
func (d *doctor) backend(ctx context.Context, p *catalog.Provider, cfg upstream.Config, asked []*catalog.Model) {
	places, names := cfg.EachPlace()
	for i, place := range places {
		of := p.ID
		if names[i] != "" {
			of += "@" + names[i]
		}
		look, cancel := context.WithTimeout(ctx, max(place.Deadlines.Connect+place.Deadlines.TLS, d.file.Discovery.Timeout)+5*time.Second)
		e := upstream.Examine(look, place, upstream.InspectOptions{Dialer: d.env.Dialer, Timeout: max(d.file.Discovery.Timeout, place.Deadlines.Connect)})
		cancel()
		if !d.way(of, p, place, &e) {
			d.say(finding{Area: "model", Of: of, Check: "completion", Level: levelSkip, Text: "the way to it comes first"})
			continue
		}
		d.software(of, p, &e)
		if i > 0 {
			continue // the models are the same
		}
		for _, m := range d.chosen(p, &e, asked) {
			d.model(ctx, m, &e)
		}
	}
}

// chosen returns the models of a provider that are looked at: those that were named;
// else, of a near one, those of the default chain or the first, if they are loaded.
func (d *doctor) chosen(p *catalog.Provider, e *upstream.Examination, asked []*catalog.Model) (all []*catalog.Model) {
	for _, m := range asked {
		if m.Provider == p {
			all = append(all, m)
		}
	}
	if len(all) > 0 || len(asked) > 0 {
		return all
	}
	refs := defaultRefs(d.snap)
	for _, m := range p.Models {
		if slices.Contains(refs, m.Ref()) && len(all) < 2 {
			all = append(all, m)
		}
	}
	if len(all) == 0 && len(p.Models) > 0 && p.Near {
		all = p.Models[:1]
	}
	if len(all) == 0 && p.Near {
		d.say(finding{Area: "model", Of: p.ID, Check: "models", Level: levelWarn, Text: "no model of it is configured", Fix: "nearside onboard " + p.BaseURL})
	}
	return all
}

func (d *doctor) count(level string) (n int) {
	for _, f := range d.findings {
		if f.Level == level {
			n++
		}
	}
	return n
}

// tell prints the findings, of one thing together.
func (d *doctor) tell() error {
	order := []string{"config", "environment", "listen", "data", "backend", "model"}
	rank := func(f finding) string {
		of, _, _ := strings.Cut(f.Of, "/")
		at := slices.Index(order, f.Area)
		if f.Area == "backend" || f.Area == "model" {
			return "9" + of + "\x00" + decimal(at) // a provider and its models
		}
		return decimal(at)
	}
	slices.SortStableFunc(d.findings, func(a, b finding) int { return strings.Compare(rank(a), rank(b)) })
	if d.cmd.JSON {
		return d.env.json(struct {
			Version  string    `json:"version"`
			Passed   int       `json:"passed"`
			Warnings int       `json:"warnings"`
			Failures int       `json:"failures"`
			In       int64     `json:"tokens_in"`
			Out      int64     `json:"tokens_out"`
			Findings []finding `json:"findings"`
		}{d.env.Version, d.count(levelPass), d.count(levelWarn), d.count(levelFail), d.in, d.out, d.findings})
	}
	marks := map[string]string{levelPass: "ok  ", levelNote: "note", levelWarn: "WARN", levelFail: "FAIL", levelSkip: "-   "}
	last := ""
	for _, f := range d.findings {
		head := f.Area
		if f.Of != "" {
			head, _, _ = strings.Cut(f.Of, "/")
		}
		if head != last {
			if last != "" {
				fmt.Fprintln(d.env.Stdout)
			}
			fmt.Fprintln(d.env.Stdout, head)
			last = head
		}
		check := f.Check
		if _, id, ok := strings.Cut(f.Of, "/"); ok {
			check = id + " " + check
		}
		fmt.Fprintf(d.env.Stdout, "  %s  %s: %s\n", marks[f.Level], check, f.Text)
		if f.Fix != "" {
			fmt.Fprintf(d.env.Stdout, "          %s\n", f.Fix)
		}
	}
	tokens := ""
	if d.in+d.out > 0 {
		tokens = fmt.Sprintf("; completions took %d tokens in, %d out", d.in, d.out)
	}
	fmt.Fprintf(d.env.Stdout, "\n%s, %s, %d passed%s\n", count(d.count(levelFail), "failure"), count(d.count(levelWarn), "warning"), d.count(levelPass), tokens)
	return nil
}

// shell writes a word as a shell reads it.
func shell(word string) string {
	if word != "" && strings.IndexFunc(word, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_./:@%+,=-", r))
	}) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// setProvider is the line that sets something of a provider, below models.providers.
func setProvider(id, path, value string) string {
	return "nearside config set " + shell(belowID("models.providers", id)+path) + " " + shell(value)
}

// belowID is the beginning of a path to what is below an entry with a name of its own,
// whose dots are no steps.
func belowID(path, id string) string {
	if strings.ContainsAny(id, `.[]"\`) {
		return path + "[" + js(id) + "]."
	}
	return path + "." + id + "."
}

// setModel is the line that sets a compat flag of a model: at its entry in the file,
// or under proxy.models for one that was found.
func setModel(m *catalog.Model, flag, value string) string {
	if m.Provider.Source == catalog.FromConfig {
		if i := slices.IndexFunc(m.Provider.Models, func(o *catalog.Model) bool { return o.ID == m.ID }); i >= 0 && slices.Contains([]string{"requiresStringContent", "supportsTools", "maxTokensField"}, flag) {
			return setProvider(m.Provider.ID, fmt.Sprintf("models[%d].compat.%s", i, flag), value)
		}
	}
	return "nearside config set proxy.models " + shell(fmt.Sprintf(`{%q:{"compat":{%q:%s}}}`, m.Ref(), flag, value)) + " --strict-json --merge"
}
