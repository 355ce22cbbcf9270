package command

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-json"

	"nearside/proxy/access"
	"nearside/proxy/ledger"
)

// Usage prints what was used and what it cost.
type Usage struct {
	ConfigFlag
	By      string        `default:"model" placeholder:"GROUPS" help:"What to sum by, separated by commas: key, model, requested, provider, route, outcome, day, hour; none for one sum."`
	Since   string        `default:"30d" placeholder:"TIME" help:"From when: a date (2026-01-31), a moment (2026-01-31T12:00), today, yesterday, month (its first day), or how long ago (24h, 30d); all for the first."`
	Until   string        `placeholder:"TIME" help:"To when, exclusive; as --since."`
	Key     string        `placeholder:"ID" help:"Of one key only."`
	Rows    bool          `help:"The rows themselves instead of sums; with --json one a line, else CSV."`
	JSON    bool          `xor:"format" help:"As JSON."`
	CSV     bool          `xor:"format" help:"As CSV."`
	File    string        `xor:"from" placeholder:"FILE" help:"The ledger. Without it: ledger.db in the data folder of the configuration."`
	URL     string        `xor:"from" placeholder:"URL" help:"Ask the proxy that runs there instead of reading a file."`
	Auth    string        `placeholder:"KEY" help:"With --url: a key of that proxy. It sees what it has used itself, an operator's all. Without it $$NEARSIDE_KEY."`
	Timeout time.Duration `default:"15s" help:"With --url: how long the answer may take."`

	names map[string]string // of keys by their ids, where the file of keys is at hand
}

// Help teaches what usage does.
func (Usage) Help() string {
	return `Reads the ledger of a proxy, which may be running: who asked for what, who answered,
tokens as the backends counted them, what it cost at the catalogue's prices, and what
the near answers would have cost far. Never content.

	nearside usage
	nearside usage --by day,route --since 7d
	nearside usage --by key --since 2026-01-01 --csv > january.csv
	nearside usage --rows --since 1h
	nearside usage --url http://127.0.0.1:4141

Exit codes: 0; 1 there is no ledger or it cannot be read; 2 bad flags.`
}

// Run prints.
func (c *Usage) Run(env *Env) error {
	q, err := ledger.Ask(c.By, c.Since, c.Until, time.Now())
	if err != nil {
		return usageError{fmt.Errorf("--%w", err)}
	}
	if c.Key != "" {
		q.Key = &c.Key
	}
	ctx, stop := env.context()
	defer stop()
	from, err := c.from(env)
	if err != nil {
		return err
	}
	defer from.Close()
	if c.Rows {
		return c.rows(env, func(f func(ledger.Line) error) error { return from.Lines(ctx, q, f) })
	}
	u, err := from.Usage(ctx, q)
	if err != nil {
		return err
	}
	switch {
	case c.JSON:
		return env.json(u)
	case c.CSV:
		return c.csv(env, u)
	}
	c.table(env, u)
	return nil
}

// usageSource is where the account of exchanges is: its file, or a running proxy.
type usageSource interface {
	Usage(ctx context.Context, q ledger.Query) (*ledger.Usage, error)
	Lines(ctx context.Context, q ledger.Query, f func(ledger.Line) error) error
	Close() error
}

type ledgerFileSource struct{ *ledger.Ledger }

func (l ledgerFileSource) Lines(ctx context.Context, q ledger.Query, f func(ledger.Line) error) error {
	return l.Rows(ctx, q, func(r ledger.Row) error { return f(r.Line()) })
}

func (c *Usage) from(env *Env) (usageSource, error) {
	if c.URL != "" {
		base, err := gatewayURL(c.URL)
		if err != nil {
			return nil, err
		}
		return &usageServer{base: base, key: c.Auth, client: directClient(false), timeout: c.Timeout, env: env}, nil
	}
	path := c.File
	if path == "" {
		file, _, err := env.load(c.Config)
		if err != nil {
			return nil, err
		}
		path = filepath.Join(file.Proxy.DataDir, ledgerFile)
		if kept, err := access.ReadFile(keysPath(file)); err == nil { // nearside check says what is wrong with it
			c.names = map[string]string{}
			for i := range kept.Keys {
				c.names[kept.Keys[i].ID] = kept.Keys[i].Label
			}
		}
	}
	l, err := ledger.OpenReader(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no ledger at %s: it is kept while nearside serves, unless proxy.ledger.keep is false", path)
	}
	if err != nil {
		return nil, err
	}
	return ledgerFileSource{l}, nil
}

// rows prints rows, the oldest first.
func (c *Usage) rows(env *Env, each func(func(ledger.Line) error) error) error {
	out := csv.NewWriter(env.Stdout)
	if !c.JSON {
		_ = out.Write(rowHeader)
	}
	err := each(func(r ledger.Line) error {
		if c.JSON {
			line, err := json.MarshalWithOption(r, json.DisableHTMLEscape())
			if err == nil {
				_, err = env.Stdout.Write(append(line, '\n'))
			}
			return err
		}
		return out.Write(rowFields(&r))
	})
	out.Flush()
	return errors.Join(err, out.Error())
}

