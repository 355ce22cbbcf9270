package upstream

import "time"

// began ties numbers to the monotonic clock.
var began = time.Now()

// nanos is a moment as a number that can be stored atomically. Setting the wall
// clock, as machines do that have none of their own, moves it no more than it
// moves a time.Time: a mark that was to last seconds must not last an hour.
func nanos(t time.Time) int64 { return began.UnixNano() + int64(t.Sub(began)) }

// moment is the reverse.
func moment(n int64) time.Time { return began.Add(time.Duration(n - began.UnixNano())) }
