package upstream

import (
	"strings"

	"nearside/catalog"
)

// HeaderLines returns the headers that a request would be sent with, in order,
// for people. What comes from the configuration has no value: it may be a key.
func (b *Backend) HeaderLines(r *Request) []catalog.Header {
	shown := map[string]bool{"host": true, "user-agent": true, "accept-encoding": true, "accept": true, "content-type": true, "content-length": true}
	for line := range strings.Lines(string(r.Headers)) {
		name, _, _ := strings.Cut(line, ":")
		shown[strings.ToLower(name)] = true
	}
	for _, h := range b.cfg.Headers {
		shown[strings.ToLower(h.Name)] = false
	}
	shown[strings.ToLower(b.cfg.Auth.Header)] = false
	for line := range strings.Lines(string(r.ModelLines)) {
		name, _, _ := strings.Cut(line, ":")
		shown[strings.ToLower(name)] = false
	}
	var all []catalog.Header
	_, rest, _ := strings.Cut(string(b.appendHead(nil, r)), "\r\n")
	for line := range strings.SplitSeq(rest, "\r\n") {
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			continue
		}
		if !shown[strings.ToLower(name)] {
			value = ""
		}
		all = append(all, catalog.Header{Name: name, Value: value})
	}
	return all
}
