package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"nearside/upstream/sim"
)

// benchRun is what a run of bench printed.
type benchRun struct {
	out, errs bytes.Buffer
	code      int
	report    struct {
		Interrupted bool
		Rows        []struct {
			Target, Step string
			Requests     int
			Failed       map[string]int
		}
		Down []struct {
			Target, Error string
			After         int `json:"after_failures"`
		}
	}
}

// runBench runs bench with --json; meanwhile is done while it runs, with its process.
func runBench(t *testing.T, meanwhile func(*os.Process), args ...string) *benchRun {
	t.Helper()
	r := &benchRun{}
	cmd := exec.Command(binary, append(append([]string{"bench"}, args...), "--json")...)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.Dir = append(cleanEnv(), "GORACE=atexit_sleep_ms=20"), &r.out, &r.errs, t.TempDir()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer ended.Stop()
	if meanwhile != nil {
		meanwhile(cmd.Process)
	}
	cmd.Wait()
	r.code = cmd.ProcessState.ExitCode()
	if err := json.Unmarshal(r.out.Bytes(), &r.report); err != nil {
		t.Fatalf("exit %d, %v:\n%s%s", r.code, err, r.out.Bytes(), r.errs.Bytes())
	}
	return r
}

// serveSim starts a simulated backend and returns it with its base URL.
func serveSim(t *testing.T, opt sim.Options) (*sim.Server, string) {
	t.Helper()
	s := sim.New(opt)
	u, err := s.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, u + "/v1"
}

// seen waits for n requests of a model, beside what bench asks of a server itself.
func seen(t *testing.T, s *sim.Server, n int) {
	t.Helper()
	timeout := time.After(patience)
	for n > 0 {
		select {
		case r := <-s.Seen():
			if strings.HasSuffix(r.Path, "/chat/completions") {
				n--
			}
		case <-timeout:
			t.Fatalf("%d requests did not come", n)
		}
	}
}

// What was measured before Ctrl-C is worth as much as it was.
func TestBenchKeepsWhatWasMeasured(t *testing.T) {
	s, u := serveSim(t, sim.Options{Timing: sim.Timing{Tokens: 10, PerToken: 2 * time.Millisecond}})
	r := runBench(t, func(p *os.Process) {
		seen(t, s, 8)
		p.Signal(os.Interrupt)
	}, "a="+u+"#m", "--rounds", "1", "--warmup", "1", "--requests", "5000")
	if rows := r.report.Rows; r.code != 1 || !r.report.Interrupted || len(rows) != 1 || rows[0].Requests < 3 || rows[0].Requests > 1000 || len(rows[0].Failed) > 0 {
		t.Errorf("exit %d: %+v", r.code, r.report)
	}
	if !strings.Contains(r.errs.String(), "stopped before all was measured") {
		t.Errorf("it says %q", r.errs.String())
	}
}

// A target that dies is told of, and the others are measured to the end.
func TestBenchGoesOnWithoutATargetThatDied(t *testing.T) {
	_, live := serveSim(t, sim.Options{Timing: sim.Timing{Tokens: 4, PerToken: time.Millisecond}})
	s, dies := serveSim(t, sim.Options{Timing: sim.Timing{Tokens: 4, PerToken: time.Millisecond}})
	r := runBench(t, func(*os.Process) {
		seen(t, s, 4)
		s.Close()
	}, "live="+live+"#m", "dies="+dies+"#m", "--rounds", "3", "--warmup", "0", "--requests", "20", "--down-after", "3")
	if r.code != 0 || len(r.report.Rows) != 2 {
		t.Fatalf("exit %d: %+v\n%s", r.code, r.report, r.errs.Bytes())
	}
	for _, row := range r.report.Rows {
		switch row.Target {
		case "live":
			if row.Requests != 60 || len(row.Failed) > 0 {
				t.Errorf("live: %+v", row)
			}
		case "dies": // three refusals, and at most the answer that broke off
			if row.Failed["connect"] != 3 || row.Requests > 20 {
				t.Errorf("dies: %+v", row)
			}
		}
	}
	if d := r.report.Down; len(d) != 1 || d[0].Target != "dies" || d[0].After != 3 || !strings.Contains(d[0].Error, "refused") {
		t.Errorf("down: %+v", d)
	}
}

