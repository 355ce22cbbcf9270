package proxy

import (
	"time"

	"nearside/upstream"
)

// wakes has the box of the present target woken, where the failure tells that it
// sleeps and its provider says how. The outcome then says so: it is no fault of
// the backend, which is waited for like one that loads its model.
func (x *exchange) wakes(o *outcome, err error, now time.Time) bool {
	t := x.cur
	if !t.backend.Wakes() {
		return false
	}
	since, sent, wrong := t.backend.Wake(err, now)
	id := t.model.Provider.ID
	if wrong != nil {
		x.s.meter.Problem("wake")
		x.s.log.Warn().Str("backend", id).Err(wrong).Msg("wake-on-LAN")
		return false
	}
	if since.IsZero() {
		return false
	}
	if sent {
		x.s.warm.woke(id)
		x.s.log.Info().Str("request", x.receipt.ID).Str("backend", id).Str("detail", o.reply.Message).Msg("wake-on-LAN packet sent")
	}
	o.waking, o.name = true, upstream.StateWaking
	o.reply.Code = "upstream_asleep"
	o.reply.Message += "; a wake-on-LAN packet was sent " + ago(now.Sub(since)) + " (proxy.providers." + id + ".wake)"
	if o.reply.Status == 502 {
		o.reply.Status = 503
	}
	o.retryAfter = min(max(time.Until(t.backend.WakeUntil()), retryAfterMin), retryAfterMax)
	return true
}

func ago(d time.Duration) string {
	if d < time.Second {
		return "just now"
	}
	return d.Round(time.Second).String() + " ago"
}
