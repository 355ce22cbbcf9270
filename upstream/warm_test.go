package upstream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"nearside/catalog"
)

// A llama.cpp that serves several models loads in the background: Warm comes back
// when the model is there, not when the server has taken the order.
func TestWarmWaitsForLlamaCPPToHaveLoaded(t *testing.T) {
	var looks atomic.Int32 // since the order; 0 before it
	var ordered, unloaded atomic.Bool
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.Method + " " + r.URL.Path {
		case "GET /v1/models":
			state := "unloaded"
			if ordered.Load() {
				if state = "loading"; looks.Add(1) > 1 {
					state = "loaded"
				}
			}
			fmt.Fprintf(w, `{"object":"list","data":[{"id":"a","owned_by":"llamacpp","status":{"value":"unloaded"}},{"id":"m","owned_by":"llamacpp","status":{"value":%q}}]}`, state)
		case "POST /models/load":
			ordered.Store(string(body) == `{"model":"m"}`)
			fmt.Fprint(w, `{"success":true}`)
		case "POST /models/unload":
			unloaded.Store(string(body) == `{"model":"m"}`)
			fmt.Fprint(w, `{"success":true}`)
		default:
			http.NotFound(w, r)
		}
	}))
	defer s.Close()
	p := NewPool(Options{})
	p.Apply([]Config{{ID: "box", BaseURL: s.URL + "/v1", Near: true, Kind: catalog.KindLlamaCPP, API: catalog.Completions}, {ID: "far", BaseURL: s.URL + "/v1"}})
	box := &catalog.Provider{ID: "box", Kind: catalog.KindLlamaCPP}
	m := &catalog.Model{Provider: box, ID: "m", API: catalog.Completions, BaseURL: s.URL + "/v1"}
	ctx := context.Background()
	if w, err := p.Warmth(ctx, m, m.BaseURL); err != nil || !w.Known || w.Loaded {
		t.Fatalf("before: %+v, %v", w, err)
	}
	instance, err := p.Warm(ctx, m, m.BaseURL, WarmOptions{})
	if err != nil || instance != "m" || looks.Load() < 2 {
		t.Fatalf("got %q, %v after %d looks", instance, err, looks.Load())
	}
	if err := p.Cool(ctx, m, m.BaseURL, instance); err != nil || !unloaded.Load() {
		t.Errorf("it is not unloaded: %v", err)
	}
	m.Provider = &catalog.Provider{ID: "far"}
	if _, err := p.Warm(ctx, m, m.BaseURL, WarmOptions{}); err == nil || !strings.Contains(err.Error(), "far") {
		t.Errorf("a far model: %v", err)
	}
}
