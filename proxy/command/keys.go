package command

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"nearside/catalog"
	"nearside/proxy"
	"nearside/proxy/access"
	"nearside/proxy/config"
)

// Keys makes and ends the keys of clients.
type Keys struct {
	Add    KeysAdd    `cmd:"" group:"Commands:" help:"Make a key and show it, once."`
	List   KeysList   `cmd:"" group:"Commands:" help:"List the keys, what they may and what they have used."`
	Revoke KeysRevoke `cmd:"" group:"Commands:" help:"End a key."`
	Rotate KeysRotate `cmd:"" group:"Commands:" help:"Change a key for another that may the same."`
}

// Help teaches what keys does.
func (Keys) Help() string {
	return `Keys lie in keys/keys.json of the data folder, as hashes, and a running proxy takes a
change over at once. As soon as there is one, every client needs one.

	nearside keys add laptop --operator
	nearside keys add agent --models default --daily-usd 5 --near-only
	nearside keys list
	nearside keys rotate agent --grace 1h
	nearside keys revoke agent

Exit codes: 0; 1 there is no such key, or the file cannot be changed; 2 bad flags.`
}

// KeyLimits are the flags of what a key may.
type KeyLimits struct {
	Operator bool `help:"It may look at all that goes on and change it (/proxy, /metrics, /dashboard)."`
	SeesAll  bool `help:"It may look at all that goes on."`

	Expires string `placeholder:"TIME" help:"When it ends: 90d, 12h, 2027-01-31."`

	Models       []string `placeholder:"NAMES" help:"What it may ask for: chains, aliases, refs, * for anything (lmstudio/*)."`
	DefaultChain string   `placeholder:"NAME" help:"What default means for it."`
	NearOnly     bool     `help:"Its requests never leave your machines."`
	Regions      []string `placeholder:"NAMES" help:"The regions that may be asked for it."`

	RequestsPerMinute int     `placeholder:"N" help:"Requests in a minute."`
	TokensPerMinute   int     `placeholder:"N" help:"Tokens in a minute, of prompts and answers."`
	Concurrent        int     `placeholder:"N" help:"Requests at once."`
	DailyUSD          float64 `name:"daily-usd" placeholder:"USD" help:"What answers may cost a day; beyond it only targets without a price are asked."`
	DailyTokens       int64   `placeholder:"N" help:"Tokens a day."`
	MonthlyUSD        float64 `name:"monthly-usd" placeholder:"USD" help:"As --daily-usd, a month."`
	MonthlyTokens     int64   `placeholder:"N" help:"Tokens a month."`
	Weight            float64 `placeholder:"N" help:"Its share of a scarce backend, beside the other keys' (1)."`
	Batch             bool    `help:"Its requests wait behind those of others."`
}

// KeysAdd makes a key.
type KeysAdd struct {
	ConfigFlag
	KeyLimits
	Name string `arg:"" help:"What you call it: who or what will use it."`
	JSON bool   `help:"Print it as JSON."`
}

// Run makes it.
func (c *KeysAdd) Run(env *Env) error {
	file, _, err := env.load(c.Config)
	if err != nil {
		return err
	}
	now := time.Now()
	k := access.Kept{Label: strings.TrimSpace(c.Name), Operator: c.Operator, SeesAll: c.SeesAll, Models: c.Models, DefaultChain: c.DefaultChain, NearOnly: c.NearOnly, Regions: c.Regions,
		RequestsPerMinute: c.RequestsPerMinute, TokensPerMinute: c.TokensPerMinute, Concurrent: c.Concurrent, DailyUSD: c.DailyUSD, DailyTokens: c.DailyTokens,
		MonthlyUSD: c.MonthlyUSD, MonthlyTokens: c.MonthlyTokens, Weight: c.Weight, Batch: c.Batch}
	if k.Label == "" {
		return usageError{errors.New("a key needs a name")}
	}
	if k.Expires, err = ending(c.Expires, now); err != nil {
		return usageError{fmt.Errorf("--expires: %w", err)}
	}
	path, secret := keysPath(file), ""
	err = access.Update(path, func(f *access.File) (err error) {
		if other, err := f.Find(k.Label); err == nil && other.State(now) == "valid" {
			return fmt.Errorf("there is a valid key called %q already (%s): choose another name, or rotate or revoke it", k.Label, other.ID)
		}
		secret, err = f.Add(k, now)
		if err == nil {
			k = f.Keys[len(f.Keys)-1]
		}
		return err
	})
	if err != nil {
		return err
	}
	return tellKey(env, &k, secret, path, c.JSON)
}

