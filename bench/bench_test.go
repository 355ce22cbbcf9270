package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"
)

// Everything is real but the amounts: the binary, its three roles, the sockets.
func TestOverheadMeasuresTheBinary(t *testing.T) {
	if !canCount() {
		t.Log("no schedstat here: Overhead says so instead of measuring")
		return
	}
	defer goleak.VerifyNone(t)
	binary := filepath.Join(t.TempDir(), "nearside")
	if out, err := exec.Command("go", "build", "-o", binary, "nearside").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var progress bytes.Buffer
	report, err := Overhead(ctx, Options{Binary: binary, Rounds: 2, Version: "test", Progress: &progress, sizes: &sizes{
		test: 60 * time.Millisecond, warm: 10 * time.Millisecond, settle: 10 * time.Millisecond, conns: 4, large: 2, flood: 2, paced: 4, rate: 200,
		open: 100 * time.Millisecond, held: 20, still: 60 * time.Millisecond, leaves: 1, unheard: 20 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(progress.String(), "\n"); got != 2 {
		t.Errorf("progress %q: want a line for each round", progress.String())
	}
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
