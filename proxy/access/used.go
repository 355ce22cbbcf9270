package access

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-json"
)

// Used is what one key has used, as it is kept.
type Used struct {
	Last        time.Time `json:"last_used,omitzero"`
	Day         string    `json:"day,omitempty"` // 2026-11-25
	DayUSD      float64   `json:"day_usd,omitempty"`
	DayTokens   int64     `json:"day_tokens,omitempty"`
	Month       string    `json:"month,omitempty"` // 2026-11
	MonthUSD    float64   `json:"month_usd,omitempty"`
	MonthTokens int64     `json:"month_tokens,omitempty"`
	Running     int       `json:"running,omitempty"`
}

type usedFile struct {
	Version int             `json:"version"`
	Keys    map[string]Used `json:"keys"`
}

// Used returns what each key has used in the day and the month that are now. With
// held, what running requests hold counts as used: whoever forgets them, in a crash,
// has not forgotten what they may have cost.
func (a *Accounts) Used(held bool) map[string]Used {
	now := a.now()
	a.mu.RLock()
	defer a.mu.RUnlock()
	all := make(map[string]Used, len(a.of))
	for id, c := range a.of {
		c.mu.Lock()
		c.roll(now)
		u := Used{Last: c.used.UTC().Truncate(time.Second), Day: dayText(c.day.n), DayUSD: c.day.spent.usd, DayTokens: c.day.spent.tokens,
			Month: monthText(c.month.n), MonthUSD: c.month.spent.usd, MonthTokens: c.month.spent.tokens, Running: c.running}
		if c.used.IsZero() {
			u.Last = time.Time{}
		}
		if held {
			u.DayUSD, u.MonthUSD, u.DayTokens, u.MonthTokens = u.DayUSD+c.held.usd, u.MonthUSD+c.held.usd, u.DayTokens+c.held.tokens, u.MonthTokens+c.held.tokens
			u.Running = 0
		}
		c.mu.Unlock()
		all[id] = u
	}
	return all
}

// ReadUsed reads what was kept; nothing from a file that is not there.
func ReadUsed(path string) (map[string]Used, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("what keys have used: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, fileBytesMax))
	if err != nil {
		return nil, fmt.Errorf("what keys have used: %w", err)
	}
	var file usedFile
	if err := json.Unmarshal(text, &file); err != nil || file.Version != fileVersion {
		return nil, fmt.Errorf("what keys have used: %s is not a file of this version", path)
	}
	return file.Keys, nil
}

// Load takes over what was kept, before anything is used.
func (a *Accounts) Load(kept map[string]Used) {
	for id, u := range kept {
		c := a.account(id)
		c.mu.Lock()
		c.used = u.Last
		c.day, c.month = period{digits(u.Day), amount{u.DayUSD, u.DayTokens}}, period{digits(u.Month), amount{u.MonthUSD, u.MonthTokens}}
		c.mu.Unlock()
	}
}

func dayText(n int) string   { return fmt.Sprintf("%04d-%02d-%02d", n/10000, n/100%100, n%100) }
func monthText(n int) string { return fmt.Sprintf("%04d-%02d", n/100, n%100) }

// digits is what dayText and monthText have written; 0 for anything else.
func digits(text string) int {
	n, err := strconv.Atoi(strings.ReplaceAll(text, "-", ""))
	if err != nil {
		return 0
	}
	return n
}

func (a *Accounts) any() bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return len(a.of) > 0
}

// changed says that there is something to keep.
func (a *Accounts) changed() {
	select {
	case a.dirty <- struct{}{}:
	default:
	}
}

// Keep writes what is used to a file, at the most once in every, until ctx ends, and
// then once more. failed is told what could not be written.
func (a *Accounts) Keep(ctx context.Context, path string, every time.Duration, failed func(error)) {
	save := func() {
		text, err := json.MarshalIndent(usedFile{fileVersion, a.Used(true)}, "", " ")
		if err == nil {
			err = Replace(path, append(text, '\n'))
		}
		if err != nil {
			failed(fmt.Errorf("what keys have used is not kept: %w", err))
		}
	}
	for {
		select {
		case <-ctx.Done():
			if a.any() {
				save()
			}
			return
		case <-a.dirty:
		}
		save()
		select {
		case <-time.After(every):
		case <-ctx.Done():
		}
	}
}