// ending reads when a key ends: a date, a moment, or in how long. The zero time for
// nothing.
func ending(text string, now time.Time) (time.Time, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return time.Time{}, nil
	}
	t := time.Time{}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n < 1e5 {
			t = now.Add(time.Duration(n * 24 * float64(time.Hour)))
		}
	} else if d, err := time.ParseDuration(text); err == nil {
		t = now.Add(d)
	} else if d, err := time.Parse(time.DateOnly, text); err == nil {
		t = d
	} else if d, err := time.Parse(time.RFC3339, text); err == nil {
		t = d
	}
	switch {
	case t.IsZero():
		return t, fmt.Errorf("%q is no date (2027-01-31), moment (2027-01-31T12:00:00Z) nor how long from now (90d, 12h)", text)
	case !t.After(now):
		return t, fmt.Errorf("%q is over already", text)
	}
	return t.UTC().Truncate(time.Second), nil
}

// tellKey shows a key that was made. No place has it afterwards.
func tellKey(env *Env, k *access.Kept, secret, path string, asJSON bool) error {
	if asJSON {
		return env.json(struct {
			ID      string    `json:"id"`
			Name    string    `json:"name"`
			Key     string    `json:"key"`
			Expires time.Time `json:"expires,omitzero"`
			File    string    `json:"file"`
		}{k.ID, k.Label, secret, k.Expires, path})
	}
	fmt.Fprintf(env.Stdout, "%s\n\nThis is the key %q (id %s), shown this once; %s has its hash only.\nClients send it as Authorization: Bearer, or x-api-key: their API key.\n", secret, k.Label, k.ID, path)
	return nil
}

// KeysList lists keys.
type KeysList struct {
	ConfigFlag
	All  bool `help:"Also those that are revoked or have expired."`
	JSON bool `help:"As JSON."`
}

