package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"nearside/breaker"
	"nearside/catalog"
	"nearside/proxy/meter"
	"nearside/shaping"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// planned makes a server of models, each of a provider of its own whose kind is the
// model's name, as the default chain.
func planned(t *testing.T, unsupported string, models ...catalog.Model) (*Server, func(request) string) {
	t.Helper()
	snap := &Snapshot{Config: Defaults(), States: map[string]BackendState{}}
	snap.Config.Inputs.UnsupportedImages = unsupported
	snap.Config.Fallback.Targets = 2
	chain := catalog.Chain{Name: "default", From: "test"}
	var providers []*catalog.Provider
	for i := range models {
		m := models[i]
		p := &catalog.Provider{ID: string(rune('a' + i)), API: catalog.Completions, BaseURL: "http://127.0.0.1:9/v1", Near: true, Kind: catalog.Kind(m.Name)}
		m.Provider, m.API, m.BaseURL, m.Declared = p, p.API, p.BaseURL, true
		p.Models = []*catalog.Model{&m}
		providers = append(providers, p)
		chain.Refs = append(chain.Refs, m.Ref())
		snap.Backends = append(snap.Backends, upstream.Config{ID: p.ID, BaseURL: p.BaseURL, API: p.API, Near: true, Breaker: breaker.Near()})
	}
	snap.Catalog = catalog.New(providers, nil, []catalog.Chain{chain})
	s := New(snap, Options{Log: zerolog.Nop(), Meter: meter.New(meter.Options{}), Version: "test"})
	return s, func(r request) string {
		t.Helper()
		var p Plan
		r.model, r.dialect = "default", wire.Chat
		if err := s.plan(snap, r, time.Now(), &p); err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, st := range p.Steps {
			if st.Skip {
				out = append(out, "-"+st.skip.name())
			} else {
				out = append(out, st.Ref)
			}
		}
		if tried := strings.Join(out, " "); strings.Contains(tried, "/") {
			return tried
		}
		e, _ := p.noTarget(time.Now())
		return strings.Join(out, " ") + " = " + e.Code
	}
}

// The order in which reasons count decides what a client is told and where its
// request goes.
func TestPlansWeighWhatTargetsReadAndHold(t *testing.T) {
	text, image := []string{"text"}, []string{"text", "image"}
	small := catalog.Model{ID: "m", Input: image, ContextWindow: 8192}
	large := catalog.Model{ID: "m", Input: image, ContextWindow: 100000}
	blind := catalog.Model{ID: "m", Input: text, ContextWindow: 100000}
	guess := catalog.Model{ID: "llama3", Input: text, InputGuessed: true, ContextWindow: 100000}
	unknown := catalog.Model{ID: "mine", Input: text, InputGuessed: true}
	ollama := catalog.Model{ID: "m", Input: image, ContextWindow: 100000, Name: "ollama"}
	bytes := func(n int64) request { return request{size: catalog.Prompt{TextBytes: n}} }
	see := func(remote int) request {
		return request{size: catalog.Prompt{TextBytes: 100, Images: 1}, media: shaping.Media{Images: 1, Remote: remote}}
	}
	f := func(name, unsupported string, r request, want string, models ...catalog.Model) {
		t.Helper()
		_, plan := planned(t, unsupported, models...)
		if got := plan(r); got != want {
			t.Errorf("%s\n got %s\nwant %s", name, got, want)
		}
	}
	f("fits", "", bytes(20000), "a/m b/m", small, large)
	f("may fit, and another does", "", bytes(40000), "-does_not_fit b/m", small, large)
	f("may fit", "", bytes(40000), "a/m", small)
	f("may fit, and can be made shorter", "", request{size: catalog.Prompt{TextBytes: 40000}, firm: true}, "-does_not_fit = context_length_exceeded", small)
	f("three that may fit", "", bytes(40000), "a/m b/m -not_tried", small, small, small)
	f("too long", "", bytes(80000), "-does_not_fit -does_not_fit = context_length_exceeded", small, small)
	f("too long here, may fit there", "", bytes(500000), "-does_not_fit b/m", small, large)
	f("as much asked for as clients do with every request", "", request{size: catalog.Prompt{TextBytes: 4000}, output: 8192}, "a/m b/m", small, large)
	f("no room for it", "", request{size: catalog.Prompt{TextBytes: 28000}, output: 8192}, "-does_not_fit b/m", small, large)
	f("too much asked for", "", request{size: catalog.Prompt{TextBytes: 400}, output: 1 << 20}, "a/m", small)
	f("OpenAI's window is the prompt's", "", request{size: catalog.Prompt{TextBytes: 350000}, output: 50000}, "a/m -does_not_fit", catalog.Model{ID: "m", Input: image, ContextWindow: 100000, Name: "openai"}, small)
	f("others' is the answer's, too", "", request{size: catalog.Prompt{TextBytes: 350000}, output: 50000}, "a/m b/m", large, large)
	f("window unknown", "", bytes(1<<30), "a/mine", unknown)

	f("image", "", see(0), "a/m b/m", large, small)
	f("image for the blind", "", see(0), "-input_not_read = unsupported_image_input", blind)
	f("image for the next", "", see(0), "-input_not_read b/m", blind, large)
	f("error", shaping.ImagesError, see(0), "-input_not_read -input_not_read = unsupported_image_input", blind, large)
	f("error behind one that sees", shaping.ImagesError, see(0), "a/m -input_not_read", large, blind)
	f("error and a guess", shaping.ImagesError, see(0), "-input_not_read -input_not_read = unsupported_image_input", guess, large)
	f("placeholder", shaping.ImagesPlaceholder, see(0), "a/m b/m", blind, large)
	f("guess", "", see(0), "a/llama3", guess)
	f("guess, and one that sees", "", see(0), "-input_not_read b/m", guess, large)
	f("guess, and one that is blind", "", see(0), "a/llama3 -input_not_read", guess, blind)
	f("unknown", "", see(0), "a/mine", unknown)
	f("audio", "", request{size: catalog.Prompt{TextBytes: 9}, media: shaping.Media{Audio: 1}}, "-input_not_read = unsupported_audio_input", large)

	f("remote", "", see(1), "-remote_image = unsupported_image_url", ollama)
	f("remote, and one that fetches", "", see(1), "-remote_image b/m", ollama, large)
	f("not remote", "", see(0), "a/m", ollama)

	// What a breaker says is above what is only thought.
	s, plan := planned(t, "", guess)
	target, _ := s.pool.Breakers(s.Snapshot().Catalog.Providers[0].Models[0])
	for range 5 {
		target.Sample(breaker.Bad)
	}
	if got := plan(see(0)); got != "-breaker_open = no_target_available" {
		t.Errorf("an open breaker: %s", got)
	}
}
