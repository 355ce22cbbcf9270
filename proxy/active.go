package proxy

// The exchanges under way are found by their clients' connections, each of which has
// one at most: so one that comes or goes touches nothing that others do.

// register makes an exchange the present one of its client's connection.
func (s *Server) register(x *exchange) {
	w := &x.client.watched
	w.mu.Lock()
	x.client.exchange.Store(x)
	w.mu.Unlock()
}

// unregister takes it back, if it still is.
func (s *Server) unregister(x *exchange) {
	c := x.client
	if c == nil {
		return
	}
	c.watched.mu.Lock()
	if c.exchange.Load() == x {
		c.exchange.Store(nil)
	}
	c.watched.mu.Unlock()
	if s.draining.Load() {
		s.rest()
	}
}

// rest tells wait when no exchange is under way.
func (s *Server) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle != nil && s.active(nil) == 0 {
		close(s.idle)
		s.idle = nil
	}
}

// active calls f, unless it is nil, with each exchange under way and returns how many
// there are. An exchange is not given up while f has it. The caller holds s.mu.
func (s *Server) active(f func(*exchange)) int {
	n := 0
	for c := range s.open {
		if c.exchange.Load() == nil {
			continue
		}
		if n++; f == nil {
			continue
		}
		c.watched.mu.Lock()
		if x := c.exchange.Load(); x != nil {
			f(x)
		}
		c.watched.mu.Unlock()
	}
	return n
}

// underWay is how many exchanges there are. A request that waits for half a
// minute is one of the last ten seconds.
func (s *Server) underWay() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active(nil)
}
