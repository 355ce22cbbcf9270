package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"io"

	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"nearside/upstream/sim"
)

// Everything is real but the amounts: the binary, its three roles, the sockets.
func TestOverheadMeasuresTheBinary(t *testing.T) {
	if !canCount() {
		t.Log("no schedstat here: Overhead says so instead of measuring")
		return
	}
	t.Cleanup(func() { goleak.VerifyNone(t) })
	binary := filepath.Join(t.TempDir(), "nearside")
	if out, err := exec.Command("go", "build", "-o", binary, "nearside").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var progress bytes.Buffer
	backend := addressOf(t)
	slow := relay(t, backend, delay)
	config := filepath.Join(t.TempDir(), "own.json5")
	if err := os.WriteFile(config, []byte(`{ proxy: { keys: { bench: { sha256: "492d192a1fce70c01700535c0c0e67ee68b9eac9fa14317bd17c13769930f3ad" } } } }`), 0o600); err != nil {
		t.Fatal(err)
	}
	report, err := Overhead(ctx, Options{Binary: binary, Rounds: 2, Version: "test", Progress: &progress, Config: config, Key: "k-bench-1234567890",
		Against: []Other{{Name: "slow", URL: "http://" + slow + "/v1", PID: os.Getpid()}}, Listen: backend, sizes: &sizes{
			test: 60 * time.Millisecond, warm: 10 * time.Millisecond, settle: 10 * time.Millisecond, conns: 4, large: 2, flood: 2, paced: 4, rate: 200,
			open: 100 * time.Millisecond, held: 20, still: 60 * time.Millisecond, leaves: 1, asks: 6, unheard: 20 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(progress.String(), "\n"); got != 3 {
		t.Errorf("progress %q: want where the backend is, and a line for each round", progress.String())
	}
	added(t, report)
	if len(report.Figures) != len(budgets) {
		t.Errorf("%d figures, want %d", len(report.Figures), len(budgets))
	}
	for _, f := range report.Figures {
		// What is added or grows can be below zero in so short a test.
		if f.Ours == nil || f.Ours.Median <= 0 && f.Name != figureAdded && f.Name != figureHeld {
			t.Errorf("%s: nearside %+v", f.Name, f.Ours)
		}
		if strings.HasPrefix(f.Name, "CPU") && (f.Bare == nil || f.Bare.Median <= 0 || f.Ratio == nil) {
			t.Errorf("%s: bare %+v, ratio %+v", f.Name, f.Bare, f.Ratio)
		}
	}
	if p, err := json.Marshal(report); err != nil || !bytes.Contains(p, []byte(`"firstAcceptable":"1.6×"`)) {
		t.Errorf("as JSON: %v\n%s", err, p)
	}
}

// delay is what the slow relay adds to each request.
const delay = 30 * time.Millisecond

// addressOf is a port of this machine that was free a moment ago.
func addressOf(t *testing.T) string {
	u, err := sim.Refused()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(u, "http://")
}

// relay stands before a backend and hands requests on late.
func relay(t *testing.T, backend string, late time.Duration) string {
	t.Helper()
	back := &httputil.ReverseProxy{FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(&url.URL{Scheme: "http", Host: backend}) },
		Transport: &http.Transport{MaxIdleConnsPerHost: 100, IdleConnTimeout: time.Second}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Whole, for the backend may answer before the last of it was looked at, which the
		// library takes for an error.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		time.Sleep(late)
		back.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		s.Close()
		back.Transport.(*http.Transport).CloseIdleConnections()
	})
	return strings.TrimPrefix(s.URL, "http://")
}

// added checks what each peer adds: a proxy that hands requests on late shows up with
// about that, and nobody else does.
func added(t *testing.T, r *Report) {
	t.Helper()
	seen := map[string]int{}
	for _, a := range r.Added {
		seen[a.Peer]++
		if a.P50 == nil || a.P90 == nil || a.P99 == nil || len(a.Direct) != 3 || a.Direct[0] <= 0 {
			t.Errorf("%+v: not measured", a)
			continue
		}
		if a.Measure != measureFirst {
			continue
		}
		late := float64(delay.Microseconds())
		switch got := a.P50.Median; {
		case a.Peer == "slow" && (got < late*0.8 || got > late*4):
			t.Errorf("%s, %s: the slow relay adds %.0f µs, want about %.0f", a.Test, a.Measure, got, late)
		case a.Peer != "slow" && got > late*0.8:
			t.Errorf("%s, %s: %s adds %.0f µs", a.Test, a.Measure, a.Peer, got)
		}
	}
	// first and end of each of four kinds but the whole one's first, the gaps of one, and
	// first and end beside slow streams.
	for _, name := range []string{"bare", "nearside", "slow"} {
		if want := 2*3 + 1 + 1 + 2; seen[name] != want {
			t.Errorf("%s has %d rows, want %d", name, seen[name], want)
		}
	}
	if len(r.Memory) != 3 || r.Memory[1].Requests == 0 || r.Memory[1].Tokens == 0 || r.Memory[1].Request == nil || r.Memory[1].MostMiB < r.Memory[1].MiB {
		t.Errorf("memory: %+v", r.Memory)
	}
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 140 && !strings.HasPrefix(line, "  ") {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{"beside other proxies", "beside 20 slow streams", "nearside with ", "slow: "} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// A binary that does not start is told with what it said, and nothing is left
// behind.
func TestOverheadTellsWhyAProcessDidNotStart(t *testing.T) {
	if !canCount() {
		t.Log("no schedstat here: Overhead says so instead of measuring")
		return
	}
	defer goleak.VerifyNone(t)
	_, err := Overhead(context.Background(), Options{Binary: "/bin/ls"})
	if err == nil || !strings.Contains(err.Error(), "simulated backend") || !strings.Contains(err.Error(), "child") {
		t.Errorf("got %v, want what /bin/ls said of --child", err)
	}
	if _, err := Overhead(context.Background(), Options{Binary: "/bin/ls", Rounds: RoundsMax + 1}); err == nil {
		t.Error("want an error for too many rounds")
	}
}

// The table is pasted into documents and read on a terminal.
func TestTableFitsHundredColumns(t *testing.T) {
	r := &Report{Version: "dev-0123456789ab", Rounds: 15, Seconds: 600, Machine: Machine{CPUs: 2, Model: "AMD EPYC", OS: "linux", Kernel: "6.18.44-fc-v445", Go: "go1.26.8", Load: "0.10 0.20 0.30"}}
	for _, b := range budgets {
		r.Figures = append(r.Figures, figure(b, []sample{{bare: 512.4, ours: 1328.2}, {bare: 612.4, ours: 1524.9}, {bare: 502, ours: 1292}}))
	}
	r.Figures = append(r.Figures, figure(budgets[len(budgets)-1], []sample{{bare: never, ours: 0.4}}))
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{"1328 [1292–1525]", "2.57 [2.49–2.59]", "2 CPUs AMD EPYC, linux 6.18.44-fc-v445, go1.26.8", "exceeded", "1.3× nginx", "0.40 [0.40–0.40]"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
