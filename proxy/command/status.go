package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-json"
	"github.com/mattn/go-isatty"

	"nearside/proxy"
)

// Status shows a running proxy's backends, live.
type Status struct {
	Health
	Every time.Duration `short:"n" default:"2s" help:"How often to look again, on a terminal."`
	Once  bool          `short:"1" help:"Print once, also on a terminal."`
	JSON  bool          `help:"Print /proxy/status as it is, once."`
	Key   string        `placeholder:"KEY" help:"An operator's key, or one that sees all, where the proxy asks for keys. Without it $$NEARSIDE_KEY."`
	env   *Env
}

// Help teaches what status does.
func (Status) Help() string {
	return `Shows what a running proxy knows: what a request for "default" would do now, the state
of each backend and why, breakers and until when, learned rates, what is under way, and
how attempts failed since the start. On a terminal it refreshes until Ctrl-C.

	nearside status
	nearside status --url http://192.168.1.20:4141
	nearside status --json | jq .default

Exit codes: 0 the proxy answered; 1 it cannot be reached; 2 bad flags.`
}

// statusBytesMax bounds the answer that is read.
const statusBytesMax = 8 << 20

// statusEveryMin keeps the view from asking without a pause.
const statusEveryMin = 200 * time.Millisecond

// Run prints once, or until it is stopped.
func (c *Status) Run(env *Env) error {
	c.operator = true
	base, insecure, err := c.base(env)
	if err != nil {
		return err
	}
	ctx, stop := env.context()
	defer stop()
	c.env = env
	client := directClient(insecure, c.pair)
	defer client.CloseIdleConnections()
	out, terminal := env.Stdout.(*os.File)
	terminal = terminal && isatty.IsTerminal(out.Fd())
	if c.JSON || c.Once || !terminal {
		raw, err := c.fetch(ctx, client, base)
		if err != nil {
			return err
		}
		if c.JSON {
			_, err = env.Stdout.Write(raw)
			return err
		}
		return printStatus(env.Stdout, base, raw)
	}
	return c.watch(ctx, env.Stdout, client, base)
}

// watch shows the status again and again on a terminal. A proxy that is away is
// said to be, and waited for.
func (c *Status) watch(ctx context.Context, w io.Writer, client *http.Client, base string) error {
	// Without ?7 the terminal cuts a line at its edge instead of wrapping it, so
	// that each has a row and none scrolls the first away.
	const enter, leave = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
	fmt.Fprint(w, enter)
	defer fmt.Fprint(w, leave)
	tick := time.NewTicker(max(c.Every, statusEveryMin))
	defer tick.Stop()
	for {
		var b strings.Builder
		raw, err := c.fetch(ctx, client, base)
		if err == nil {
			err = printStatus(&b, base, raw)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			b.Reset()
			fmt.Fprintf(&b, "%v\nasking again every %v; Ctrl-C ends\n", err, max(c.Every, statusEveryMin))
		}
		fmt.Fprint(w, frame(b.String()))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// frame puts each line of a text in its row of the terminal, from the top, and
// clears what stood there. Lines beyond the last row are written over it and over
// each other: nothing scrolls, and the last line is seen.
func frame(text string) string {
	var b strings.Builder
	row := 0
	for line := range strings.Lines(text) {
		row++
		fmt.Fprintf(&b, "\x1b[%dH\x1b[2K%s", row, strings.TrimSuffix(line, "\n"))
	}
	return b.String() + "\x1b[J"
}

func (c *Status) fetch(ctx context.Context, client *http.Client, base string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	at := base + "/proxy/status"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, usageError{fmt.Errorf("--url: %w", err)}
	}
	c.env.authorize(req, c.Key)
	resp, err := client.Do(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, fmt.Errorf("%s: no answer within %v", at, c.Timeout)
		}
		return nil, fmt.Errorf("%s: %w (is nearside running there?)", at, inner(err))
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, statusBytesMax))
	switch {
	case err != nil:
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		err = fmt.Errorf("%s answers %s: say an operator's key with --key or $NEARSIDE_KEY (nearside keys add NAME --operator)", at, resp.Status)
	case resp.StatusCode != http.StatusOK:
		err = fmt.Errorf("%s answers %s", at, resp.Status)
	}
	return raw, err
}

