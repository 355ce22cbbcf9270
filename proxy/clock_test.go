package proxy

import (
	"strings"
	"testing"
	"time"
)

// What is stored of a moment must come back with the monotonic clock's reading:
// by the wall clock alone, set back by an hour, a cooldown of a second lasts one.
func TestMomentsKeepTheMonotonicClock(t *testing.T) {
	now := time.Now()
	for _, d := range []time.Duration{0, time.Nanosecond, time.Minute, 40 * 24 * time.Hour, -time.Hour} {
		at := now.Add(d)
		if n := nanos(at); n-nanos(now) != int64(d) || !moment(n).Equal(at) || !strings.Contains(moment(n).String(), " m=") {
			t.Errorf("%v from now: %d after now's %d, back as %v", d, n, nanos(now), moment(n))
		}
	}
	if wall := time.Unix(1_800_000_000, 7); nanos(wall) != wall.UnixNano() { // of who has no monotonic clock
		t.Errorf("%d, want %d", nanos(wall), wall.UnixNano())
	}
}
