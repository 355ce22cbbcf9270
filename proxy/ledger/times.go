package ledger

import "time"

// zoneSpan is a time with one offset from UTC.
type zoneSpan struct{ from, until, offset int64 } // slots, until exclusive; seconds

// zones cuts a time where a zone's offset changes.
func zones(from, until int64, zone *time.Location, timed bool) (all []zoneSpan) {
	if !timed {
		return []zoneSpan{{from, until, 0}}
	}
	for from < until {
		at := time.Unix(from*slotSeconds, 0).In(zone)
		_, offset := at.Zone()
		end := until
		if _, change := at.ZoneBounds(); !change.IsZero() {
			end = min(end, max(slotOf(change), from+1))
		}
		all = append(all, zoneSpan{from, end, int64(offset)})
		from = end
	}
	return all
}

// label names the hour or day of a moment, which is in a zone with the offset that
// holds then, and says when it began where the people are; or the finer one, that
// was named before.
func label(by string, at time.Time, zone *time.Location, finer time.Time) (string, time.Time) {
	name, start := at.Format(time.DateOnly), time.Time{}
	if by == "day" {
		start = midnight(at.Year(), at.Month(), at.Day(), zone)
	} else {
		start = onTheHour(at)
		name = start.Format("2006-01-02T15:04Z07:00")
	}
	if start.Before(finer) {
		start = finer
	}
	return name, start.In(zone)
}

// fixed returns a moment in a zone that has one offset for ever.
func fixed(at time.Time, offset int) time.Time { return at.In(time.FixedZone("", offset)) }

// midnight returns when a day begins, which is an hour late where the clocks are
// set forward at midnight.
func midnight(y int, m time.Month, d int, zone *time.Location) time.Time {
	t := time.Date(y, m, d, 0, 0, 0, 0, zone)
	if t.Hour() == 23 {
		t = t.Add(time.Hour)
	}
	return t
}

// onTheHour returns when the local hour began, also where that hour is there twice.
func onTheHour(at time.Time) time.Time {
	return at.Add(-time.Duration(at.Minute())*time.Minute - time.Duration(at.Second())*time.Second - time.Duration(at.Nanosecond()))
}

// begin returns when the local hour or day of a moment began.
func begin(step string, at time.Time) time.Time {
	if step == "day" {
		return midnight(at.Year(), at.Month(), at.Day(), at.Location())
	}
	return onTheHour(at)
}

// next returns when the hour or day after one begins.
func next(step string, at time.Time) time.Time {
	if step == "day" {
		return midnight(at.Year(), at.Month(), at.Day()+1, at.Location())
	}
	return onTheHour(at.Add(time.Hour))
}
