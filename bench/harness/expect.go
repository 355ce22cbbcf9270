package harness

import (
	"time"

	"nearside/bench/load"
	"nearside/bench/measure"
)

// Expect is what a plan comes to for one target, before anything is sent.
type Expect struct {
	Target   *measure.Target
	Requests int64
	Input    int64 // tokens
	Output   int64
	Cost     float64 // USD; 0 where the target has no price
	Took     time.Duration
}

// Pace is how soon an answer is taken to come, where nothing is known yet.
type Pace struct {
	First time.Duration // to its first token
	Rate  float64       // tokens a second from then on
}

// UsualPace is that of an 8B model on a good desktop machine.
var UsualPace = Pace{First: time.Second, Rate: 30}

// Expect reckons what the plan comes to for a target. Steps bounded by time alone go by
// the pace; those bounded by both take whichever is less.
func (p *Plan) Expect(t *measure.Target, pace Pace) Expect {
	in, out, asks := p.Source.Plan()
	asks = max(asks, 1)
	session := time.Duration(asks)*pace.First + time.Duration(float64(out)/pace.Rate*float64(time.Second))
	sessions, took := float64(p.Warmup), time.Duration(p.Warmup)*session
	for i := range p.Steps {
		n, d := expect(&p.Steps[i], session)
		sessions += n * float64(p.Rounds)
		took += d * time.Duration(p.Rounds)
	}
	if s := p.Search; s != nil { // at most: all its tries, at its highest rate
		st := s.step(s.High)
		n, d := expect(&st, session)
		sessions += n * float64(s.Tries*p.Rounds)
		took += d * time.Duration(s.Tries*p.Rounds)
	}
	took += p.Cool * time.Duration(p.Rounds*len(p.Steps))
	e := Expect{Target: t, Requests: int64(sessions * float64(asks)), Input: int64(sessions * float64(in)), Output: int64(sessions * float64(out)), Took: took}
	if t.Priced() && e.Requests > 0 {
		// A price may depend on how long a prompt is.
		e.Cost = t.Expected(int64(in/asks), int64(out/asks)) * float64(e.Requests)
	}
	return e
}

// expect is how many sessions a step has and how long it takes, at so long a session.
func expect(s *load.Step, session time.Duration) (sessions float64, took time.Duration) {
	if s.Concurrency > 0 {
		each := session / time.Duration(s.Concurrency)
		sessions = float64(s.Sessions)
		if s.For > 0 {
			if n := float64(s.For) / float64(each); s.Sessions == 0 || n < sessions {
				sessions = n
			}
		}
		return sessions, time.Duration(sessions * float64(each))
	}
	rate := s.Rate
	if s.To > 0 {
		rate = (s.Rate + s.To) / 2
	}
	sessions = float64(s.Sessions)
	if n := rate * s.For.Seconds(); s.For > 0 && (s.Sessions == 0 || n < sessions) {
		sessions = n
	}
	return sessions, time.Duration(sessions/rate*float64(time.Second)) + session
}
