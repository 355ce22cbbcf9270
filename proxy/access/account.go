package access

import (
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"
)

// Accounts are what the keys have used, by id. They outlive the tables: a key that
// comes back finds its account. It is safe for concurrent use.
type Accounts struct {
	mu    sync.RWMutex
	of    map[string]*account
	now   func() time.Time
	dirty chan struct{} // holds one when something was used that is not kept yet
}

// accountsMax bounds the accounts: ids come from configurations, of which there may
// be many over the time.
const accountsMax = 2 * keysMax

// NewAccounts returns accounts of which nothing was used. now is nil for the
// system's clock.
func NewAccounts(now func() time.Time) *Accounts {
	if now == nil {
		now = time.Now
	}
	return &Accounts{of: map[string]*account{}, now: now, dirty: make(chan struct{}, 1)}
}

// account is what one key uses. Its numbers never grow beyond what its limits say,
// but by what requests use that were let in.
type account struct {
	mu       sync.Mutex // guards all below
	used     time.Time  // last
	running  int
	requests bucket
	tokens   bucket
	day      period
	month    period
	held     amount // by requests that run
	paying   int    // those of them that hold money
}

// amount is what a request uses, or is reckoned to.
type amount struct {
	usd    float64
	tokens int64
}

// period is what was used in a day or a month.
type period struct {
	n     int // 20261125 or 202611
	spent amount
}

// roll begins a new period. A clock that is set back begins none: what was spent
// stays spent.
func (p *period) roll(n int) {
	if n > p.n {
		*p = period{n: n}
	}
}

// bucket holds what may be used at once; it fills within a minute.
type bucket struct {
	left float64
	at   time.Time // when that was so; zero for a full one
}

// fill brings a bucket up to now. perMinute is also what it holds at the most; it
// owes at the most as much.
func (b *bucket) fill(perMinute int, now time.Time) {
	most := float64(perMinute)
	if b.at.IsZero() {
		b.left = most
	} else if d := now.Sub(b.at); d > 0 {
		b.left += most * d.Minutes()
	}
	b.left, b.at = max(min(b.left, most), -most), now
}

// wait is how long until so much is there.
func (b *bucket) wait(need float64, perMinute int) time.Duration {
	if need <= b.left {
		return 0
	}
	return time.Duration(math.Ceil((need-b.left)/float64(perMinute)*60_000)) * time.Millisecond
}

// Ask is what a request is reckoned to use: all that it may.
type Ask struct {
	Tokens int64
	USD    float64 // at the dearest target that it may come to
}

// Hold is what a request that was let in holds of its key's account until it is
// settled. The zero Hold holds nothing.
type Hold struct {
	account *account
	all     *Accounts
	tokens  int64
	bucket  float64 // taken of the bucket of tokens
	usd     float64
}

// Left is how a key stands, for the headers of an answer.
type Left struct {
	Requests, Tokens           int // that could be used at once
	RequestsReset, TokensReset time.Duration
}

// Refusal says why a request is not let in.
type Refusal struct {
	// What is spent: "requests", "tokens", "concurrent", or the "daily" or
	// "monthly" budget of tokens.
	What  string
	Limit int64
	Used  int64
	Need  int64
	Wait  time.Duration // 0 where that is not known
	// Reset is when a budget begins anew; zero for a limit by the minute. Busy says
	// that it is held by requests that run, not spent.
	Reset time.Time
	Busy  bool
}

// Spent says that the money of a budget is spent, or held by requests that run.
type Spent struct {
	Period string // "daily" or "monthly"; empty for not
	Limit  float64
	Used   float64
	Reset  time.Time
	Busy   bool
}

func (a *Accounts) account(id string) *account {
	a.mu.RLock()
	c := a.of[id]
	a.mu.RUnlock()
	if c != nil {
		return c
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if c = a.of[id]; c == nil {
		if len(a.of) >= accountsMax {
			for id, old := range a.of {
				if old.idle() {
					delete(a.of, id)
					break
				}
			}
		}
		c = new(account)
		a.of[id] = c
	}
	return c
}

func (c *account) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running == 0
}

