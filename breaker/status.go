package breaker

import (
	"fmt"
	"time"
)

// State is whether a breaker lets calls through.
type State uint8

// The states. HalfOpen means that the open time is over and that one call at a
// time, or a model-list probe, finds out whether the target is back.
const (
	Closed State = iota
	HalfOpen
	Open
)

// String returns the state as logs and metrics show it.
func (s State) String() string {
	switch s {
	case HalfOpen:
		return "half_open"
	case Open:
		return "open"
	}
	return "closed"
}

// What opened a breaker, as Status, Change and OpenError name it.
const (
	CauseConnect = "connect" // it could not be reached: a model-list probe may close it
	CauseAnswers = "answers" // it was reached and failed: only a real request may close it
)

// Status is what a breaker was at one moment.
type Status struct {
	State       State
	Since       time.Time // when it last opened, half-opened or closed; zero if it never did
	Until       time.Time // the end of the open time; zero when closed
	Cause       string    // CauseConnect or CauseAnswers; empty when closed
	Opens       int       // openings without a good stretch between them; they lengthen the next
	Consecutive int       // failures in a row

	gen   uint64    // of tickets; results of an older one are ignored
	from  time.Time // when a real request may try
	lease time.Time // when the probe under way is given back; zero when there is none
}

// Callable says whether Allow would grant a ticket now. It changes nothing, so
// a plan may ask about many targets.
func (s Status) Callable(now time.Time) bool {
	if s.State == Closed {
		return true
	}
	return !now.Before(s.from) && !now.Before(s.lease)
}

// OpenError is the refusal of a ticket.
type OpenError struct {
	Name  string
	Until time.Time // when asking again makes sense
	Cause string    // CauseConnect or CauseAnswers
}

// Error names the target, the cause and the time.
func (e *OpenError) Error() string {
	cause := "its answers failed"
	if e.Cause == CauseConnect {
		cause = "it could not be reached"
	}
	return fmt.Sprintf("%s is not called until %s: %s", e.Name, e.Until.Format(time.RFC3339), cause)
}

// Change is a step from one state to another, as Options.Changed is told.
type Change struct {
	Name     string
	From, To State
	At       time.Time
	Until    time.Time // of the open time; zero when closed
	Cause    string    // what opened it; also told when it closes again
	Opens    int
}
