package proxy

import (
	"hash/maphash"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// strangers bounds what requests without a valid key may cost, by the address that
// they come from. It never grows: addresses share its places, so that one may hear
// 429 for another. Who has a valid key does not come here.
type strangers struct {
	once sync.Once
	seed maphash.Seed

	valid sync.Map // *fasthttp.RequestHeader, see note

	mu    sync.Mutex // guards below
	place [512]struct {
		left float64
		at   time.Time
	}
}

// knock counts a request without a valid key, and says how long its sender has to
// wait; 0 for not.
func (s *strangers) knock(ip net.IP, perMinute int, now time.Time) time.Duration {
	s.once.Do(func() { s.seed = maphash.MakeSeed() })
	if v6 := ip.To16(); ip.To4() == nil && v6 != nil {
		ip = v6[:8] // one household has as many addresses as it likes
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &s.place[maphash.Bytes(s.seed, ip)%uint64(len(s.place))]
	most := float64(perMinute)
	if p.at.IsZero() {
		p.left = most
	} else if d := now.Sub(p.at); d > 0 {
		p.left = min(most, p.left+most*d.Minutes())
	}
	p.at = now
	if p.left < 1 {
		return time.Duration((1 - p.left) / most * float64(time.Minute))
	}
	p.left--
	return 0
}

// strangerBytes is how large the body of a request without a valid key may be: what
// is larger is not read before it is refused.
const strangerBytes = 64 << 10

// bodyMax is how large the body of a request may be, of which the head has come.
func (s *Server) bodyMax(h *fasthttp.RequestHeader) int {
	cfg := &s.snap.Load().Config
	n := h.ContentLength()
	if n >= 0 && n <= strangerBytes || !cfg.Keys.Required() {
		return cfg.Limits.BodyBytes
	}
	valid := presented(h, cfg.Keys) != nil
	if n == chunkedLength {
		s.strangers.note(h, valid)
	}
	if valid {
		return cfg.Limits.BodyBytes
	}
	return min(strangerBytes, cfg.Limits.BodyBytes)
}

// note keeps of a head whether its key is valid while its body comes in chunks:
// fasthttp empties the head when such a body is too large, and what is said then is
// not the same to who has a key.
func (s *strangers) note(h *fasthttp.RequestHeader, valid bool) {
	if valid {
		s.valid.Store(h, struct{}{})
	} else {
		s.valid.Delete(h)
	}
}

// noted says whether that was kept of a head, once.
func (s *strangers) noted(h *fasthttp.RequestHeader) bool {
	_, ok := s.valid.LoadAndDelete(h)
	return ok
}
