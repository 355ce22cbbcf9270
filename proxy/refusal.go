package proxy

import "time"

// refusalFor is how long a credential that a backend refused is not shown to it
// again: every further try fails the same way, and some providers lock out who
// goes on.
const refusalFor = 5 * time.Minute

// refusal is the mark of a refused credential. It holds for the configuration
// whose credential it was.
type refusal struct {
	until  time.Time
	digest string
}

// refuse marks what a backend refused, and warns once a mark: a 401 is the
// credential of the whole provider, a 403 may be about one model.
func (s *Server) refuse(snap *Snapshot, t *target, status int, now time.Time) {
	key := t.model.Provider.ID
	if status != 401 || len(t.lines) > 0 { // a model's own headers may hold its own credential
		if key = t.ref; !t.model.Declared {
			return // nothing is kept of names that clients make up
		}
	}
	was, had := s.refused.Swap(key, refusal{now.Add(refusalFor), snap.Digest})
	if old, _ := was.(refusal); had && old.digest == snap.Digest && now.Before(old.until) {
		return
	}
	s.meter.Problem("credential_refused")
	s.log.Warn().Str("target", t.ref).Int("status", status).Dur("left_alone", refusalFor).
		Str("setting", "models.providers."+t.model.Provider.ID+".apiKey").Msg("credential refused")
}

// refusedUntil returns until when a target is left alone because its credential
// was refused; zero when it is not.
func (s *Server) refusedUntil(snap *Snapshot, t *target, now time.Time) time.Time {
	for _, key := range [...]string{t.model.Provider.ID, t.ref} {
		if v, ok := s.refused.Load(key); ok {
			if r := v.(refusal); r.digest == snap.Digest && now.Before(r.until) {
				return r.until
			}
		}
	}
	return time.Time{}
}
