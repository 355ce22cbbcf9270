package command

import (
	"fmt"
	"strconv"
	"strings"

	"nearside/catalog"
	"nearside/proxy"
)

// Models lists what can be asked for.
type Models struct {
	ConfigFlag
	All     bool   `help:"Also the models of built-in hosted providers that wait for a key."`
	Flags   string `placeholder:"REF" help:"Instead: every compat flag in effect for one model, its value and where it was said."`
	JSON    bool   `help:"As JSON."`
	LAN     bool   `name:"lan" help:"Instead: the proxies that announce themselves in this machine's network (proxy.mdns), to be used by nearside onboard."`
	Offline bool   `help:"Ask nobody: only what the configuration and the built-in catalogue say."`
}

// Help teaches what models does.
func (Models) Help() string {
	return `Every name that a client may send as model: refs (provider/model-id), aliases and
chains, with what is known of each model and why some cannot be asked now. Servers on
this machine are looked at. What a running proxy learned from its backends' refusals
stands below, with the line that makes it permanent.

	nearside models
	nearside models --all                        also hosted ones without a key
	nearside models --flags lmstudio/qwen3-4b    how its requests and answers are changed
	nearside models --json | jq -r '.models[].ref'

Prices are USD for a million input/output tokens. Exit codes: 0; 2 bad flags or configuration.`
}

// modelRow is one model, as JSON prints it.
type modelRow struct {
	Ref             string        `json:"ref"`
	Provider        string        `json:"provider"`
	ID              string        `json:"id"`
	Name            string        `json:"name,omitempty"`
	Near            bool          `json:"near"`
	API             catalog.API   `json:"api"`
	Also            []catalog.API `json:"also,omitempty"` // what the server speaks beside it
	apis            string
	Context         int           `json:"context"`
	ContextSource   string        `json:"contextSource,omitempty"`
	ContextWindow   int           `json:"contextWindow,omitempty"`
	DetectedWindow  int           `json:"detectedWindow,omitempty"`
	MaxTokens       int           `json:"maxTokens,omitempty"`
	Input           []string      `json:"input"`
	Reasoning       bool          `json:"reasoning"`
	Efforts         []string      `json:"reasoningEfforts,omitempty"`
	Cost            *catalog.Cost `json:"cost,omitempty"`
	Source          string        `json:"source"`
	Kind            catalog.Kind  `json:"kind,omitempty"`     // of the server
	KindFrom        string        `json:"kindFrom,omitempty"` // where it is known from
	Keys            int           `json:"keys,omitempty"`     // of its provider, where there are several
	Usable          bool          `json:"usable"`
	State           string        `json:"state"`
	Warning         string        `json:"warning,omitempty"`
	Aliases         []string      `json:"aliases,omitempty"`
	DefaultPosition int           `json:"defaultPosition,omitempty"` // from 1
}

// Run lists.
func (c *Models) Run(env *Env) error {
	file, _, err := env.load(c.Config)
	if err != nil {
		return err
	}
	ctx, stop := env.context()
	defer stop()
	if c.LAN {
		return c.lan(ctx, env, file)
	}
	comp := env.composer(ctx, file, c.Offline)
	defer comp.close()
	snap, err := comp.snapshot()
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errStopped
	}
	var taught []proxy.Learned
	if !c.Offline {
		taught = learnedBy(ctx, env, file)
	}
	if c.Flags != "" {
		return c.writeFlags(env, snap, taught)
	}
	rows, hidden := c.rows(snap)
	if c.JSON {
		return c.writeJSON(env, snap, rows, taught)
	}
	c.writeTable(env, snap, rows, hidden)
	writeLearned(env.Stdout, file, taught)
	if len(rows) == 0 && simulates(file, snap) {
		fmt.Fprintln(env.Stdout, wouldSimulate)
	}
	return nil
}

