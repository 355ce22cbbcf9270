package command

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"nearside/catalog"
	"nearside/proxy"
	"nearside/proxy/config"
	"nearside/upstream"
	"nearside/upstream/sim"
)

// elsewhere leads every address that is dialled to one listener, and knows the
// names it is given.
func elsewhere(to string, known map[string]string) upstream.Dialer {
	return upstream.Dialer{Resolver: resolving(known), Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, to)
	}}
}

type resolving map[string]string

func (n resolving) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if ip, ok := n[host]; ok {
		return []netip.Addr{netip.MustParseAddr(ip)}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func composed(t *testing.T, text string, d upstream.Dialer) (*composer, *proxy.Snapshot) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json5")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	file, problems := config.Load(path, config.Options{LookupEnv: func(string) (string, bool) { return "", false }})
	if errs := problems.Errors(); len(errs) > 0 {
		t.Fatal(errs)
	}
	c := &composer{log: zerolog.Nop(), dialer: d, file: file}
	t.Cleanup(c.close)
	c.look(t.Context())
	snap, err := c.snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return c, snap
}

func simulator(t *testing.T, profile sim.Profile, models ...string) (s *sim.Server, host string) {
	t.Helper()
	s = sim.New(sim.Options{Profile: profile, Models: models})
	u, err := s.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, strings.TrimPrefix(u, "http://")
}

func backendOf(t *testing.T, snap *proxy.Snapshot, id string) upstream.Config {
	t.Helper()
	for _, b := range snap.Backends {
		if b.ID == id {
			return b
		}
	}
	t.Fatalf("no backend %s among %v", id, snap.States)
	return upstream.Config{}
}

// An address that somebody wrote down is asked, also in the LAN; one that our
// policy refuses is never dropped silently.
func TestDiscoveryAsksWhereItIsTold(t *testing.T) {
	_, host := simulator(t, sim.Ollama, "tiny:latest")
	_, snap := composed(t, `{proxy: {discovery: {addresses: ["http://192.168.77.1:1234", "http://gpu.local:1", "http://public.example.com:1"]}}}`,
		elsewhere(host, map[string]string{"gpu.local": "10.0.0.9", "public.example.com": "10.0.0.1"}))
	for _, id := range []string{"ollama", "ollama-1"} {
		if b := backendOf(t, snap, id); b.AllowPrivate == nil || !*b.AllowPrivate || snap.States[id].State != "ready" {
			t.Errorf("%s: %+v %+v", id, snap.States[id], b)
		}
	}
	const url = "http://public.example.com:1/v1"
	st := snap.States[url]
	if st.State != "misconfigured" || !strings.Contains(st.Detail, "models.providers.<id>.request.allowPrivateNetwork: true") {
		t.Errorf("the refused address: %+v of %v", st, snap.States)
	}
	var out strings.Builder
	reportProviders(&out, snap)
	if !strings.Contains(out.String(), url+" is not asked: address 10.0.0.1") {
		t.Errorf("check says\n%s", out.String())
	}
}

// What stands under proxy.providers holds for what discovery finds.
func TestFoundProvidersHaveTheirSettings(t *testing.T) {
	_, host := simulator(t, sim.Ollama, "tiny:latest")
	_, snap := composed(t, `{proxy: {discovery: {addresses: ["http://`+host+`"]},
		providers: {ollama: {near: false, kind: "llamacpp", totalMs: 300, deadlines: {firstContentMs: 200}, breaker: {consecutive: 9}, limits: {conns: 7}}}}}`, upstream.Dialer{})
	b := backendOf(t, snap, "ollama")
	if b.Near || b.Kind != catalog.KindLlamaCPP || b.Deadlines.FirstContent != 200*time.Millisecond || b.Deadlines.Total != 300*time.Millisecond || b.Breaker.Consecutive != 9 || b.Limits.Conns != 7 {
		t.Errorf("%+v", b)
	}
	if p := snap.Catalog.Providers[len(snap.Catalog.Providers)-1]; p.Near || p.Kind != catalog.KindLlamaCPP || len(p.Also) > 0 {
		t.Errorf("%+v", p)
	}
}

