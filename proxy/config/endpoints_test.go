package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nearside/upstream"
)

// Several endpoints stand in the place of an address, in the order of the file.
func TestEndpointsStandInThePlaceOfBaseURL(t *testing.T) {
	c := loaded(t, `{
  models: { providers: { gpu: { models: [{ id: "m" }] } } },
  proxy: {
    balance: { load: 2, slowStartMs: 10, failureLoad: 3, failureForMs: 20 },
    providers: { gpu: { endpoints: [{ url: "http://127.0.0.1:8000/v1/" }, { url: "http://127.0.0.1:8001/v1", name: "b", weight: 2.5, drain: true }] } },
  },
}`)
	b := c.backend(t, "gpu")
	want := []upstream.EndpointConfig{{Name: "127.0.0.1:8000", URL: "http://127.0.0.1:8000/v1", Weight: 1}, {Name: "b", URL: "http://127.0.0.1:8001/v1", Weight: 2.5, Drain: true}}
	if diff := cmp.Diff(want, b.Endpoints); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
	p := c.provider("gpu")
	if first := "http://127.0.0.1:8000/v1"; p.BaseURL != first || b.BaseURL != first || p.Models[0].BaseURL != first || !p.Near {
		t.Errorf("the provider is at %q, its backend at %q, its model at %q, near %v; want the first endpoint, near", p.BaseURL, b.BaseURL, p.Models[0].BaseURL, p.Near)
	}
	if got, want := c.Proxy.Balance, (upstream.Balance{Load: 2, SlowStart: 10e6, FailureLoad: 3, FailureFor: 20e6}); got != want {
		t.Errorf("balance is %+v, want %+v", got, want)
	}
	if len(c.Warnings) != 0 {
		t.Errorf("warnings: %s", c.Warnings)
	}
}

func TestEndpointsAreBounded(t *testing.T) {
	var list []string
	for i := range upstream.EndpointsMax + 1 {
		list = append(list, fmt.Sprintf(`{ url: "http://127.0.0.1:%d/v1" }`, 8000+i))
	}
	_, problems := load(`{ models: { providers: { gpu: { models: [{ id: "m" }] } } }, proxy: { providers: { gpu: { endpoints: [` + strings.Join(list, ",") + `] } } } }`)
	if text := problems.Errors().String(); !strings.Contains(text, "proxy.providers.gpu.endpoints: lists 65 endpoints; a provider has at most 64") {
		t.Errorf("got %s", text)
	}
}
