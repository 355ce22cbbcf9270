package shaping

import (
	"nearside/catalog"
	"nearside/shaping/wire"
)

// native says whether a base URL is OpenAI's own, where nothing is stripped. No
// base URL means OpenAI's.
func native(baseURL string) bool { return baseURL == "" || catalog.IsOpenAI(baseURL) }

// nativeOnlyRule takes away what only OpenAI itself understands: service tiers
// and safety identifiers.
func nativeOnlyRule(_ *Shape, r *Request) error {
	r.remove("service_tier")
	r.remove("safety_identifier")
	return nil
}

// promptCacheRule takes away hints for a prompt cache.
func promptCacheRule(_ *Shape, r *Request) error {
	r.remove("prompt_cache_key")
	r.remove("prompt_cache_retention")
	r.remove("prompt_cache_options")
	return nil
}

var (
	wordTrue  = []byte("true")
	wordFalse = []byte("false")
)

// storeOf returns what store is sent as to a backend that is not OpenAI: nil
// for not at all. What is to be kept, the proxy keeps itself.
func storeOf(m *catalog.Model, c *catalog.Compat) []byte {
	if !yes(c.SupportsStore) {
		return nil
	}
	for i := len(m.Params) - 1; i >= 0; i-- {
		if m.Params[i].Key == "store" && string(m.Params[i].Value) == "true" {
			return wordTrue
		}
	}
	return wordFalse
}

// storeRule comes after extra_body, because store must not leave even when it
// came from there, unless the model is said to support it.
func storeRule(s *Shape, r *Request) error {
	if s.store == nil {
		r.remove("store")
		return nil
	}
	for i := range s.extra {
		if s.extra[i].key == "store" {
			return nil
		}
	}
	r.set("store", s.store, "")
	return nil
}

const whyNoUsage = "compat.supportsUsageInStreaming is false for this model, so stream_options are not sent; remove it to send them"

var usageOptions = []byte(`{"include_usage":true}`)

// includeUsageRule asks a streaming backend for usage, which the proxy counts.
func includeUsageRule(s *Shape, r *Request) error {
	d := r.draft
	i := d.find("stream_options")
	if no(s.compat.SupportsUsageInStreaming) {
		// The flag is for servers that refuse the field, whoever sent it.
		if i >= 0 {
			r.remove("stream_options")
			r.Changes[len(r.Changes)-1].Why = whyNoUsage
		}
		return nil
	}
	if !d.env.Stream || d.env.IncludeUsage {
		return nil
	}
	r.AskedUsage = true
	if i < 0 || wire.Kind(d.slots[i].value[0]) != '{' {
		r.set("stream_options", usageOptions, "")
		return nil
	}
	at := d.env.Fields[i].Value
	empty, said := true, wire.Span{}
	for it := wire.Members(d.body, at); it.Next(); empty = false {
		if it.Is("include_usage") {
			said = it.Value // of several the last counts, as for the scan
		}
	}
	if said.Present() {
		e := wire.Edit{Span: said, With: wordTrue}
		r.amend(i, e, Change{Edit: e, Path: "stream_options.include_usage"})
		return nil
	}
	e := wire.Edit{Span: wire.Span{Start: at.Start + 1, End: at.Start + 1}, With: usageMember}
	if empty {
		e.With = usageMember[:len(usageMember)-1]
	}
	c := Change{Edit: wire.Edit{Span: e.Span, With: wordTrue}, Path: "stream_options.include_usage"}
	r.amend(i, e, c)
	return nil
}

var usageMember = []byte(`"include_usage":true,`)

// streamOptionsRule takes away stream_options from a request that is none for a
// stream.
func streamOptionsRule(_ *Shape, r *Request) error {
	if !r.draft.env.Stream {
		r.remove("stream_options")
		r.AskedUsage = false
	}
	return nil
}
