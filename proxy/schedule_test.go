package proxy

import (
	"testing"
	"time"
)

// When a model is loaded is written by hand and read at night: what is accepted
// must mean what it says, over midnight and over the end of the week.
func TestHoursMeanWhatTheySay(t *testing.T) {
	at := func(text string) time.Time {
		t.Helper()
		v, err := time.ParseInLocation("2006-01-02 15:04", text, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	f := func(hours, now, until, next string) {
		t.Helper()
		h, err := ParseHours(hours)
		if err != nil {
			t.Fatal(err)
		}
		gotUntil, gotNext := h.Around(at(now))
		text := func(v time.Time) string {
			if v.IsZero() {
				return ""
			}
			return v.Format("2006-01-02 15:04")
		}
		if text(gotUntil) != until || text(gotNext) != next {
			t.Errorf("%s at %s: until %q next %q, want %q and %q", hours, now, text(gotUntil), text(gotNext), until, next)
		}
	}
	// 2026-11-27 is a Friday.
	f("08:00-18:00", "2026-11-27 08:00", "2026-11-27 18:00", "")
	f("08:00-18:00", "2026-11-27 18:00", "", "2026-11-28 08:00")
	f("mon-fri 08:00-18:00", "2026-11-27 18:00", "", "2026-11-30 08:00")
	f("Mon-Fri 08:00-18:00", "2026-11-29 12:00", "", "2026-11-30 08:00")
	f("sat,sun 10:00-12:30", "2026-11-29 12:29", "2026-11-29 12:30", "")
	f("fri 22:00-06:00", "2026-11-28 05:59", "2026-11-28 06:00", "")
	f("fri 22:00-06:00", "2026-11-28 06:00", "", "2026-12-04 22:00")
	f("sat-mon 00:00-24:00", "2026-11-30 23:59", "2026-12-01 00:00", "")
	f("thu 08:00-09:00", "2026-11-26 10:00", "", "2026-12-03 08:00")
	for _, bad := range []string{"", "8-18", "08:00", "mon 08:00-08:00", "funday 08:00-18:00", "mon-fri 08:00-18:00 x", "25:00-26:00", "24:00-06:00", "mon- 08:00-18:00"} {
		if _, err := ParseHours(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