// Every command that the page shows for targets asks whom it says.
func TestBenchTargetsPageIsTrue(t *testing.T) {
	_, near := serveSim(t, sim.Options{Models: []string{"qwen3-8b"}, Mark: true, Timing: sim.Timing{Tokens: 8}})
	_, far := serveSim(t, sim.Options{Models: []string{"big"}, Key: "k", Mark: true, Timing: sim.Timing{Tokens: 8}})
	text := func(listen string) string {
		return `{ models: { mode: "replace", providers: {
			lmstudio: { baseUrl: "` + near + `", models: [{ id: "qwen3-8b", contextWindow: 32768 }] },
			gpubox: { baseUrl: "` + near + `", models: [{ id: "qwen3-8b", contextWindow: 32768 }] },
			hosted: { baseUrl: "` + far + `", apiKey: "k", models: [{ id: "big", contextWindow: 32768, cost: { input: 1, output: 2, cacheRead: 0, cacheWrite: 0 } }] } } },
			proxy: { ` + listen + ` discovery: { enabled: false }, providers: { gpubox: { endpoints: [{ name: "attic", url: "` + near + `" }] } } } }`
	}
	proxy := start(t, text(""))
	config := filepath.Join(t.TempDir(), "config.json5")
	if err := os.WriteFile(config, []byte(text(`listen: "`+proxy.addr+`",`)), 0o600); err != nil {
		t.Fatal(err)
	}
	given := map[string]string{"http://127.0.0.1:8000/v1": near, "https://api.example.com/v1": far, "nearside bench ": "nearside bench --rounds 1 --requests 2 "}
	want := map[string][]string{
		"lmstudio/qwen3-8b gpubox": {"lmstudio/qwen3-8b( \\(sim\\))? +c=1 +2 +0 ", "gpubox/qwen3-8b( \\(sim\\))? +c=1 +2 +0 "},
		"mlx=":                     {"mlx( \\(sim\\))? +c=1 +2 +0 ", "vllm( \\(sim\\))? +c=1 +2 +0 "},
		"through=":                 {"direct( \\(sim\\))? +c=1 +2 +0 ", "through( \\(sim\\))? +c=1 +2 +0 "},
		"--dry-run":                {` local +chat +3 .* none known`, ` hosted +chat +3 .* \$0\.0`, "No model was asked"},
		"?dialect=":                {`dialect=responses( \(sim\))? +c=1 +2 +0 `, `qwen3-8b\?whole( \(sim\))? +c=1 +2 +0 +– `},
		"--max-cost":               {`hosted/big( \(sim\))? +c=1 +2 +0 `, `Cost: \$0\.`},
	}
	runPage(t, section(t, "docs/bench.md", "Targets"), given, []string{"NEARSIDE_CONFIG=" + config, "EXAMPLE_API_KEY=k"}, func(line, out string, code int) {
		for word, all := range want {
			if !strings.Contains(line, word) {
				continue
			}
			delete(want, word)
			for _, says := range all {
				if code != 0 || !regexp.MustCompile(says).MatchString(out) {
					t.Errorf("%s: exit %d, want %q in\n%s", line, code, says, out)
				}
			}
			return
		}
		t.Errorf("%s: what does it do?", line)
	})
}

// The comparison that the page shows is true of the two simulated servers: the one that
// reads a prompt slowly has its first token later, and the report says what they are.
func TestBenchComparisonPageIsTrue(t *testing.T) {
	text, err := os.ReadFile(section(t, "docs/bench.md", "A comparison"))
	if err != nil {
		t.Fatal(err)
	}
	given := strings.NewReplacer("--concurrency 1,4", "--concurrency 1,4 --requests 4 --quiet", "--output 64", "--output 6", "--rounds 5", "--rounds 2")
	urls := map[string]string{}
	compared := false
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "nearside ") {
			continue
		}
		if at := regexp.MustCompile(`--listen (127\.0\.0\.1:\d+)`).FindStringSubmatch(line); at != nil {
			cmd := exec.Command("sh", "-c", "exec "+strings.Replace(strings.Replace(line, "nearside", binary, 1), at[1], "127.0.0.1:0", 1)+" --load 1ms")
			cmd.Env = cleanEnv()
			r := follow(t, cmd)
			said := r.wait("SIMULATED", func(l string) bool { return strings.HasPrefix(l, "SIMULATED") })
			urls[at[1]] = regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(said)
			continue
		}
		for from, to := range urls {
			line = strings.ReplaceAll(line, from, to)
		}
		cmd := exec.Command("sh", "-c", strings.Replace(given.Replace(line), "nearside", binary, 1)+" --json")
		cmd.Env = append(cleanEnv(), "GORACE=atexit_sleep_ms=20")
		out, err := cmd.Output()
		var report struct {
			Simulated bool
			Rows      []struct {
				Target, Step string
				TTFT         struct {
					P50 int64 `json:"p50_ns"`
				}
			}
		}
		if err != nil || json.Unmarshal(out, &report) != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
		first := map[string]int64{}
		for _, row := range report.Rows {
			first[row.Target+" "+row.Step] = row.TTFT.P50
		}
		if !report.Simulated || len(report.Rows) != 4 || first["mlx c=1"] < 2*first["vllm c=1"] || first["vllm c=1"] == 0 {
			t.Errorf("%s: simulated %v, first tokens %v", line, report.Simulated, first)
		}
		compared = true
	}
	if !compared || len(urls) != 2 {
		t.Errorf("the page shows no comparison of two: %v", urls)
	}
}

// The commands that the page shows for the proxy's own cost are taken as they are. They
// are given no round to measure in; bench's own test measures.
func TestBenchOverheadPageIsTrue(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config.json5")
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	given := map[string]string{" --rounds 15": "", "nearside bench --overhead": "nearside bench --overhead --rounds 0", "config.json5": config}
	runPage(t, section(t, "docs/bench.md", "What the proxy costs"), given, nil, func(line, out string, code int) {
		if code != 2 || !strings.Contains(out, "--rounds: from 1 to 100") {
			t.Errorf("%s: exit %d\n%s", line, code, out)
		}
	})
}
