package shaping

import (
	"fmt"
	"strings"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// New builds the rules that can apply between a client's dialect and a model,
// once for all requests. The error is a *wire.Error with status 400 when there
// is no way to say such a request to the model's provider.
func New(m *catalog.Model, client wire.Dialect, opt Options) (*Shape, error) {
	backend := speaks(m, client)
	if backend == 0 {
		return nil, unsupported(m, client)
	}
	s := &Shape{model: m, client: client, backend: backend, opt: opt, native: native(m.BaseURL), path: path(m, backend)}
	s.compat, s.from = compatOf(m, s.native, &opt)
	learn(s)
	s.mend = mendOf(s)
	for _, r := range Rules() {
		if r.Name == "extra-body" { // which wins over them
			s.rules = append(s.rules, ownRules(s)...)
		}
		if r.in(backend) && r.applies(s) {
			s.rules = append(s.rules, r)
		}
		if r.Name == pairsName && client == wire.Chat && backend != wire.Chat && r.applies(s) {
			s.pairsFirst = &r
		}
	}
	return s, nil
}

// With returns the shape with other learned flags, for the same model and
// dialect.
func (s *Shape) With(learned *catalog.Compat) *Shape {
	opt := s.opt
	opt.Learned = learned
	t, err := New(s.model, s.client, opt)
	if err != nil {
		panic("BUG: a shape that was made once cannot be made again: " + err.Error())
	}
	return t
}

// Rules returns the rules that can apply to a request for this model, in the
// order of application. The caller may keep the slice.
func (s *Shape) Rules() []Rule { return append([]Rule(nil), s.rules...) }

// Request fills out with what is to be sent for a client's body. env must be the
// scan of that very body. Where client and backend speak the same nothing is
// decoded, and what no rule names stays byte for byte; else out.Body is the
// request in the backend's dialect, and the rules work on that. The error is a
// *wire.Error when the request is at fault, or cannot be said to this backend;
// out is then of no use.
func (s *Shape) Request(body []byte, env *wire.Envelope, out *Request) error {
	d := drafts.Get().(*draft)
	d.room, d.images, d.goesOn = out.Room, out.Images, out.GoesOn
	out.reset()
	out.Room, out.Images, out.GoesOn = Room{}, nil, false
	out.draft = d
	err := s.request(body, env, out)
	out.draft = nil
	d.reset()
	drafts.Put(d)
	if err != nil {
		out.reset()
	}
	return err
}

func (s *Shape) request(body []byte, env *wire.Envelope, out *Request) error {
	out.Path = s.path
	// An answer that is copied has the backend's own envelopes, or none.
	out.Turn.Seal = s.client == wire.Responses && s.Retells() && wantsSealed(body, env)
	if way := s.way(body, env); way != nil {
		if s.pairsFirst != nil {
			body, env = s.pairFirst(body, env, out)
		}
		if err := s.translate(way, body, env, out); err != nil {
			return err
		}
		body, env = out.Body, &out.Env
	}
	out.draft.begin(body, env)
	out.draft.from = s.from
	for i := range s.rules {
		out.draft.rule = &s.rules[i]
		if err := s.rules[i].apply(s, out); err != nil {
			return err
		}
	}
	out.finish()
	return nil
}

// wantsSealed says whether a Responses client asks for reasoning that it can hand
// in again.
func wantsSealed(body []byte, env *wire.Envelope) bool {
	include, _ := env.Field(body, "include")
	for it := wire.Elements(body, include); it.Next(); {
		if wire.EqualString(it.Value.Of(body), "reasoning.encrypted_content") {
			return true
		}
	}
	return false
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

// path is where a dialect is spoken below the model's base URL. The routed-only
// endpoints keep the client's own. OpenClaw's base URLs of Anthropic's api end
// before the version.
func path(m *catalog.Model, d wire.Dialect) string {
	switch d {
	case wire.Chat:
		return "/chat/completions"
	case wire.Responses:
		return "/responses"
	case wire.Messages:
		if !strings.HasSuffix(m.BaseURL, "/v1") {
			return "/v1/messages"
		}
		return "/messages"
	case wire.Completions:
		return "/completions"
	}
	return ""
}
