package command

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"nearside/catalog"
	"nearside/proxy"
	"nearside/proxy/config"
	"nearside/shaping"
	"nearside/upstream"
)

// Check reads the configuration and says what it means.
type Check struct {
	ConfigFlag
	Probe   bool `help:"Also ask hosted providers for their model list (no tokens are used) and exit 1 when a configured provider is not ready."`
	Offline bool `help:"Ask nobody, not even the servers on this machine."`
}

// Help teaches what check does.
func (Check) Help() string {
	return `Prints every problem with its place and what was probably meant; without one, what
the configuration comes to: providers, chains, aliases, what "default" means, small
context windows, and settings that are accepted and do nothing (yet). Near providers
are looked at, so that a contextWindow larger than the server's is found.

	nearside check
	nearside check --config ~/nearside.json5 --offline
	nearside check --probe                       are keys and addresses right?

Exit codes: 0 it can be used; 1 (--probe) a configured provider is not ready; 2 it has problems.`
}

// Run checks.
func (c *Check) Run(env *Env) error {
	if c.Probe && c.Offline {
		return usageError{fmt.Errorf("--probe and --offline exclude each other")}
	}
	file, problems, err := env.load(c.Config)
	if err != nil {
		return err
	}
	ctx, stop := env.context()
	defer stop()
	comp := env.composer(ctx, file, c.Offline)
	defer comp.close()
	snap, err := comp.snapshot()
	if err != nil {
		return err
	}
	if c.Probe {
		probeFar(ctx, env, file, snap)
	}
	if ctx.Err() != nil {
		return errStopped
	}
	report(env.Stdout, file, snap, problems)
	if c.Probe {
		if bad := notReady(snap); len(bad) > 0 {
			return fmt.Errorf("not ready: %s", strings.Join(bad, ", "))
		}
	}
	return nil
}

// probeFar asks the hosted providers that can be reached for their model list.
func probeFar(ctx context.Context, env *Env, file *config.Config, snap *proxy.Snapshot) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, inspectMax)
	seen := map[string]upstream.Found{}
	var far []upstream.Config
	var keys []string
	for _, b := range file.Backends {
		if b.Near {
			continue
		}
		places, names := b.EachPlace()
		for i := range places {
			far, keys = append(far, places[i]), append(keys, seenKey(b.ID, names[i]))
		}
	}
	for i, b := range far {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			found := upstream.Inspect(ctx, b, upstream.InspectOptions{Dialer: env.Dialer, Timeout: b.Deadlines.Connect})
			mu.Lock()
			seen[keys[i]] = found
			mu.Unlock()
		})
	}
	wg.Wait()
	all := composer{file: file, seen: seen}
	for _, b := range file.Backends {
		if _, st, ok := all.lookedAt(b.ID); ok {
			snap.States[b.ID] = st
		}
	}
}

// notReady names the configured providers that could not serve a request now.
func notReady(snap *proxy.Snapshot) []string {
	var bad []string
	for _, p := range snap.Catalog.Providers {
		if p.Source != catalog.FromConfig {
			continue
		}
		switch st := snap.States[p.ID]; {
		case p.Unavailable != "":
			bad = append(bad, p.ID+" ("+p.Unavailable+")")
		case st.State != upstream.StateReady && st.State != upstream.StateLoading && st.State != upstream.StateAsleep:
			bad = append(bad, p.ID+" ("+st.State+")")
		}
	}
	return bad
}

// report prints what a configuration comes to.
func report(w io.Writer, file *config.Config, snap *proxy.Snapshot, problems config.Problems) {
	if len(file.Files) == 0 {
		fmt.Fprintln(w, "no configuration file: the built-in defaults hold")
	} else {
		fmt.Fprintf(w, "%s: no problems\n", strings.Join(file.Files, ", "))
	}
	fmt.Fprintf(w, "listens on %s\n", file.Proxy.Listen)
	reportProviders(w, snap)
	reportNames(w, file, snap)
	reportKeys(w, file, snap)
	reportWindows(w, snap)
	reportIdle(w, snap)
	for _, part := range []struct {
		title string
		notes []config.Note
	}{{"accepted, without an effect yet", file.Later}, {"applied to translated requests", file.Partly}, {"only OpenClaw reads", file.Ignored}} {
		if len(part.notes) > 0 {
			fmt.Fprintf(w, "\n%s:\n", part.title)
		}
		told := map[string]bool{}
		for _, n := range part.notes {
			if !told[n.Path] {
				told[n.Path] = true
				fmt.Fprintf(w, "  %s\n", n.String())
			}
		}
	}
	if warnings := problems.Warnings(); len(warnings) > 0 {
		fmt.Fprintf(w, "\nwarnings:\n")
		for _, p := range warnings {
			fmt.Fprintf(w, "  %s\n", p.String())
		}
	}
}

