package command

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/goccy/go-json"

	"nearside/catalog"
	"nearside/proxy"
	"nearside/proxy/config"
	"nearside/shaping"
	"nearside/shaping/wire"
)

// writeFlags prints the compat flags in effect for one model: those that are
// said, and the names of the others.
func (c *Models) writeFlags(env *Env, snap *proxy.Snapshot, taught []proxy.Learned) error {
	res, err := snap.Catalog.Resolve(c.Flags, catalog.ResolveOptions{Fallback: "none", Ready: snap.Ready})
	if err != nil {
		return err
	}
	if len(res.Models) == 0 {
		return usageError{fmt.Errorf("%s means no model now", c.Flags)}
	}
	m := res.Models[0]
	d := m.Dialect()
	if d == 0 {
		d = wire.Chat
	}
	s, err := shaping.New(m, d, snap.Shaping(shaping.Options{Learned: learnedFlags(taught, m.Ref())}))
	if err != nil {
		return err
	}
	rows := flagRows(s)
	said := map[string]bool{}
	for _, r := range rows {
		said[r.Name] = true
	}
	unsaid := []string{}
	for _, name := range catalog.FlagNames() {
		if !said[name] {
			unsaid = append(unsaid, name)
		}
	}
	if c.JSON {
		return env.json(struct {
			Ref      string       `json:"ref"`
			Kind     catalog.Kind `json:"kind,omitempty"`
			KindFrom string       `json:"kindFrom,omitempty"`
			Flags    []flagRow    `json:"flags"`
			Unsaid   []string     `json:"unsaid"`
		}{m.Ref(), m.Provider.Kind, m.Provider.KindFrom, rows, unsaid})
	}
	fmt.Fprintf(env.Stdout, "%s%s\n", m.Ref(), kindText(m.Provider))
	cells := flagCells(rows)
	for _, name := range unsaid {
		cells = append(cells, []string{name, "-", "nobody says it: the default of the route holds"})
	}
	table(env.Stdout, "  ", cells)
	return nil
}

// learnedWait is how long a running proxy is waited for, which need not be there.
const learnedWait = time.Second

// learnedBytesMax bounds its answer.
const learnedBytesMax = 4 << 20

// learnedBy asks the proxy that runs with this configuration, if there is one,
// what its backends taught it.
func learnedBy(ctx context.Context, env *Env, file *config.Config) []proxy.Learned {
	base, insecure, err := operatorAt(&file.Proxy)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, learnedWait)
	defer cancel()
	client := directClient(insecure, file.Certificate)
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/proxy/learned", nil)
	if err != nil {
		return nil
	}
	env.authorize(req, "")
	resp, err := client.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, learnedBytesMax))
	var list struct {
		Data []proxy.Learned `json:"data"`
	}
	if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(body, &list) != nil {
		return nil
	}
	return list.Data
}

// learnedFlags are the flags that a running proxy learned of a model; nil for
// none.
func learnedFlags(taught []proxy.Learned, ref string) *catalog.Compat {
	var all *catalog.Compat
	for _, l := range taught {
		var one catalog.Compat
		if text, err := json.Marshal(map[string]json.RawMessage{l.Flag: l.Value}); l.Model == ref && err == nil && json.Unmarshal(text, &one) == nil {
			all, _ = all.Grown(&one)
		}
	}
	return all
}

// writeLearned prints what a running proxy learned.
func writeLearned(w io.Writer, file *config.Config, taught []proxy.Learned) {
	if len(taught) == 0 {
		return
	}
	base, _, _ := operatorAt(&file.Proxy)
	fmt.Fprintf(w, "\nlearned by the proxy at %s from refusals; it forgets when the configuration is loaded again:\n", base)
	for _, l := range taught {
		fmt.Fprintf(w, "  %s: %s\n    it said: %s\n    to keep: %s\n", l.Model, l.Why, l.Words, l.Setting)
	}
}
