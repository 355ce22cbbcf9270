package sim

import (
	"net/url"
	"strconv"
	"strings"
	"time"
)

// requestBytesMax is what Anthropic takes in one request.
const requestBytesMax = 32 << 20

// anthropic answers as the hosted API does: Messages, their tokens and the list
// of models, with the headers that it insists on.
func (s *Server) anthropic(h *head, path string, body []byte) *plan {
	if p := s.refused(h); p != nil {
		return p
	}
	post := h.method == "POST"
	if post && path == "/v1/messages" {
		if p := s.quick(body, dialectMessages); p != nil {
			return p
		}
	}
	p := s.anthropicAnswer(h, path, body)
	if p.status < 400 { // errors have the id in their body too
		id := s.requestID()
		if post && path == "/v1/messages" {
			p.headers = append(p.headers, s.limits(id)...)
		} else {
			p.headers = append(p.headers, "request-id: "+id)
		}
	}
	return p
}

// refused answers a request without what its head must have.
func (s *Server) refused(h *head) *plan {
	key := h.get("X-Api-Key") // beats the other one
	if bearer, ok := strings.CutPrefix(h.get("Authorization"), "Bearer "); ok && key == "" {
		key = bearer
	}
	version := h.get("Anthropic-Version")
	switch {
	case key == "":
		return s.failed(401, "", "x-api-key header is required")
	case s.opt.Key != "" && key != s.opt.Key:
		return s.failed(401, "", "invalid x-api-key")
	case version == "":
		return s.failed(400, "", "anthropic-version: header is required")
	case version != "2023-01-01" && version != "2023-06-01" && version != newVersion:
		return s.failed(400, "", "anthropic-version: "+strconv.Quote(version)+" is not a valid version")
	}
	return nil
}

func (s *Server) anthropicAnswer(h *head, path string, body []byte) *plan {
	get := h.method == "GET" || h.method == "HEAD"
	id, one := strings.CutPrefix(path, "/v1/models/")
	switch {
	case get && path == "/v1/models":
		return s.page(h)
	case get && one && s.knows(id):
		return s.json(200, []byte(js(anthropicModel(id))))
	case get && one:
		return s.failed(404, "", "model: "+id)
	case h.method == "POST" && len(body) > requestBytesMax:
		return s.failed(413, "", "Request exceeds the maximum size")
	case h.method == "POST" && path == "/v1/messages":
		p := s.told(h, body, dialectMessages)
		if p.stream {
			p.ctype = "text/event-stream; charset=utf-8"
		}
		return p
	case h.method == "POST" && path == "/v1/messages/count_tokens":
		return s.count(h, body)
	case path == "/v1/models" || one || dialectOf(path) == dialectMessages:
		return s.failed(405, "", "Method Not Allowed")
	}
	return s.failed(404, "", "Not found")
}

// limits returns the header lines of an answer that counts against a limit.
func (s *Server) limits(id string) []string {
	all := []string{"request-id: " + id}
	reset := time.Now().UTC().Add(time.Minute).Format(time.RFC3339)
	used := s.Count()
	for _, l := range []struct {
		name       string
		limit, one int
	}{{"requests", 4000, 1}, {"tokens", 2400000, 600}, {"input-tokens", 2000000, 500}, {"output-tokens", 400000, 100}} {
		line := "anthropic-ratelimit-" + l.name
		all = append(all, line+"-limit: "+strconv.Itoa(l.limit), line+"-remaining: "+strconv.Itoa(l.limit-used*l.one%l.limit), line+"-reset: "+reset)
	}
	return all
}

func anthropicModel(id string) object {
	return object{"type": "model", "id": id, "display_name": id + " (simulated)", "created_at": "2026-11-22T00:00:00Z"}
}

// page answers the list of models, in pages where they are asked for.
func (s *Server) page(h *head) *plan {
	q, err := url.ParseQuery(h.query)
	if err != nil {
		return s.failed(400, "", "malformed query")
	}
	limit := 20
	if text := q.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > 1000 {
			return s.failed(400, "", "limit: Input should be between 1 and 1000")
		}
	}
	ids := s.models()
	if after := q.Get("after_id"); after != "" {
		for i, id := range ids {
			if id == after {
				ids = ids[i+1:]
				break
			}
		}
	}
	more := len(ids) > limit
	ids = ids[:min(limit, len(ids))]
	data := []any{}
	for _, id := range ids {
		data = append(data, anthropicModel(id))
	}
	v := object{"data": data, "has_more": more, "first_id": nil, "last_id": nil}
	if len(ids) > 0 {
		v["first_id"], v["last_id"] = ids[0], ids[len(ids)-1]
	}
	return s.json(200, []byte(js(v)))
}