// A look that goes wrong takes nothing away: a busy server would be replaced by
// made-up answers.
func TestFoundServersAreRemembered(t *testing.T) {
	s, host := simulator(t, sim.Ollama, "tiny:latest")
	c, first := composed(t, `{proxy: {discovery: {addresses: ["http://`+host+`"]}}}`, upstream.Dialer{})
	if first.States["ollama"].State != "ready" {
		t.Fatalf("before: %v", first.States)
	}
	s.Close()
	if !c.look(t.Context()) {
		t.Error("a server that went away changes nothing")
	}
	snap, err := c.snapshot()
	if err != nil {
		t.Fatal(err)
	}
	st := snap.States["ollama"]
	if st.State != "unreachable" || !strings.HasPrefix(st.Detail, "ollama: ") || simulating(snap) {
		t.Errorf("after: %+v, simulating %v", snap.States, simulating(snap))
	}
	if _, ok := snap.Catalog.Lookup("ollama/tiny:latest"); !ok {
		t.Error("its model is gone")
	}
	if c.look(t.Context()) {
		t.Error("a second look in vain counts as a change")
	}
}

// The simulated backend stands in for nothing that was configured or found.
func TestSimulatedOnlyWhereDefaultMeansNothingElse(t *testing.T) {
	f := func(text string, want bool) {
		t.Helper()
		if _, snap := composed(t, text, upstream.Dialer{}); simulating(snap) != want {
			t.Errorf("%s\n got %v, want %v", text, simulating(snap), want)
		}
	}
	const nobody = `proxy: {discovery: {addresses: []}`
	f(`{`+nobody+`}}`, true)
	f(`{`+nobody+`, simulate: false}}`, false)
	f(`{agents: {defaults: {model: "ollama/x"}}, proxy: {discovery: {addresses: ["http://127.0.0.1:1"]}}}`, false)
	f(`{agents: {defaults: {model: "groq/openai/gpt-oss-120b"}}, `+nobody+`}}`, false)
	f(`{`+nobody+`, aliases: {default: "groq/openai/gpt-oss-120b"}}}`, false)
	f(`{models: {providers: {local: {baseUrl: "http://127.0.0.1:1/v1"}}}, `+nobody+`}}`, false)
}

// What software a configured server is comes from its own answers, also without
// discovery; what the file says stands above that, and what the provider is
// called below. Nobody can be asked offline.
func TestKindIsWhatTheServerSays(t *testing.T) {
	_, host := simulator(t, sim.LMStudio, "m")
	f := func(id, own, want string) {
		t.Helper()
		text := `{models: {mode: "replace", providers: {` + id + `: {baseUrl: "http://` + host + `/v1", models: [{id: "m"}]}}}, proxy: {discovery: {enabled: false}` + own + `}}`
		_, snap := composed(t, text, upstream.Dialer{})
		if got := kindText(snap.Catalog.Providers[0]); got != want {
			t.Errorf("%s\n got %q\nwant %q", text, got, want)
		}
		if m := snap.Catalog.Providers[0].Models[0]; m.Provider != snap.Catalog.Providers[0] {
			t.Error("the model has another provider than the snapshot")
		}
	}
	f("local", "", "; lmstudio by its answers")
	f("ollama", "", "; lmstudio by its answers")
	f("local", `, providers: {local: {kind: "vllm"}}`, "; vllm by proxy.providers.local.kind")

	file, problems := config.Load("", config.Options{LookupEnv: func(string) (string, bool) { return "", false }})
	if errs := problems.Errors(); len(errs) > 0 {
		t.Fatal(errs)
	}
	file.Providers = []*catalog.Provider{{ID: "ollama", Near: true, Kind: catalog.KindOllama, KindFrom: catalog.KindFromName}}
	offline := &composer{log: zerolog.Nop(), file: file, listing: true}
	snap, err := offline.snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if got := kindText(snap.Catalog.Providers[0]); got != "; ollama by the provider's name" {
		t.Errorf("offline: %q", got)
	}
}

// TestLooksForgetNoSlots: a look that has the model list and no answer to what it asks
// next takes no slots away: all that wait for one would be let go at once.
func TestLooksForgetNoSlots(t *testing.T) {
	was := upstream.Found{URL: "u", Kind: catalog.KindLlamaCPP, Told: true, State: upstream.StateReady, Slots: 2, Models: []upstream.FoundModel{{ID: "m"}}}
	f := func(now upstream.Found, want int) {
		t.Helper()
		now.Models = was.Models
		if got := remembered(was, now); got.Slots != want {
			t.Errorf("%+v: %d slots, want %d", now, got.Slots, want)
		}
	}
	f(upstream.Found{URL: "u", Kind: catalog.KindLlamaCPP, State: upstream.StateReady}, 2)
	f(upstream.Found{URL: "u", State: upstream.StateReady}, 2) // not even what it is
	f(upstream.Found{URL: "u", Kind: catalog.KindLlamaCPP, State: upstream.StateReady, Slots: 8}, 8)
	f(upstream.Found{URL: "u", Kind: catalog.KindOllama, State: upstream.StateReady}, 0)
}
