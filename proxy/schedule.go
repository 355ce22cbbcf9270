package proxy

import (
	"fmt"
	"strings"
	"time"
)

// Hours are a part of each week: some days, from one time of day to another. Those
// that end before they begin go on to the next day.
type Hours struct {
	days     [7]bool // by time.Weekday
	from, to int     // minutes of the day
}

var weekdays = [...]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// ParseHours reads "mon-fri 08:00-18:00", "sat,sun 10:00-12:30" or, for every day,
// "22:00-06:00".
func ParseHours(text string) (Hours, error) {
	var h Hours
	bad := fmt.Errorf("%q is none of the forms 08:00-18:00, mon-fri 08:00-18:00 and sat,sun 10:00-12:30", text)
	fields := strings.Fields(strings.ToLower(text))
	switch len(fields) {
	case 1:
		h.days = [7]bool{true, true, true, true, true, true, true}
	case 2:
		for _, part := range strings.Split(fields[0], ",") {
			first, last, ranges := strings.Cut(part, "-")
			a, b := weekday(first), weekday(last)
			if !ranges {
				b = a
			}
			if a < 0 || b < 0 {
				return Hours{}, bad
			}
			for d := a; ; d = (d + 1) % 7 {
				h.days[d] = true
				if d == b {
					break
				}
			}
		}
	default:
		return Hours{}, bad
	}
	from, to, ok := strings.Cut(fields[len(fields)-1], "-")
	if h.from, h.to = minuteOf(from), minuteOf(to); !ok || h.from < 0 || h.to < 0 || h.from == h.to || h.from == 24*60 {
		return Hours{}, bad
	}
	return h, nil
}

func weekday(name string) int {
	for i, w := range weekdays {
		if name == w {
			return i
		}
	}
	return -1
}

func minuteOf(text string) int {
	if text == "24:00" {
		return 24 * 60
	}
	t, err := time.Parse("15:04", text)
	if err != nil {
		return -1
	}
	return t.Hour()*60 + t.Minute()
}

// Around returns until when now lies in the hours, in now's own zone, or else when
// they begin next.
func (h Hours) Around(now time.Time) (until, next time.Time) {
	year, month, day := now.Date()
	for d := -1; d <= 7; d++ {
		begin := time.Date(year, month, day+d, 0, h.from, 0, 0, now.Location())
		if !h.days[begin.Weekday()] {
			continue
		}
		end := time.Date(year, month, day+d, 0, h.to, 0, 0, now.Location())
		if h.to <= h.from {
			end = time.Date(year, month, day+d+1, 0, h.to, 0, 0, now.Location())
		}
		switch {
		case now.Before(begin):
			return time.Time{}, begin
		case now.Before(end):
			return end, time.Time{}
		}
	}
	return time.Time{}, time.Time{} // no day at all, which is not parsed
}