// printStatus writes a status for people. What backends said is in it: it must
// not steer the terminal.
func printStatus(to io.Writer, base string, raw []byte) error {
	var st proxy.Status
	if err := json.Unmarshal(raw, &st); err != nil {
		return fmt.Errorf("%s/proxy/status: what came is no status of this version: %w", base, err)
	}
	w := new(strings.Builder)
	fmt.Fprintf(w, "nearside %s at %s   %s   up %s   %d in flight\n", st.Version, base, st.State, span(st.At.Sub(st.Started)), len(st.InFlight)+st.More)
	if n := st.Network; n.State == "down" {
		fmt.Fprintf(w, "this machine's own network is down since %s: %s; far targets are passed over until %s\n", n.Since.UTC().Format(time.RFC3339), n.Cause, n.Until.UTC().Format(time.RFC3339))
	}
	if st.Config != nil && !st.Config.OK {
		fmt.Fprintf(w, "the configuration's last change was not taken over: %s\n", strings.Join(st.Config.Problems, "; "))
	}
	printDefault(w, &st.Default)
	section(w, "backends", backendRows(&st))
	section(w, "endpoints", endpointStatusRows(&st))
	section(w, "queues", queueRows(&st))
	section(w, "keys", keyRows(&st))
	section(w, "clients' keys", clientKeyRows(&st))
	section(w, "targets", targetRows(&st))
	section(w, "in flight", flightRows(&st))
	section(w, "failures since the start", failureRows(&st))
	_, err := io.WriteString(to, strings.Map(func(r rune) rune {
		if r != '\n' && unicode.IsControl(r) {
			return '?'
		}
		return r
	}, w.String()))
	return err
}

func printDefault(w io.Writer, p *proxy.StatusPlan) {
	if p.First == "" {
		fmt.Fprintf(w, "default: %s\n", p.Why) // a sentence, which a client would be told
	} else {
		fmt.Fprintf(w, "default: %s (%s)\n", p.First, p.Route)
	}
	var rows [][]string
	for _, s := range p.Steps {
		mark := "next"
		switch {
		case s.Skip:
			mark = "skipped"
		case s.Ref == p.First:
			mark = "asked"
		}
		rows = append(rows, []string{mark, s.Ref, s.Route, s.Reason})
	}
	table(w, "  ", rows)
}

// section prints a table under a title, unless it is empty.
func section(w io.Writer, title string, rows [][]string) {
	if len(rows) < 2 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", strings.ToUpper(title))
	table(w, "  ", rows)
}

func backendRows(st *proxy.Status) [][]string {
	rows := [][]string{{"provider", "where", "software", "state", "for", "models", "breaker", "why"}}
	for _, b := range st.Backends {
		rows = append(rows, []string{b.Provider, b.Route, orDash(string(b.Kind)), b.State, since(b.Since, st.At), strconv.Itoa(b.Models), breakerText(b.Breaker, st.At), b.Detail})
	}
	return rows
}

// queueRows lists the queues of providers whose slots are known, or in which somebody
// waits.
func queueRows(st *proxy.Status) [][]string {
	rows := [][]string{{"queue", "served", "who says so", "waiting", "longest", "a request takes", "by key (served+waiting)", "loaded"}}
	for _, b := range st.Backends {
		if q := b.Queue; q != nil && (q.Slots > 0 || q.Waiting > 0 || q.Resident > 0) {
			takes, longest, served := "-", "-", strconv.Itoa(q.Running)
			if q.Slots > 0 {
				served = fmt.Sprintf("%d of %d", q.Running, q.Slots)
			}
			if q.Waiting > 0 {
				longest = span(time.Duration(q.Oldest * float64(time.Second)))
			}
			if q.Service > 0 {
				takes = span(time.Duration(q.Service * float64(time.Second)))
			}
			rows = append(rows, []string{b.Provider, served, q.From, strconv.Itoa(q.Waiting), longest, takes, keyShares(q), orDash(strings.Join(q.Loaded, ", "))})
		}
	}
	return rows
}

// keyShares names the clients' keys that have something in a queue.
func keyShares(q *proxy.StatusQueue) string {
	var all []string
	for i, k := range q.Keys {
		if i == 4 {
			all = append(all, "…")
			break
		}
		name := k.Key
		if name == "" {
			name = "without one"
		}
		all = append(all, fmt.Sprintf("%s %d+%d", name, k.Running, k.Waiting))
	}
	return orDash(strings.Join(all, ", "))
}