// rows returns the models, and how many were left out.
func (c *Models) rows(snap *proxy.Snapshot) (rows []modelRow, hidden int) {
	names := map[string][]string{}
	for _, a := range snap.Catalog.Aliases {
		if !strings.Contains(a.Name, "*") {
			names[a.To] = append(names[a.To], a.Name)
		}
	}
	position := map[string]int{}
	for i, ref := range defaultRefs(snap) {
		position[ref] = i + 1
	}
	for _, p := range snap.Catalog.Providers {
		for _, m := range p.Models {
			if !c.All && p.Source == catalog.FromBuiltin && (p.Unavailable != "" || m.Unavailable != "") {
				hidden++
				continue
			}
			w := m.Window()
			warn, refuse := w.Verdict()
			r := modelRow{Ref: m.Ref(), Provider: p.ID, ID: m.ID, Name: m.Name, Near: p.Near, API: m.API, Also: p.Also, apis: apis(p, m.API), Context: w.Effective, ContextSource: w.Source,
				ContextWindow: m.ContextWindow, DetectedWindow: m.DetectedWindow, MaxTokens: m.MaxTokens, Input: m.Input, Reasoning: m.Reasoning,
				Efforts: m.Efforts(), Source: string(p.Source), Kind: p.Kind, KindFrom: p.KindFrom, Warning: warn, Aliases: names[m.Ref()], DefaultPosition: position[m.Ref()]}
			if n := keyCount(snap, p); n > 1 {
				r.Keys = n
			}
			if w.Effective == 0 {
				r.ContextSource = ""
			}
			if m.Cost.Input != 0 || m.Cost.Output != 0 || m.Cost.CacheRead != 0 || m.Cost.CacheWrite != 0 || len(m.Cost.Tiers) > 0 {
				r.Cost = &m.Cost
			}
			switch {
			case p.Unavailable != "":
				r.State = "unavailable: " + p.Unavailable
			case m.Unavailable != "":
				r.State = "unavailable: " + m.Unavailable
			case refuse != "":
				r.State = "refused: " + refuse
			default:
				r.Usable, r.State = true, stateText(snap, p)
			}
			rows = append(rows, r)
		}
	}
	return rows, hidden
}

func (c *Models) writeTable(env *Env, snap *proxy.Snapshot, rows []modelRow, hidden int) {
	cells := [][]string{{"REF", "WHERE", "API", "SERVER", "CONTEXT", "MAX", "INPUT", "REASONING", "PRICE", "STATE"}}
	for _, r := range rows {
		effort := "-"
		switch {
		case len(r.Efforts) > 0:
			effort = strings.Join(r.Efforts, ",")
		case r.Reasoning:
			effort = "yes"
		}
		state := r.State
		if r.Warning != "" {
			state += "; " + r.Warning
		}
		if r.DefaultPosition > 0 {
			state = "default#" + decimal(r.DefaultPosition) + " " + state
		}
		cells = append(cells, []string{r.Ref, place(r.Near), r.apis, server(r.Kind), tokens(r.Context), tokens(r.MaxTokens), strings.Join(r.Input, ","), effort, price(r.Cost), state})
	}
	if len(rows) > 0 {
		table(env.Stdout, "", cells)
	} else {
		fmt.Fprintln(env.Stdout, "no models")
	}
	reportEndpoints(env.Stdout, snap, "\nendpoints of %s:\n")
	var more [][]string
	for _, ch := range snap.Catalog.Chains {
		more = append(more, []string{"chain", ch.Name, "→ " + strings.Join(ch.Refs, " → ")})
	}
	for _, a := range snap.Catalog.Aliases {
		more = append(more, []string{"alias", a.Name, "→ " + a.To})
	}
	if len(more) > 0 {
		fmt.Fprintln(env.Stdout)
		table(env.Stdout, "", more)
	}
	for _, p := range snap.Catalog.Providers {
		if n := keyCount(snap, p); n > 1 {
			fmt.Fprintf(env.Stdout, "%s has %d keys\n", p.ID, n)
		}
	}
	for _, p := range snap.Catalog.Providers {
		if len(p.Models) == 0 && p.Source != catalog.FromBuiltin {
			fmt.Fprintf(env.Stdout, "%s lists no models; ids are passed through (%s)\n", p.ID, stateText(snap, p))
		}
	}
	if hidden > 0 {
		fmt.Fprintf(env.Stdout, "\n%s for a key or an api (nearside models --all)\n", counted(hidden, "built-in model waits", "built-in models wait"))
	}
}

// server names the software of a model's server; a dash where it is not known.
func server(kind catalog.Kind) string {
	if kind == catalog.KindUnknown || kind == catalog.KindHosted {
		return "-"
	}
	return string(kind)
}

func (c *Models) writeJSON(env *Env, snap *proxy.Snapshot, rows []modelRow, taught []proxy.Learned) error {
	type name struct {
		Name string   `json:"name"`
		To   []string `json:"to"`
	}
	out := struct {
		Models  []modelRow      `json:"models"`
		Chains  []name          `json:"chains"`
		Aliases []name          `json:"aliases"`
		Default []string        `json:"default"`
		Learned []proxy.Learned `json:"learned,omitempty"`
	}{rows, []name{}, []name{}, defaultRefs(snap), taught}
	if out.Models == nil {
		out.Models = []modelRow{}
	}
	if out.Default == nil {
		out.Default = []string{}
	}
	for _, ch := range snap.Catalog.Chains {
		out.Chains = append(out.Chains, name{ch.Name, ch.Refs})
	}
	for _, a := range snap.Catalog.Aliases {
		out.Aliases = append(out.Aliases, name{a.Name, []string{a.To}})
	}
	return env.json(out)
}

func price(c *catalog.Cost) string {
	if c == nil {
		return "-"
	}
	f := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	return f(c.Input) + "/" + f(c.Output)
}

func decimal(n int) string { return strconv.Itoa(n) }
