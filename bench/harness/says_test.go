package harness_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nearside/bench/harness"
	"nearside/bench/load"
	"nearside/bench/measure"
	"nearside/bench/report"
	"nearside/bench/workload"
	"nearside/upstream/sim"
)

// runAt runs one step against an address.
func runAt(t *testing.T, url string, p harness.Plan) (*harness.Result, *report.Report) {
	t.Helper()
	p.Targets = []*measure.Target{{Name: "t", BaseURL: url, Model: "m", Dialect: measure.Chat}}
	p.Source, p.Timeout, p.Rounds = &workload.Synthetic{Input: workload.Fixed(16), Output: workload.Fixed(4), Stream: true, Seed: 1}, 30*time.Second, 1
	if p.Steps == nil {
		p.Steps = []load.Step{load.Closed(1, 1, 0)}
	}
	res, err := harness.Run(context.Background(), &p, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res, report.Of(res, report.Meta{Targets: p.Targets})
}

// table is what people are shown.
func table(t *testing.T, r *report.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// How soon a server is free of a client that left is never told earlier than the server
// itself noticed, and not much later: by its own count, and by the next request.
func TestCancelLatencyIsTheServersOwn(t *testing.T) {
	for profile, how := range map[sim.Profile]string{sim.VLLM: harness.ByGauge, sim.Generic: harness.ByNext} {
		s := sim.New(sim.Options{Profile: profile, Slots: 1, Models: []string{"m"}, Timing: sim.Timing{Tokens: 400, PerToken: 4 * time.Millisecond}})
		u, err := s.Start("")
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var gone []time.Time
		done, over := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(over)
			for {
				select {
				case d := <-s.Gone():
					if d.Phase != sim.PhaseIdle {
						mu.Lock()
						gone = append(gone, d.At)
						mu.Unlock()
					}
				case <-done:
					return
				}
			}
		}()
		res, rep := runAt(t, u+"/v1", harness.Plan{Cancel: &harness.Cancel{After: 5, Times: 3}})
		close(done)
		<-over
		s.Close()
		if len(res.Left) != 3 || len(gone) < 3 {
			t.Fatalf("%s: %d left, the server noticed %d: %+v", profile, len(res.Left), len(gone), res.Left)
		}
		for _, l := range res.Left {
			// A connection that is let go at the end may be one more.
			at := res.Began.Add(l.At)
			noticed := gone[0]
			for _, g := range gone {
				if g.Sub(at).Abs() < noticed.Sub(at).Abs() {
					noticed = g
				}
			}
			if l.Error != "" || l.How != how || l.Events != 5 {
				t.Errorf("%s: %+v", profile, l)
				continue
			}
			// The next request's way is less exact by how much an idle answer varies.
			early, free := time.Duration(0), res.Began.Add(l.At+l.Freed)
			if how == harness.ByNext {
				early = 20 * time.Millisecond
			}
			if free.Add(early).Before(noticed) || free.Sub(noticed) > 500*time.Millisecond {
				t.Errorf("%s: free %v after the server noticed, of %v in all", profile, free.Sub(noticed), l.Freed)
			}
		}
		if text := table(t, rep); !strings.Contains(text, " ms after a client left amid an answer (median of 3, at most ") {
			t.Errorf("%s:\n%s", profile, text)
		}
	}
}

// A server that works on for a client that left makes the next one wait, and that shows.
func TestCancelLatencyShowsAServerThatWorksOn(t *testing.T) {
	const tokens, each = 100, 3 * time.Millisecond
	var slot sync.Mutex
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			http.NotFound(w, r)
			return
		}
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		n := tokens
		if !strings.Contains(body.String(), "Count from one") {
			n = 4
		}
		slot.Lock()
		defer slot.Unlock()
		w.Header().Set("Content-Type", "text/event-stream")
		for range n {
			fmt.Fprint(w, `data: {"choices":[{"index":0,"delta":{"content":"x"}}]}`+"\n\n")
			w.(http.Flusher).Flush()
			time.Sleep(each) // whoever listens
		}
		fmt.Fprint(w, `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`+"\n\ndata: [DONE]\n\n")
	}))
	defer s.Close()
	res, _ := runAt(t, s.URL+"/v1", harness.Plan{Cancel: &harness.Cancel{After: 5, Times: 1}})
	least := (tokens - 5) * each / 2 // half: the client may have been late to leave
	if l := res.Left; len(l) != 1 || l[0].Error != "" || l[0].How != harness.ByNext || l[0].Freed < least {
		t.Errorf("%+v: want at least %v", l, least)
	}
}

