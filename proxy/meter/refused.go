package meter

var refusedDesc = describe("refused_total", "Requests that were refused before they were an exchange: their host, origin, type, key or level.", "code")

// Refused counts a request that was turned away, by its error's code, which is a
// constant of the caller.
func (m *Meter) Refused(code string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	*m.refused.at(labels{orNone(code)})++
}