// table prints sums for people.
func (c *Usage) table(env *Env, u *ledger.Usage) {
	if u.Missing > 0 {
		fmt.Fprintf(env.Stderr, "%v\n", u.Missing)
	}
	if u.Total.Exchanges == 0 {
		fmt.Fprintln(env.Stdout, "nothing was asked in this time")
		return
	}
	head := append(append([]string{}, u.By...), "exchanges", "failed", "far", "input", "cached", "output", "cost", "saved")
	rows := [][]string{head}
	line := func(s *ledger.Sum, group []string) {
		cells := make([]string, 0, len(head))
		for i, g := range group {
			if name := c.names[g]; name != "" && u.By[i] == "key" {
				g = name + " (" + g + ")"
			}
			cells = append(cells, orDash(printableText(g)))
		}
		rows = append(rows, append(cells, number(s.Exchanges), number(s.Failed), number(s.Far), number(s.Input), number(s.Cached), number(s.Output), dollars(s.Cost), dollars(s.Saved)))
	}
	for i := range u.Sums {
		line(&u.Sums[i], u.Sums[i].Group)
	}
	if len(u.By) > 0 && len(u.Sums) > 1 {
		all := make([]string, len(u.By))
		all[0] = "all"
		line(&u.Total, all)
	}
	table(env.Stdout, "", rows)
	shares(env.Stdout, u)
	if n := u.Total.Estimated; n > 0 {
		fmt.Fprintf(env.Stdout, "of %s the backend did not say the tokens: what is summed for them is an estimate\n", count(int(n), "answer"))
	}
}

// shares says how much of the work was done near.
func shares(to io.Writer, u *ledger.Usage) {
	answered := u.Near.Exchanges + u.Far.Exchanges
	if answered == 0 {
		return
	}
	text := fmt.Sprintf("near: %s of the exchanges", share(u.Near.Exchanges, answered))
	if tokens := u.Near.Input + u.Near.Output + u.Far.Input + u.Far.Output; tokens > 0 {
		text += fmt.Sprintf(", %s of the tokens", share(u.Near.Input+u.Near.Output, tokens))
	}
	if u.Total.Saved > 0 || u.Total.Cost > 0 {
		text += fmt.Sprintf("; saved %s, paid %s", dollars(u.Total.Saved), dollars(u.Total.Cost))
	}
	fmt.Fprintln(to, text)
}

// share writes a part of a whole as a percentage that is 0 or 100 only where it is.
func share(part, whole int64) string {
	p := 100 * float64(part) / float64(whole)
	switch {
	case part > 0 && p < 0.1:
		return "<0.1 %"
	case part < whole && p > 99.9:
		return ">99.9 %"
	}
	return strconv.FormatFloat(math.Round(p*10)/10, 'f', -1, 64) + " %"
}

// printableText keeps what clients called things from steering the terminal.
func printableText(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, s)
}

// csv writes sums with a line for all of them, which has "all" where the first
// group stands.
func (c *Usage) csv(env *Env, u *ledger.Usage) error {
	out := csv.NewWriter(env.Stdout)
	_ = out.Write(append(append([]string{}, u.By...), "exchanges", "failed", "far", "input", "output", "cached", "cache_write", "reasoning", "estimated", "cost_usd", "saved_usd"))
	line := func(group []string, s *ledger.Sum) {
		cells := make([]string, 0, len(group)+11)
		for _, g := range group {
			cells = append(cells, cell(g))
		}
		_ = out.Write(append(cells, whole(s.Exchanges), whole(s.Failed), whole(s.Far), whole(s.Input), whole(s.Output), whole(s.Cached), whole(s.CacheWrite),
			whole(s.Reasoning), whole(s.Estimated), precise(s.Cost), precise(s.Saved)))
	}
	for i := range u.Sums {
		line(u.Sums[i].Group, &u.Sums[i])
	}
	if len(u.By) > 0 {
		all := make([]string, len(u.By))
		all[0] = "all"
		line(all, &u.Total)
	}
	out.Flush()
	return out.Error()
}

var rowHeader = []string{"at", "request_id", "key", "requested", "model", "provider", "route", "dialect", "stream", "status", "outcome", "code", "input", "output", "cached",
	"cache_write", "reasoning", "usage_reported", "usage_estimated", "cost_usd", "saved_usd", "queued_ms", "first_content_ms", "took_ms", "gap_p50_ms", "gap_p95_ms", "attempts", "trail"}

func rowFields(r *ledger.Line) []string {
	ms := func(f float64) string { return strconv.FormatFloat(f, 'f', 3, 64) }
	return []string{r.At.Format(time.RFC3339Nano), r.ID, r.Key, cell(r.Requested), cell(r.Ref), r.Provider, r.Route, r.Dialect, strconv.FormatBool(r.Stream), strconv.Itoa(r.Status), r.Outcome,
		r.Code, whole(r.Input), whole(r.Output), whole(r.Cached), whole(r.CacheWrite), whole(r.Reasoning), strconv.FormatBool(r.Reported), strconv.FormatBool(r.Estimated), precise(r.Cost), precise(r.Saved),
		ms(r.Queued), ms(r.First), ms(r.Took), ms(r.GapP50), ms(r.GapP95), strconv.Itoa(r.Attempts), cell(r.Trail)}
}

// cell keeps a client's text from being a formula in a spreadsheet.
func cell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

func whole(n int64) string     { return strconv.FormatInt(n, 10) }
func precise(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// number writes a count with its thousands apart.
func number(n int64) string {
	s := whole(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + " " + s[i:]
	}
	return s
}

// dollars writes an amount of money to the cent, or as far as it takes to see any.
func dollars(f float64) string {
	switch {
	case f == 0:
		return "-"
	case f < 0.01:
		return "$" + strconv.FormatFloat(f, 'g', 2, 64)
	}
	return "$" + strconv.FormatFloat(f, 'f', 2, 64)
}