// Enter lets a request of a key in, or says why not. It holds what the request is
// reckoned to use, in one step with the look at what is left, so that requests that
// come at once do not each find the same rest. Where only the money is spent the
// request is let in and spent says so: targets with a price are not for it then.
//
// A budget of which anything is left lets one request in whatever it is reckoned
// at, as long as no other holds anything: so a budget is overdrawn at the most by
// what the requests that run use beyond what they were reckoned at.
func (a *Accounts) Enter(g *Grant, ask Ask) (h Hold, left Left, no *Refusal, spent Spent) {
	now := a.now()
	c := a.account(g.ID)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used = now
	a.changed()
	h = Hold{account: c, all: a}
	l := &g.Limits
	if !l.Limited() {
		c.running++
		return h, left, nil, spent
	}
	c.roll(now)
	if l.Concurrent > 0 && c.running >= l.Concurrent {
		no = &Refusal{What: "concurrent", Limit: int64(l.Concurrent), Used: int64(c.running), Need: 1, Wait: time.Second}
	}
	if l.RequestsPerMinute > 0 {
		if c.requests.fill(l.RequestsPerMinute, now); no == nil && c.requests.left < 1 {
			no = &Refusal{What: "requests", Limit: int64(l.RequestsPerMinute), Need: 1, Wait: c.requests.wait(1, l.RequestsPerMinute)}
			no.Used = no.Limit - int64(max(c.requests.left, 0))
		}
	}
	if l.TokensPerMinute > 0 {
		c.tokens.fill(l.TokensPerMinute, now)
		// What is larger than all that the bucket holds waits for a full one.
		h.bucket = min(float64(ask.Tokens), float64(l.TokensPerMinute))
		if no == nil && c.tokens.left < h.bucket {
			no = &Refusal{What: "tokens", Limit: int64(l.TokensPerMinute), Need: ask.Tokens, Wait: c.tokens.wait(h.bucket, l.TokensPerMinute)}
			no.Used = no.Limit - int64(max(c.tokens.left, 0))
		}
	}
	if no == nil {
		no = c.budget("daily", l.Daily.Tokens, &c.day, ask.Tokens, now)
	}
	if no == nil {
		no = c.budget("monthly", l.Monthly.Tokens, &c.month, ask.Tokens, now)
	}
	if no != nil {
		return Hold{}, c.left(l), no, spent
	}
	if ask.USD > 0 {
		if spent = c.money("daily", l.Daily.USD, &c.day, ask.USD, now); spent.Period == "" {
			spent = c.money("monthly", l.Monthly.USD, &c.month, ask.USD, now)
		}
		if spent.Period == "" {
			h.usd = ask.USD
			c.paying++
		}
	}
	h.tokens = ask.Tokens
	c.requests.left--
	c.tokens.left -= h.bucket
	c.held.tokens += h.tokens
	c.held.usd += h.usd
	c.running++
	return h, c.left(l), nil, spent
}

// fits says whether what a request is reckoned at may be used beside what is spent
// and held.
func fits[N int64 | float64](limit, spent, held, need N) bool {
	return limit <= 0 || spent < limit && (held == 0 || spent+held+need <= limit)
}

func (c *account) budget(name string, limit int64, p *period, need int64, now time.Time) *Refusal {
	if fits(limit, p.spent.tokens, c.held.tokens, need) {
		return nil
	}
	no := &Refusal{What: name, Limit: limit, Used: p.spent.tokens, Need: need, Reset: resets(name, now), Busy: p.spent.tokens < limit}
	if no.Busy {
		no.Used, no.Wait = no.Used+c.held.tokens, time.Second
	}
	return no
}

func (c *account) money(name string, limit float64, p *period, need float64, now time.Time) Spent {
	if fits(limit, p.spent.usd, c.held.usd, need) {
		return Spent{}
	}
	s := Spent{Period: name, Limit: limit, Used: p.spent.usd, Reset: resets(name, now), Busy: p.spent.usd < limit}
	if s.Busy {
		s.Used += c.held.usd
	}
	return s
}

