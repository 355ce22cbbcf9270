package command

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"nearside/proxy/ledger"
)

// Usage prints what was used and what it cost.
type Usage struct {
	ConfigFlag
	By    string `default:"model" placeholder:"GROUPS" help:"What to sum by, separated by commas: key, model, requested, provider, route, outcome, day, hour; none for one sum."`
	Since string `default:"30d" placeholder:"TIME" help:"From when: a date (2026-01-31), a moment (2026-01-31T12:00), or how long ago (24h, 30d); all for the first."`
	Until string `placeholder:"TIME" help:"To when, exclusive; as --since."`
	Key   string `placeholder:"ID" help:"Of one key only."`
	Rows  bool   `help:"The rows themselves instead of sums; with --json one a line, else CSV."`
	JSON  bool   `xor:"format" help:"As JSON."`
	CSV   bool   `xor:"format" help:"As CSV."`
	File  string `placeholder:"FILE" help:"The ledger. Without it: ledger.db in the data folder of the configuration."`
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

Exit codes: 0; 1 there is no ledger or it cannot be read; 2 bad flags.`
}

// Run prints.
func (c *Usage) Run(env *Env) error {
	q, err := c.query(time.Now())
	if err != nil {
		return usageError{err}
	}
	path := c.File
	if path == "" {
		file, _, err := env.load(c.Config)
		if err != nil {
			return err
		}
		path = filepath.Join(file.Proxy.DataDir, ledgerFile)
	}
	ctx, stop := env.context()
	defer stop()
	l, err := ledger.OpenReader(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no ledger at %s: it is kept while nearside serves with proxy.ledger.keep: true", path)
	}
	if err != nil {
		return err
	}
	defer l.Close()
	if c.Rows {
		out := csv.NewWriter(env.Stdout)
		if !c.JSON {
			_ = out.Write(rowHeader)
		}
		err := l.Rows(ctx, q, func(r ledger.Row) error {
			if c.JSON {
				line, err := json.MarshalWithOption(newUsageRow(&r), json.DisableHTMLEscape())
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
	sums, err := l.Sums(ctx, q)
	if err != nil {
		return err
	}
	switch {
	case c.JSON:
		return env.json(usageOut{By: q.By, Since: q.Since, Until: q.Until, Sums: sums})
	case c.CSV:
		return c.csv(env, q.By, sums)
	}
	total, err := l.Sums(ctx, ledger.Query{Since: q.Since, Until: q.Until, Key: q.Key})
	if err != nil {
		return err
	}
	c.table(env, q.By, sums, total)
	return nil
}

type usageOut struct {
	By    []string     `json:"by"`
	Since time.Time    `json:"since,omitzero"`
	Until time.Time    `json:"until,omitzero"`
	Sums  []ledger.Sum `json:"sums"`
}

// query reads the flags.
func (c *Usage) query(now time.Time) (q ledger.Query, err error) {
	for _, by := range strings.Split(c.By, ",") {
		by = strings.ToLower(strings.TrimSpace(by))
		if by == "" || by == "none" {
			continue
		}
		known := false
		for _, g := range ledger.Groups {
			known = known || g == by
		}
		if !known {
			return q, fmt.Errorf("--by %s: it must be some of %s", by, strings.Join(ledger.Groups, ", "))
		}
		q.By = append(q.By, by)
		q.ByTime = q.ByTime || by == "day" || by == "hour"
	}
	if q.Since, err = moment(c.Since, now); err != nil {
		return q, fmt.Errorf("--since: %w", err)
	}
	if q.Until, err = moment(c.Until, now); err != nil {
		return q, fmt.Errorf("--until: %w", err)
	}
	if !q.Until.IsZero() && !q.Since.Before(q.Until) {
		return q, fmt.Errorf("--until %s is not after --since %s", c.Until, c.Since)
	}
	if c.Key != "" {
		q.Key = &c.Key
	}
	return q, nil
}

// moment reads a time as people write it: the zero time for "all" and nothing.
func moment(text string, now time.Time) (time.Time, error) {
	text = strings.TrimSpace(text)
	if text == "" || text == "all" {
		return time.Time{}, nil
	}
	for _, layout := range []string{"2006-01-02", "2006-01-02T15:04", "2006-01-02 15:04", time.RFC3339} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 && n < 1e5 {
			return now.Add(-time.Duration(n * 24 * float64(time.Hour))), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%q is no date (2026-01-31), moment (2026-01-31T12:00) nor how long ago (24h, 30d)", text)
}

// table prints sums for people.
func (c *Usage) table(env *Env, by []string, sums, total []ledger.Sum) {
	if len(total) == 0 || total[0].Exchanges == 0 {
		fmt.Fprintln(env.Stdout, "nothing was asked in this time")
		return
	}
	head := append(append([]string{}, by...), "exchanges", "failed", "far", "input", "cached", "output", "cost", "saved")
	rows := [][]string{head}
	line := func(s *ledger.Sum, group []string) {
		cells := make([]string, 0, len(head))
		for _, g := range group {
			cells = append(cells, orDash(g))
		}
		rows = append(rows, append(cells, number(s.Exchanges), number(s.Failed), number(s.Far), number(s.Input), number(s.Cached), number(s.Output), dollars(s.Cost), dollars(s.Saved)))
	}
	for i := range sums {
		line(&sums[i], sums[i].Group)
	}
	if len(by) > 0 && len(sums) > 1 {
		all := make([]string, len(by))
		all[0] = "all"
		line(&total[0], all)
	}
	table(env.Stdout, "", rows)
	if n := total[0].Estimated; n > 0 {
		fmt.Fprintf(env.Stdout, "of %s the backend did not say the tokens: what is summed for them is an estimate\n", count(int(n), "answer"))
	}
}

func (c *Usage) csv(env *Env, by []string, sums []ledger.Sum) error {
	out := csv.NewWriter(env.Stdout)
	_ = out.Write(append(append([]string{}, by...), "exchanges", "failed", "far", "input", "output", "cached", "cache_write", "reasoning", "estimated", "cost_usd", "saved_usd"))
	for _, s := range sums {
		_ = out.Write(append(append([]string{}, s.Group...), whole(s.Exchanges), whole(s.Failed), whole(s.Far), whole(s.Input), whole(s.Output), whole(s.Cached), whole(s.CacheWrite),
			whole(s.Reasoning), whole(s.Estimated), precise(s.Cost), precise(s.Saved)))
	}
	out.Flush()
	return out.Error()
}

// usageRow is a row as JSON.
type usageRow struct {
	At        time.Time `json:"at"`
	ID        string    `json:"request_id"`
	Key       string    `json:"key"`
	Requested string    `json:"requested"`
	Ref       string    `json:"model"`
	Provider  string    `json:"provider"`
	Route     string    `json:"route"`
	Dialect   string    `json:"dialect"`
	Stream    bool      `json:"stream"`
	Status    int       `json:"status"`
	Outcome   string    `json:"outcome"`
	Code      string    `json:"code"`
	Input     int64     `json:"input"`
	Output    int64     `json:"output"`
	Cached    int64     `json:"cached"`
	Written   int64     `json:"cache_write"`
	Reasoning int64     `json:"reasoning"`
	Reported  bool      `json:"usage_reported"`
	Estimated bool      `json:"usage_estimated"`
	Cost      float64   `json:"cost_usd"`
	Saved     float64   `json:"saved_usd"`
	Queued    float64   `json:"queued_ms"`
	First     float64   `json:"first_content_ms"`
	Took      float64   `json:"took_ms"`
	GapP50    float64   `json:"gap_p50_ms"`
	GapP95    float64   `json:"gap_p95_ms"`
	Attempts  int       `json:"attempts"`
	Trail     string    `json:"trail"`
}

func newUsageRow(r *ledger.Row) usageRow {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return usageRow{r.At, r.ID, r.Key, r.Requested, r.Ref, r.Provider, r.Route, r.Dialect, r.Stream, r.Status, r.Outcome, r.Code, r.Input, r.Output, r.Cached, r.CacheWrite,
		r.Reasoning, r.Reported, r.Estimated, r.Cost, r.Saved, ms(r.Queued), ms(r.First), ms(r.Took), ms(r.GapP50), ms(r.GapP95), r.Attempts, r.Trail}
}

var rowHeader = []string{"at", "request_id", "key", "requested", "model", "provider", "route", "dialect", "stream", "status", "outcome", "code", "input", "output", "cached",
	"cache_write", "reasoning", "usage_reported", "usage_estimated", "cost_usd", "saved_usd", "queued_ms", "first_content_ms", "took_ms", "gap_p50_ms", "gap_p95_ms", "attempts", "trail"}

func rowFields(r *ledger.Row) []string {
	ms := func(d time.Duration) string { return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 3, 64) }
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
