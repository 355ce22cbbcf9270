package proxy

import "time"

// pause waits until a time, or until ready can be read from; a nil channel never
// can. While it waits it is what an attempt is: the client may leave, heartbeats
// go out, and upstream.ErrHold leaves it where the next call goes on. It says
// whether ready was the reason.
func (x *exchange) pause(until time.Time, ready <-chan struct{}) (bool, error) {
	for {
		if err := x.broken(); err != nil {
			return false, err
		}
		if err := x.Flush(); err != nil {
			return false, err
		}
		now := time.Now()
		if !until.IsZero() && !now.Before(until) {
			return false, nil
		}
		wake := x.Wake()
		if wake.IsZero() || !until.IsZero() && until.Before(wake) {
			wake = until
		}
		var tick <-chan time.Time
		var timer *time.Timer
		if !wake.IsZero() {
			timer = time.NewTimer(wake.Sub(now))
			tick = timer.C
		}
		isReady := false
		select {
		case <-ready:
			isReady = true
		case <-x.nudge:
		case <-tick:
		}
		if timer != nil {
			timer.Stop()
		}
		if isReady {
			return true, x.broken()
		}
		if now = time.Now(); until.IsZero() || now.Before(until) {
			if err := x.Tick(now); err != nil {
				return false, err
			}
		}
	}
}

// nudged wakes a pause. The caller holds x.mu.
func (x *exchange) nudged() {
	signal(x.nudge)
}