// roll begins new periods.
func (c *account) roll(now time.Time) {
	y, m, d := now.Local().Date()
	c.day.roll((y*100+int(m))*100 + d)
	c.month.roll(y*100 + int(m))
}

// resets is when a budget begins anew: days and months are those of this machine's
// clock.
func resets(name string, now time.Time) time.Time {
	y, m, d := now.Local().Date()
	if name == "daily" {
		return time.Date(y, m, d+1, 0, 0, 0, 0, time.Local)
	}
	return time.Date(y, m+1, 1, 0, 0, 0, 0, time.Local)
}

func (c *account) left(l *Limits) (left Left) {
	if n := l.RequestsPerMinute; n > 0 {
		left.Requests, left.RequestsReset = int(max(c.requests.left, 0)), c.requests.wait(float64(n), n)
	}
	if n := l.TokensPerMinute; n > 0 {
		left.Tokens, left.TokensReset = int(max(c.tokens.left, 0)), c.tokens.wait(float64(n), n)
	}
	return left
}

// Settle ends a request: what it has used is spent, what it held beyond it is given
// back. A second call does nothing.
func (h *Hold) Settle(tokens int64, usd float64) {
	c := h.account
	if c == nil {
		return
	}
	c.mu.Lock()
	c.running--
	c.held.tokens -= h.tokens
	if h.usd > 0 {
		c.held.usd -= h.usd
		if c.paying--; c.paying == 0 {
			c.held.usd = 0 // what sums of fractions leave
		}
	}
	if h.bucket > 0 || tokens > 0 {
		c.tokens.left += h.bucket - float64(tokens) // fill bounds it
	}
	c.roll(h.all.now())
	for _, p := range []*period{&c.day, &c.month} {
		p.spent.tokens += tokens
		p.spent.usd += usd
	}
	c.mu.Unlock()
	h.all.changed()
	*h = Hold{}
}

// Refund ends a request that was only looked at: it has not been.
func (h *Hold) Refund() {
	if c := h.account; c != nil {
		c.mu.Lock()
		c.requests.left++
		c.mu.Unlock()
		h.Settle(0, 0)
	}
}

// Open says whether there is anything to settle.
func (h *Hold) Open() bool { return h.account != nil }

// Error says it to a client, and what would help.
func (r *Refusal) Error(name string) string {
	switch {
	case r.What == "concurrent":
		return fmt.Sprintf("Rate limit reached for the key %s: it has %d requests at once, and may have %d. Try again when one of them has ended.", name, r.Used, r.Limit)
	case r.Busy:
		return fmt.Sprintf("What is left of the %s budget of the key %s (%d tokens) is held by its requests that run: %d of it, and this one is reckoned at %d. Try again when one of them has ended.", r.What, name, r.Limit, r.Used, r.Need)
	case !r.Reset.IsZero():
		return fmt.Sprintf("The %s budget of the key %s is spent: %d of %d tokens. It begins anew at %s.", r.What, name, r.Used, r.Limit, r.Reset.Format(time.RFC3339))
	}
	unit := map[string]string{"requests": "requests per min (RPM)", "tokens": "tokens per min (TPM)"}[r.What]
	return fmt.Sprintf("Rate limit reached for the key %s on %s: Limit %d, Used %d, Requested %d. Please try again in %s.", name, unit, r.Limit, r.Used, r.Need, r.Wait)
}

// String says it, for a plan.
func (s Spent) String() string {
	of := "$" + strconv.FormatFloat(s.Used, 'f', 4, 64) + " of $" + strconv.FormatFloat(s.Limit, 'f', -1, 64)
	if s.Busy {
		return "it has a price, and what is left of the key's " + s.Period + " budget is held by its requests that run (" + of + ")"
	}
	return "it has a price, and the key's " + s.Period + " budget is spent (" + of + ") until " + s.Reset.Format(time.RFC3339)
}