// What a server's metrics say of its queue is that of the step, and no other's.
func TestQueueTimeIsTheServersOwn(t *testing.T) {
	s := sim.New(sim.Options{Profile: sim.VLLM, Slots: 1, Stamps: 100, Models: []string{"m"}, Timing: sim.Timing{Tokens: 5, PerToken: 2 * time.Millisecond}})
	defer s.Close()
	u, err := s.Start("")
	if err != nil {
		t.Fatal(err)
	}
	res, rep := runAt(t, u+"/v1", harness.Plan{Warmup: 2, Steps: []load.Step{load.Closed(3, 12, 0)}})
	stamps := map[string]sim.Stamp{}
	for _, st := range s.Stamps() {
		stamps[st.ID] = st
	}
	sum, n := time.Duration(0), 0
	for i := range res.Samples {
		if sm := &res.Samples[i]; !sm.Warmup {
			st := stamps[sm.ID]
			sum, n = sum+st.Started.Sub(st.Read), n+1
		}
	}
	got := rep.Rows[0].Server
	if got == nil || n != 12 || math.Abs(float64(got.Queue-sum/12)) > float64(2*time.Millisecond) || got.Queue < 5*time.Millisecond {
		t.Errorf("its metrics say %+v, its stamps %v a request of %d", got, sum/time.Duration(max(n, 1)), n)
	}
	if text := table(t, rep); !strings.Contains(text, "the server says of a request (its metrics, mean): queue ") {
		t.Error(text)
	}
}

// Energy is what the machine's counters grew by, also when one begins anew, and what is
// counted twice there is counted once.
func TestEnergyIsRead(t *testing.T) {
	dir := t.TempDir()
	write := func(zone, file string, v any) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, zone), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, zone, file), []byte(fmt.Sprintln(v)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const most = 10_000_000
	package0, dram := 9_500_000, 100
	for zone, name := range map[string]string{"intel-rapl:0": "package-0", "intel-rapl:0:0": "core", "intel-rapl:0:1": "dram", "intel-rapl:1": "psys", "intel-rapl-mmio:0": "package-0"} {
		write(zone, "name", name)
		write(zone, "max_energy_range_uj", most)
		write(zone, "energy_uj", 100)
	}
	write("intel-rapl:0", "energy_uj", package0)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			http.NotFound(w, r)
			return
		}
		package0 = (package0 + 2_000_000) % most
		dram += 500_000
		write("intel-rapl:0", "energy_uj", package0)
		write("intel-rapl:0:0", "energy_uj", package0)
		write("intel-rapl:0:1", "energy_uj", dram)
		write("intel-rapl:1", "energy_uj", package0)
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, `data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":5}}`+"\n\ndata: [DONE]\n\n")
	}))
	defer s.Close()
	_, rep := runAt(t, s.URL+"/v1", harness.Plan{Power: dir, Steps: []load.Step{load.Closed(1, 4, 0)}})
	row := &rep.Rows[0]
	if math.Abs(row.Joules-10) > 1e-6 || math.Abs(row.TokenJ-0.5) > 1e-6 {
		t.Errorf("%v J, %v a token; want 4 × 2.5 J and 20 tokens", row.Joules, row.TokenJ)
	}
	if text := strings.Join(strings.Fields(table(t, rep)), " "); !strings.Contains(text, "0.50 J for each output token, by this machine's counters (dram, package-0): all that ran on it meanwhile") {
		t.Error(text)
	}
	// Of a target on another machine ours says nothing.
	far := []*measure.Target{{Name: "t", BaseURL: "http://gpubox:8000/v1", Model: "m", Dialect: measure.Chat}}
	res := &harness.Result{Samples: rep.Samples, Spans: rep.Spans, Energy: rep.Energy}
	if row := &report.Of(res, report.Meta{Targets: far}).Rows[0]; row.Joules != 0 || row.TokenJ != 0 {
		t.Errorf("another machine's: %+v", row)
	}
}
