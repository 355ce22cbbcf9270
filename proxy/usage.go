package proxy

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"nearside/proxy/ledger"
	"nearside/shaping/wire"
)

const (
	// usageWithin bounds how long a question to the ledger may take.
	usageWithin = 10 * time.Second
	// usageRows are the rows that one question gets where it does not say, and
	// usageRowsMax at the most.
	usageRows, usageRowsMax = 100, 10_000
)

// UsageRows are rows of the ledger, the newest first.
type UsageRows struct {
	Rows []ledger.Line `json:"rows"`
	More bool          `json:"more"` // there are older ones

	Missing ledger.Missing `json:"missing_blocks,omitempty"`
}

// UsageSeries are sums hour by hour or day by day.
type UsageSeries struct {
	By     []string       `json:"by"`
	Step   string         `json:"step"`
	Points []ledger.Point `json:"points"`

	Missing ledger.Missing `json:"missing_blocks,omitempty"`
}

// usage answers GET /proxy/usage: sums of the ledger by groups (by=model), of a
// time (since, until) and a key, as a series with step=hour or day.
func (s *Server) usage(ctx *fasthttp.RequestCtx) {
	q, e := s.asked(ctx)
	if e != nil {
		replyError(ctx, e, 0, false)
		return
	}
	over, cancel := context.WithTimeout(context.Background(), usageWithin)
	defer cancel()
	if step := string(ctx.QueryArgs().Peek("step")); step != "" {
		points, err := s.ledger.Series(over, q, step)
		var missing ledger.Missing
		if err != nil && !errors.As(err, &missing) {
			replyError(ctx, badRequest("invalid_value", "step", err.Error()), 0, false)
			return
		}
		writeJSON(ctx, 200, UsageSeries{By: q.By, Step: step, Points: points, Missing: missing})
		return
	}
	u, err := s.ledger.Usage(over, q)
	if err != nil {
		s.ledgerFails(ctx, err)
		return
	}
	writeJSON(ctx, 200, u)
}

// usageRows answers GET /proxy/usage/rows: the newest rows of a time and a key.
func (s *Server) usageRows(ctx *fasthttp.RequestCtx) {
	q, e := s.asked(ctx)
	n := usageRows
	if text := string(ctx.QueryArgs().Peek("limit")); e == nil && text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 || n > usageRowsMax {
			e = badRequest("invalid_value", "limit", "limit must be a whole number from 1 to "+strconv.Itoa(usageRowsMax))
		}
	}
	if e != nil {
		replyError(ctx, e, 0, false)
		return
	}
	over, cancel := context.WithTimeout(context.Background(), usageWithin)
	defer cancel()
	rows, err := s.ledger.Latest(over, q, n+1)
	var missing ledger.Missing
	if err != nil && !errors.As(err, &missing) {
		s.ledgerFails(ctx, err)
		return
	}
	out := UsageRows{Rows: make([]ledger.Line, 0, min(n, len(rows))), More: len(rows) > n, Missing: missing}
	for i := range rows[:min(n, len(rows))] {
		out.Rows = append(out.Rows, rows[i].Line())
	}
	writeJSON(ctx, 200, out)
}

// asked reads what of the ledger is asked for, and by whom: a key sees what it
// has used itself, unless it may see what others use.
func (s *Server) asked(ctx *fasthttp.RequestCtx) (q ledger.Query, e *wire.Error) {
	if s.ledger == nil {
		return q, &wire.Error{Status: 404, Type: "invalid_request_error", Code: "no_ledger", Message: "no account of exchanges is kept (proxy.ledger.keep)"}
	}
	s.settled()
	args := ctx.QueryArgs()
	now := time.Now()
	if name := string(args.Peek("zone")); name != "" {
		zone, err := time.LoadLocation(name)
		if err != nil {
			return q, badRequest("invalid_value", "zone", "zone must be the name of a time zone, such as Europe/Berlin")
		}
		now = now.In(zone)
	}
	since := "30d"
	if args.Has("since") {
		since = string(args.Peek("since"))
	}
	q, err := ledger.Ask(string(args.Peek("by")), since, string(args.Peek("until")), now)
	if err != nil {
		return q, badRequest("invalid_value", "", err.Error())
	}
	if args.Has("key") {
		key := string(args.Peek("key"))
		q.Key = &key
	}
	if g := grantOf(ctx); !g.Sees() {
		if q.Key != nil && *q.Key != g.ID {
			return q, &wire.Error{Status: 403, Type: "permission_error", Code: "insufficient_permissions",
				Message: "this key sees what it has used itself; what others use needs an operator's key, or one that may see it (nearside keys add --sees-all)"}
		}
		q.Key = &g.ID
	}
	return q, nil
}

func (s *Server) ledgerFails(ctx *fasthttp.RequestCtx, err error) {
	s.log.Error().Err(err).Msg("the ledger could not be read")
	replyError(ctx, &wire.Error{Status: 500, Type: "server_error", Code: "ledger_unreadable", Message: "the account of exchanges could not be read: the log says why"}, 0, false)
}