// listedKey is a key for people: no hash.
type listedKey struct {
	ID      string    `json:"id"`
	Name    string    `json:"name,omitempty"`
	From    string    `json:"from"` // keys.json, or proxy.keys
	State   string    `json:"state"`
	May     []string  `json:"may"`
	Limits  []string  `json:"limits"`
	Created time.Time `json:"created,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	Used    time.Time `json:"last_used,omitzero"`
	Spent   []string  `json:"spent,omitempty"`
}

// Run lists.
func (c *KeysList) Run(env *Env) error {
	file, _, err := env.load(c.Config)
	if err != nil {
		return err
	}
	all, err := listKeys(file, time.Now())
	if err != nil {
		return err
	}
	shown := []listedKey{}
	for _, k := range all {
		if c.All || k.State == "valid" {
			shown = append(shown, k)
		}
	}
	if c.JSON {
		return env.json(struct {
			Keys []listedKey `json:"keys"`
		}{shown})
	}
	if len(shown) == 0 {
		fmt.Fprintln(env.Stdout, "there are no keys (nearside keys add NAME)")
		return nil
	}
	rows := [][]string{{"id", "name", "state", "may", "limits", "used", "ends"}}
	for _, k := range shown {
		ends := "-"
		if !k.Expires.IsZero() {
			ends = k.Expires.UTC().Format(time.DateTime)
		}
		used := "never"
		if !k.Used.IsZero() {
			used = span(time.Since(k.Used)) + " ago"
		}
		if len(k.Spent) > 0 {
			used += "; " + strings.Join(k.Spent, "; ")
		}
		rows = append(rows, []string{k.ID, orDash(k.Name), k.State, orDash(strings.Join(k.May, ", ")), orDash(strings.Join(k.Limits, ", ")), used, ends})
	}
	table(env.Stdout, "", rows)
	return nil
}

// listKeys returns all keys that a configuration and its data folder have.
func listKeys(file *config.Config, now time.Time) ([]listedKey, error) {
	kept, err := access.ReadFile(keysPath(file))
	if err != nil {
		return nil, err
	}
	used, err := access.ReadUsed(filepath.Join(file.Proxy.DataDir, usedFile))
	if err != nil {
		return nil, err
	}
	today, month := now.Local().Format(time.DateOnly), now.Local().Format("2006-01")
	var all []listedKey
	defer func() {
		for i := range all {
			k, u := &all[i], used[all[i].ID]
			k.Used = u.Last
			if u.Day == today {
				k.Spent = append(k.Spent, spentText(u.DayUSD, u.DayTokens)+" today")
			}
			if u.Month == month {
				k.Spent = append(k.Spent, spentText(u.MonthUSD, u.MonthTokens)+" this month")
			}
		}
	}()
	for i := range file.Keys {
		g := &file.Keys[i].Grant
		state := "valid"
		if !g.Expires.IsZero() && !now.Before(g.Expires) {
			state = "expired"
		}
		all = append(all, listed(g, "proxy.keys", state))
	}
	for i := range kept.Keys {
		k := &kept.Keys[i]
		g := k.Grant()
		one := listed(&g, "keys.json", k.State(now))
		one.Created = k.Created
		all = append(all, one)
	}
	return all, nil
}

func spentText(usd float64, tokens int64) string {
	return fmt.Sprintf("$%.2f, %d tokens", usd, tokens)
}

func listed(g *access.Grant, from, state string) listedKey {
	return listedKey{ID: g.ID, Name: g.Label, From: from, State: state, May: grantWords(g), Limits: g.Limits.Words(), Expires: g.Expires}
}

// grantWords says what a key may, beside its limits.
func grantWords(g *access.Grant) []string {
	may := []string{}
	switch {
	case g.Operator:
		may = append(may, "operate")
	case g.SeesAll:
		may = append(may, "see all")
	}
	if len(g.Models) > 0 {
		may = append(may, "ask for "+strings.Join(g.Models, " "))
	}
	if g.DefaultChain != "" {
		may = append(may, "default is "+g.DefaultChain)
	}
	if g.Policy.NearOnly {
		may = append(may, "near only")
	}
	if len(g.Policy.Regions) > 0 {
		may = append(may, "regions "+strings.Join(g.Policy.Regions, " "))
	}
	if g.Weight > 0 && g.Weight != 1 {
		may = append(may, "weight "+strconv.FormatFloat(g.Weight, 'g', -1, 64))
	}
	if g.Batch {
		may = append(may, "batch")
	}
	if w := catalog.Widest(); g.Policy.Overflow != w.Overflow {
		may = append(may, "own overflow")
	}
	return may
}

// KeysRevoke ends a key.
type KeysRevoke struct {
	ConfigFlag
	Key string `arg:"" help:"Its id, or its name."`
}

// Run ends it.
func (c *KeysRevoke) Run(env *Env) error {
	var was access.Kept
	err := changeKey(env, c.Config, c.Key, func(k *access.Kept) error {
		if !k.Revoked.IsZero() {
			return fmt.Errorf("the key %s was revoked at %s", k.ID, k.Revoked.Format(time.RFC3339))
		}
		k.Revoke(time.Now())
		was = *k
		return nil
	})
	if err == nil {
		fmt.Fprintf(env.Stdout, "the key %q (id %s) is revoked\n", was.Label, was.ID)
	}
	return err
}

// KeysRotate changes a key for another.
type KeysRotate struct {
	ConfigFlag
	Key   string        `arg:"" help:"Its id, or its name."`
	Grace time.Duration `placeholder:"TIME" help:"How long the old one holds still (1h); without it, it ends now."`
	JSON  bool          `help:"Print it as JSON."`
}

// Run changes it.
func (c *KeysRotate) Run(env *Env) error {
	if c.Grace < 0 {
		return usageError{errors.New("--grace: less than no time")}
	}
	var now access.Kept
	var secret string
	err := changeKey(env, c.Config, c.Key, func(k *access.Kept) (err error) {
		secret, err = k.Rotate(time.Now(), c.Grace)
		now = *k
		return err
	})
	if err != nil {
		return err
	}
	file, _, err := env.load(c.Config)
	if err != nil {
		return err
	}
	return tellKey(env, &now, secret, keysPath(file), c.JSON)
}

// changeKey changes one key of the file.
func changeKey(env *Env, flag, name string, change func(*access.Kept) error) error {
	file, _, err := env.load(flag)
	if err != nil {
		return err
	}
	for i := range file.Keys {
		if file.Keys[i].Grant.ID == name {
			return fmt.Errorf("%s is a key of proxy.keys: change it there", name)
		}
	}
	return access.Update(keysPath(file), func(f *access.File) error {
		k, err := f.Find(name)
		if err != nil {
			return fmt.Errorf("%w (nearside keys list --all)", err)
		}
		return change(k)
	})
}

// reportKeys prints the keys that clients may present, and what is wrong with them.
func reportKeys(w io.Writer, file *config.Config, snap *proxy.Snapshot) {
	all, err := listKeys(file, time.Now())
	if err != nil {
		fmt.Fprintf(w, "\nclients' keys: %v\n", err)
		return
	}
	var rows [][]string
	for _, k := range all {
		if k.State == "valid" {
			rows = append(rows, []string{k.ID, orDash(k.Name), orDash(strings.Join(k.May, ", ")), orDash(strings.Join(k.Limits, ", "))})
		}
	}
	if len(rows) > 0 {
		fmt.Fprintln(w, "\nclients' keys:")
		table(w, "  ", rows)
	}
	for _, g := range snap.Config.Keys.Grants() {
		for _, m := range g.Models {
			if !meant(snap, m) {
				fmt.Fprintf(w, "  warning: the key %s may ask for %q, which is no chain, alias or model here\n", g.Name(), m)
			}
		}
		if _, err := snap.Catalog.Resolve(g.DefaultChain, catalog.ResolveOptions{Ready: snap.Ready}); g.DefaultChain != "" && err != nil {
			fmt.Fprintf(w, "  warning: what default means for the key %s: %v\n", g.Name(), err)
		}
	}
}

// meant says whether what a key lists of models is anything: a name, or a pattern of
// names.
func meant(snap *proxy.Snapshot, model string) bool {
	if !strings.Contains(model, "*") {
		_, err := snap.Catalog.Resolve(model, catalog.ResolveOptions{Ready: snap.Ready})
		return err == nil
	}
	for _, e := range snap.Catalog.List() {
		if catalog.Matches(strings.ToLower(strings.TrimSpace(model)), strings.ToLower(e.ID)) {
			return true
		}
	}
	return false
}
