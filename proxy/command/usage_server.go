package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"nearside/proxy"
	"nearside/proxy/ledger"
)

const (
	// usageBytesMax bounds an answer that is read.
	usageBytesMax = 32 << 20
	// usageRowsMost is what a proxy gives at the most at once.
	usageRowsMost = 10_000
)

// usageServer is a running proxy that is asked for its account.
type usageServer struct {
	base    string
	key     string
	client  *http.Client
	timeout time.Duration
	env     *Env
}

func (u *usageServer) Close() error {
	u.client.CloseIdleConnections()
	return nil
}

// Usage asks GET /proxy/usage.
func (u *usageServer) Usage(ctx context.Context, q ledger.Query) (*ledger.Usage, error) {
	out := new(ledger.Usage)
	return out, u.get(ctx, "/proxy/usage", u.query(q), out)
}

// Lines asks GET /proxy/usage/rows, and says so when there are more rows than it
// gives.
func (u *usageServer) Lines(ctx context.Context, q ledger.Query, f func(ledger.Line) error) error {
	values := u.query(q)
	values.Set("limit", fmt.Sprint(usageRowsMost))
	var out proxy.UsageRows
	if err := u.get(ctx, "/proxy/usage/rows", values, &out); err != nil {
		return err
	}
	for _, r := range slices.Backward(out.Rows) {
		if err := f(r); err != nil {
			return err
		}
	}
	if out.More {
		fmt.Fprintf(u.env.Stderr, "nearside: these are the newest %d rows; ask for a shorter time, or read the file for all of them\n", usageRowsMost)
	}
	return nil
}

func (u *usageServer) query(q ledger.Query) url.Values {
	values := url.Values{"by": {strings.Join(q.By, ",")}, "since": {"all"}}
	if !q.Since.IsZero() {
		values.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	if !q.Until.IsZero() {
		values.Set("until", q.Until.UTC().Format(time.RFC3339Nano))
	}
	if q.Key != nil {
		values.Set("key", *q.Key)
	}
	if name := q.Zone.String(); name != "Local" { // else days are those of the proxy
		values.Set("zone", name)
	}
	return values
}

func (u *usageServer) get(ctx context.Context, path string, values url.Values, to any) error {
	ctx, cancel := context.WithTimeout(ctx, u.timeout)
	defer cancel()
	at := u.base + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at+"?"+values.Encode(), nil)
	if err != nil {
		return usageError{fmt.Errorf("--url: %w", err)}
	}
	u.env.authorize(req, u.key)
	resp, err := u.client.Do(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("%s: no answer within %v", at, u.timeout)
		}
		return fmt.Errorf("%s: %w (is nearside running there?)", at, inner(err))
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, usageBytesMax))
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	if resp.StatusCode != http.StatusOK {
		var said struct{ Error struct{ Message string } }
		if json.Unmarshal(raw, &said) == nil && said.Error.Message != "" {
			return fmt.Errorf("%s answers %s: %s", at, resp.Status, printableText(said.Error.Message))
		}
		return fmt.Errorf("%s answers %s", at, resp.Status)
	}
	if err := json.Unmarshal(raw, to); err != nil {
		return fmt.Errorf("%s: what came is no usage of this version: %w", at, err)
	}
	return nil
}