func reportProviders(w io.Writer, snap *proxy.Snapshot) {
	var rows [][]string
	waiting := 0
	for _, p := range snap.Catalog.Providers {
		if p.Source == catalog.FromBuiltin && p.Unavailable != "" {
			waiting++
			continue
		}
		state := stateText(snap, p)
		if p.Source == catalog.FromDiscovery {
			state = "found, " + state
		}
		rows = append(rows, []string{p.ID, place(p.Near), apis(p, p.API), p.BaseURL, count(len(p.Models), "model"), state + kindText(p) + keysText(snap, p)})
	}
	fmt.Fprintln(w, "\nproviders:")
	table(w, "  ", rows)
	defer reportEndpoints(w, snap, "\nendpoints of %s:\n")
	addresses := refused(snap)
	for _, url := range addresses {
		fmt.Fprintf(w, "  %s is not asked: %s\n", url, snap.States[url].Detail)
	}
	if waiting > 0 {
		fmt.Fprintf(w, "  %s for a key (nearside models --all)\n", counted(waiting, "built-in hosted provider waits", "built-in hosted providers wait"))
	}
	if len(rows) == 0 && waiting == 0 && len(addresses) == 0 {
		fmt.Fprintln(w, "  none")
	}
}

func reportNames(w io.Writer, file *config.Config, snap *proxy.Snapshot) {
	cat := snap.Catalog
	if len(cat.Chains) > 0 {
		fmt.Fprintln(w, "\nchains:")
		rows := make([][]string, 0, len(cat.Chains))
		for _, ch := range cat.Chains {
			rows = append(rows, []string{ch.Name, strings.Join(ch.Refs, " → ")})
		}
		table(w, "  ", rows)
	}
	if len(cat.Aliases) > 0 {
		fmt.Fprintln(w, "\naliases:")
		rows := make([][]string, 0, len(cat.Aliases))
		for _, a := range cat.Aliases {
			rows = append(rows, []string{a.Name, "→ " + a.To})
		}
		table(w, "  ", rows)
	}
	refs := defaultRefs(snap)
	switch {
	case len(refs) > 0:
		fmt.Fprintf(w, "\ndefault: %s\n", strings.Join(refs, " → "))
	case simulates(file, snap):
		fmt.Fprintf(w, "\ndefault: nothing yet; %s (or set agents.defaults.model)\n", wouldSimulate)
	default:
		fmt.Fprintln(w, "\ndefault: nothing; set agents.defaults.model or start a model server")
	}
}

// reportWindows names models whose context window is small, too small, or
// larger in the configuration than at the server.
func reportWindows(w io.Writer, snap *proxy.Snapshot) {
	var rows [][]string
	for _, p := range snap.Catalog.Providers {
		if p.Unavailable != "" {
			continue
		}
		for _, m := range p.Models {
			warn, refuse := m.Window().Verdict()
			if refuse != "" {
				rows = append(rows, []string{m.Ref(), "refused: " + refuse})
			} else if warn != "" {
				rows = append(rows, []string{m.Ref(), "warning: " + warn})
			}
		}
	}
	if len(rows) > 0 {
		fmt.Fprintln(w, "\ncontext windows:")
		table(w, "  ", rows)
	}
}

// reportIdle prints the compat flags that the api of their provider has no use for.
func reportIdle(w io.Writer, snap *proxy.Snapshot) {
	var rows [][]string
	for _, p := range snap.Catalog.Providers {
		if p.Source != catalog.FromConfig {
			continue
		}
		for _, m := range p.Models {
			if idle := shaping.Idle(m); len(idle) > 0 {
				rows = append(rows, []string{m.Ref(), string(m.API), strings.Join(idle, ", ")})
			}
		}
	}
	if len(rows) > 0 {
		fmt.Fprintln(w, "\ncompat flags without an effect, since they are about another api than that of the provider:")
		table(w, "  ", rows)
	}
}

// defaultRefs returns what "default" means now.
func defaultRefs(snap *proxy.Snapshot) []string {
	res, err := snap.Catalog.Resolve(catalog.DefaultName, catalog.ResolveOptions{Ready: snap.Ready})
	if err != nil {
		return nil
	}
	var refs []string
	for _, m := range res.Models {
		refs = append(refs, m.Ref())
	}
	return refs
}

// stateText says whether a provider can be asked, and why not.
func stateText(snap *proxy.Snapshot, p *catalog.Provider) string {
	if p.Unavailable != "" {
		return "unavailable: " + p.Unavailable
	}
	st, ok := snap.States[p.ID]
	switch {
	case !ok || st.State == "":
		return "not asked"
	case st.Detail != "":
		return st.State + ": " + st.Detail
	}
	return st.State
}

// kindText says what software a provider is and where that is known from; empty
// where it is not known.
func kindText(p *catalog.Provider) string {
	if p.Kind == catalog.KindUnknown || p.Kind == catalog.KindHosted || p.KindFrom == "" {
		return ""
	}
	from := p.KindFrom
	if from == catalog.KindIsSet {
		from += "." + p.ID + ".kind"
	}
	return fmt.Sprintf("; %s by %s", p.Kind, from)
}

// keysText says how many keys a provider has, where there are several.
func keysText(snap *proxy.Snapshot, p *catalog.Provider) string {
	if n := keyCount(snap, p); n > 1 {
		return fmt.Sprintf("; %d keys", n)
	}
	return ""
}

func keyCount(snap *proxy.Snapshot, p *catalog.Provider) int {
	for i := range snap.Backends {
		if snap.Backends[i].ID == p.ID {
			return snap.Backends[i].KeyCount()
		}
	}
	return 0
}

// apis names what a provider's server is asked in: its api, and those that it is
// known to speak beside it.
func apis(p *catalog.Provider, own catalog.API) string {
	names := string(own)
	for _, a := range p.Also {
		if a != own {
			names += "+" + strings.TrimPrefix(string(a), "openai-")
		}
	}
	return names
}

func place(near bool) string {
	if near {
		return "near"
	}
	return "far"
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
