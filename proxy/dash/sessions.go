package dash

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"sync"
	"time"
)

// Session is somebody who has signed in.
type Session struct {
	Sum   [sha256.Size]byte // of the key that was shown: it must hold at every step
	Token string            // that our own page sends with what changes something
	Until time.Time

	used time.Time
}

// Sessions are who is signed in, by the hash of what their browser keeps. They end
// with the process. The zero Sessions is ready. It is safe for concurrent use.
type Sessions struct {
	mu   sync.Mutex
	open map[[sha256.Size]byte]*Session
}

// Open begins a session of a key for a time, and returns what the browser is to
// keep. Where there are already most of them, who was seen longest ago is signed
// out.
func (s *Sessions) Open(sum [sha256.Size]byte, most int, life time.Duration, now time.Time) (cookie string, made *Session) {
	cookie = random()
	made = &Session{Sum: sum, Token: random(), Until: now.Add(life), used: now}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[[sha256.Size]byte]*Session{}
	}
	for k, o := range s.open {
		if !now.Before(o.Until) {
			delete(s.open, k)
		}
	}
	for len(s.open) >= max(most, 1) {
		var oldest [sha256.Size]byte
		var was *Session
		for k, o := range s.open {
			if was == nil || o.used.Before(was.used) {
				oldest, was = k, o
			}
		}
		delete(s.open, oldest)
	}
	s.open[sha256.Sum256([]byte(cookie))] = made
	return cookie, made
}

// Find returns the session of what a browser keeps; nil for none that holds.
func (s *Sessions) Find(cookie []byte, now time.Time) *Session {
	if len(cookie) == 0 || len(cookie) > cookieMax {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.open[sha256.Sum256(cookie)]
	if o == nil || !now.Before(o.Until) {
		return nil
	}
	o.used = now
	return o
}

// Close ends the session of what a browser keeps.
func (s *Sessions) Close(cookie []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, sha256.Sum256(cookie))
}

// Ours says whether what came with a request is the session's token.
func (s *Session) Ours(token []byte) bool {
	return subtle.ConstantTimeCompare(token, []byte(s.Token)) == 1
}

// cookieMax bounds what is taken for one of ours.
const cookieMax = 256

// random returns 256 bits that nobody guesses.
func random() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}