// endpointStatusRows lists the endpoints of providers that have several.
func endpointStatusRows(st *proxy.Status) [][]string {
	rows := [][]string{{"endpoint", "url", "state", "in flight", "weight", "breaker", "why"}}
	for _, b := range st.Backends {
		for _, e := range b.Endpoints {
			weight := strconv.FormatFloat(e.Now, 'g', 3, 64) + " of " + strconv.FormatFloat(e.Weight, 'g', -1, 64)
			why := e.Detail
			if e.Penalty > 0 {
				why = strings.TrimPrefix(why+"; failures count as "+strconv.FormatFloat(e.Penalty, 'f', 1, 64)+" requests in flight", "; ")
			}
			state := orDash(e.State)
			switch {
			case e.Paused != nil:
				state, why = "paused", "since "+e.Paused.Since.Format(time.TimeOnly)+" (nearside resume "+b.Provider+"@"+e.Name+")"
			case e.Drain:
				state = "drained"
			}
			rows = append(rows, []string{b.Provider + "@" + e.Name, e.URL, state, strconv.FormatInt(e.InFlight, 10), weight, breakerText(e.Breaker, st.At), why})
		}
	}
	return rows
}

func keyRows(st *proxy.Status) [][]string {
	rows := [][]string{{"provider", "key", "state", "why", "for"}}
	for _, b := range st.Backends {
		for _, k := range b.Keys {
			left := "-"
			if k.Until.After(st.At) {
				left = span(k.Until.Sub(st.At))
			}
			why := orDash(k.Reason)
			if k.Model != "" {
				why += " (" + k.Model + " alone)"
			}
			rows = append(rows, []string{b.Provider, k.Key, k.State, why, left})
		}
	}
	return rows
}

// clientKeyRows lists the keys of clients, with what they have used.
func clientKeyRows(st *proxy.Status) [][]string {
	rows := [][]string{{"key", "id", "running", "last used", "today", "this month", "limits"}}
	for _, k := range st.Clients {
		rows = append(rows, []string{k.Name, k.ID, strconv.Itoa(k.Running), since(k.Last, st.At), spentText(k.DayUSD, k.DayTokens), spentText(k.MonthUSD, k.MonthTokens), orDash(strings.Join(k.Limits, ", "))})
	}
	return rows
}

func targetRows(st *proxy.Status) [][]string {
	rows := [][]string{{"target", "state", "waiting", "breaker", "prefill tok/s", "load", "warm", "why"}}
	for _, t := range st.Targets {
		rows = append(rows, []string{t.Ref, t.State, strconv.FormatInt(t.Waiting, 10), breakerText(t.Breaker, st.At), rate(t.Prefill), loadText(t.Load), t.Warm.Text(st.At), t.Why})
	}
	return rows
}

func flightRows(st *proxy.Status) [][]string {
	rows := [][]string{{"request", "asked for", "dialect", "since"}}
	for _, f := range st.InFlight {
		rows = append(rows, []string{f.ID, orDash(f.Requested), f.Dialect, span(time.Duration(f.Seconds * float64(time.Second)))})
	}
	if st.More > 0 {
		rows = append(rows, []string{fmt.Sprintf("… %d more", st.More)})
	}
	return rows
}

// failureRowsMax is how many kinds of failure are printed; --json has all.
const failureRowsMax = 12

func failureRows(st *proxy.Status) [][]string {
	rows := [][]string{{"target", "outcome", "times", "last", "what was said"}}
	for i, f := range st.Failures {
		if i == failureRowsMax {
			rows = append(rows, []string{fmt.Sprintf("… %d more (--json)", len(st.Failures)-i)})
			break
		}
		rows = append(rows, []string{f.Ref, f.Outcome, strconv.Itoa(f.Count), span(st.At.Sub(f.Last)) + " ago", short(f.Reason, 80)})
	}
	return rows
}

func breakerText(b *proxy.StatusBreaker, now time.Time) string {
	switch {
	case b == nil:
		return "closed"
	case b.State == "closed":
		return "closed, " + count(b.Consecutive, "failure")
	case b.Until.After(now):
		return b.State + " for " + span(b.Until.Sub(now))
	}
	return b.State
}

func rate(perSecond float64) string {
	if perSecond <= 0 {
		return "-"
	}
	return strconv.FormatFloat(perSecond, 'f', 0, 64)
}

// since is how long ago a moment was.
func since(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return span(now.Sub(t))
}

// loadText is how long a model takes to load, in seconds.
func loadText(seconds float64) string {
	if seconds <= 0 {
		return "-"
	}
	return span(time.Duration(seconds * float64(time.Second)))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// short cuts a text to one line of at most so many characters.
func short(s string, most int) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// span writes a duration as people say it, to two units.
func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return strconv.Itoa(int(d.Hours()/24)) + "d"
}
