package shaping

import (
	"fmt"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// New builds the rules that can apply between a client's dialect and a model,
// once for all requests. The error is a *wire.Error with status 400 when this
// version cannot say such a request to the model's provider.
func New(m *catalog.Model, client wire.Dialect) (*Shape, error) {
	if !m.Speaks(client) {
		return nil, unsupported(m, client)
	}
	s := &Shape{model: m, client: client, native: native(m.BaseURL)}
	s.facts = learn(s)
	for _, r := range Rules() {
		if r.in(client) && r.applies(s) {
			s.rules = append(s.rules, r)
		}
	}
	return s, nil
}

// Rules returns the rules that can apply to a request for this model, in the
// order of application. The caller may keep the slice.
func (s *Shape) Rules() []Rule { return append([]Rule(nil), s.rules...) }

// Request fills out with what must change in a client's body for this target.
// env must be the scan of that very body. Nothing is decoded, and what no rule
// names stays byte for byte. The error is a *wire.Error when the request is at
// fault; out is then of no use.
func (s *Shape) Request(body []byte, env *wire.Envelope, out *Request) error {
	out.reset(body, env)
	out.Path = path(s.client)
	for i := range s.rules {
		out.draft.rule = &s.rules[i]
		if err := s.rules[i].apply(s, out); err != nil {
			out.reset(nil, nil)
			return err
		}
	}
	out.finish()
	return nil
}

func unsupported(m *catalog.Model, client wire.Dialect) *wire.Error {
	hint := ""
	switch m.API {
	case catalog.Completions:
		hint = "; ask /v1/chat/completions"
	case catalog.Responses:
		hint = "; ask /v1/responses"
	}
	switch {
	case hint != "" && client == wire.Chat:
		hint += fmt.Sprintf(" or set api: %q for the provider", catalog.Completions)
	case hint != "" && client == wire.Responses:
		hint += fmt.Sprintf(" or set api: %q for the provider", catalog.Responses)
	}
	return &wire.Error{
		Status: 400,
		Type:   "invalid_request_error",
		Code:   "unsupported_dialect",
		Param:  "model",
		Message: fmt.Sprintf("this version cannot translate a %s request for %q, whose provider speaks %s%s",
			client, m.Ref(), m.API, hint),
	}
}

// path is where a dialect is spoken below the base URL. The routed-only
// endpoints keep the client's own.
func path(d wire.Dialect) string {
	switch d {
	case wire.Chat:
		return "/chat/completions"
	case wire.Responses:
		return "/responses"
	case wire.Completions:
		return "/completions"
	}
	return ""
}
