package command

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nearside/upstream"
	"nearside/upstream/sim"
)

// patientRoom is where a doctor is at work: a home, a configuration, backends.
type patientRoom struct {
	t      *testing.T
	home   string
	dialer upstream.Dialer
	fixes  []string // lines to type before
}

type doctorReport struct {
	Failures, Warnings int
	In                 int64 `json:"tokens_in"`
	Findings           []finding
}

// examine runs doctor on a configuration without discovery, which listens at port 0
// and keeps its data in the room unless it says otherwise.
func (r *patientRoom) examine(config string, args ...string) (rep doctorReport, code int) {
	r.t.Helper()
	if r.home == "" {
		r.home = r.t.TempDir()
	}
	path := filepath.Join(r.home, "config.json5")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		r.t.Fatal(err)
	}
	lookup := func(name string) (string, bool) {
		switch name {
		case "HOME":
			return r.home, true
		case "XDG_STATE_HOME":
			return filepath.Join(r.home, "state"), true
		case "BOX_API_KEY":
			return "sk-right", true
		}
		return "", false
	}
	get := func(name string) string { v, _ := lookup(name); return v }
	var out, errs bytes.Buffer
	env := &Env{Stdout: &out, Stderr: &errs, Getenv: get, Lookup: lookup, Version: "test", Dialer: r.dialer}
	for _, fix := range r.fixes { // as somebody would type them
		words, err := exec.Command("sh", "-c", `for w in `+strings.TrimPrefix(fix, "nearside ")+`; do printf '%s\0' "$w"; done`).Output()
		if err != nil {
			r.t.Fatal(err)
		}
		line := append(strings.Split(strings.TrimSuffix(string(words), "\x00"), "\x00"), "--config", path)
		if code := Run(line, env); code != 0 {
			r.t.Errorf("%s: exit %d, %s", fix, code, errs.Bytes())
		}
	}
	out.Reset()
	code = Run(append([]string{"doctor", "--json", "--config", path}, args...), env)
	if err := json.Unmarshal(out.Bytes(), &rep); err != nil {
		r.t.Fatalf("%v in %s%s", err, out.Bytes(), errs.Bytes())
	}
	for i := range rep.Findings { // what is typed must change the file that was looked at
		f := &rep.Findings[i]
		if short, ok := strings.CutSuffix(f.Fix, " --config "+path); ok {
			f.Fix = short
		} else if strings.HasPrefix(f.Fix, "nearside config ") || strings.HasPrefix(f.Fix, "nearside doctor ") {
			r.t.Errorf("%q is for another configuration than %s", f.Fix, path)
		}
	}
	return rep, code
}

// has fails the test unless one finding is as told.
func (rep doctorReport) has(t *testing.T, check, level, text, fix string) {
	t.Helper()
	for _, f := range rep.Findings {
		if f.Check == check && f.Level == level && strings.Contains(f.Text, text) && (fix == "" || f.Fix == fix) {
			return
		}
	}
	var all []string
	for _, f := range rep.Findings {
		all = append(all, fmt.Sprintf("%s %s: %s [%s]", f.Level, f.Check, f.Text, f.Fix))
	}
	t.Errorf("no %s of %q with %q and %q in\n%s", level, check, text, fix, strings.Join(all, "\n"))
}

func simAt(t *testing.T, opt sim.Options) (*sim.Server, string) {
	t.Helper()
	s := sim.New(opt)
	url, err := s.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, url + "/v1"
}

// box is a configuration with one provider called box, of one model.
func box(url, provider, model string) string {
	return fmt.Sprintf(`{ models: { providers: { box: { baseUrl: %q, %s models: [{ id: "m", contextWindow: 32768, maxTokens: 4096, %s }] } } },
		proxy: { listen: "127.0.0.1:0", discovery: { enabled: false } } }`, url, provider, model)
}

func completions(s *sim.Server) (n int) {
	for _, r := range s.Requests() {
		if r.Method == http.MethodPost && strings.HasPrefix(r.Path, "/v1/") {
			n++
		}
	}
	return n
}

// A backend that is well passes every rung, and costs nothing where it is far.
func TestDoctorFindsNothingWrong(t *testing.T) {
	near, url := simAt(t, sim.Options{Profile: sim.LMStudio, Models: []string{"m"}})
	far, farURL := simAt(t, sim.Options{Models: []string{"m"}})
	config := fmt.Sprintf(`{ models: { providers: { box: { baseUrl: %q, models: [{ id: "m", contextWindow: 32768 }] }, cloud: { baseUrl: %q, apiKey: "sk-0123456789abcdef", models: [{ id: "m", contextWindow: 32768 }] } } },
		agents: { defaults: { model: { primary: "box/m", fallbacks: ["cloud/m"] } } },
		proxy: { listen: "127.0.0.1:0", discovery: { enabled: false }, providers: { cloud: { near: false } } } }`, url, farURL)
	r := patientRoom{t: t}
	rep, code := r.examine(config)
	if code != 0 || rep.Failures > 0 || rep.Warnings > 1 { // its file holds a key
		t.Errorf("exit %d, %d failures, %d warnings", code, rep.Failures, rep.Warnings)
	}
	for _, check := range []string{"connection", "HTTP", "model list", "exists", "context window", "completion", "stream", "string content", "tools", "lean mode", "file", "folder", "address"} {
		rep.has(t, check, levelPass, "", "")
	}
	rep.has(t, "completion", levelSkip, "--far", "")
	if n := completions(far); n != 0 {
		t.Errorf("the far model was asked %d times", n)
	}
	if n := completions(near); n != 5 {
		t.Errorf("the near model was asked %d times, want once a rung", n)
	}
	before := rep.In
	if rep, code = r.examine(config, "--far", "cloud/m"); code != 0 || completions(far) != 1 || rep.In == 0 || rep.In > before {
		t.Errorf("exit %d, the far model was asked %d times, %d tokens", code, completions(far), rep.In)
	}
}

// Each rung that breaks says what it means and prints the line that mends it; what
// stands on it is not tried.
func TestDoctorStopsAtTheRungThatBreaks(t *testing.T) {
	f := func(name string, opt sim.Options, provider, model string, code int, check, level, text, fix string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opt.Models = []string{"m"}
			_, url := simAt(t, opt)
			r := patientRoom{t: t}
			rep, got := r.examine(box(url, provider, model))
			if got != code {
				t.Errorf("exit %d, want %d", got, code)
			}
			rep.has(t, check, level, text, fix)
			if !strings.HasPrefix(fix, "nearside config set ") {
				return
			}
			r.fixes = []string{fix}
			rep, _ = r.examine(box(url, provider, model))
			for _, f := range rep.Findings {
				if f.Check == check && f.Level == level && f.Fix == fix && !strings.Contains(fix, "tool_choice") { // which no sim is forced by
					t.Errorf("it says the same again once %s was typed: %s", fix, f.Text)
				}
			}
		})
	}
	f("strings only", sim.Options{Quirks: []string{"string-content-only"}}, "", "", 0, "string content", levelWarn, "as texts only", "nearside config set 'models.providers.box.models[0].compat.requiresStringContent' true")
	f("strings said", sim.Options{Quirks: []string{"string-content-only"}}, "", "compat: { requiresStringContent: true }", 0, "string content", levelPass, "sent as texts", "")
	f("no tools", sim.Options{Quirks: []string{"no-tools"}}, "", "", 1, "tools", levelFail, "fails with one", "nearside config set 'models.providers.box.models[0].compat.supportsTools' false")
	f("words for tools", sim.Options{ToolWord: "nothing says this"}, "", "", 0, "tools", levelWarn, "calls nothing", "nearside config set 'models.providers.box.models[0].compat.supportsTools' false")
	f("calls as text", sim.Options{ToolWord: "nothing says this", Reply: "[get_weather]\n{\"city\":\"Paris\"}\n[END_TOOL_REQUEST]"}, "", "", 0, "tools", levelWarn, "as text",
		`nearside config set agents.defaults.models '{"box/m":{"params":{"extra_body":{"tool_choice":"required"}}}}' --strict-json --merge`)
	f("too many tools", sim.Options{Quirks: []string{"tools-max-400=5"}}, "", "", 0, "lean mode", levelWarn, "Lean mode leaves the heaviest out", "nearside config set agents.defaults.experimental.localModelLean true")
	f("window", sim.Options{Profile: sim.VLLM, Context: 16384}, "", "", 0, "context window", levelWarn, "16384", "nearside config set 'models.providers.box.models[0].contextWindow' 16384")
	f("key", sim.Options{Key: "sk-right"}, "", "", 1, "model list", levelFail, "asks for a key", "nearside config set models.providers.box.apiKey '${BOX_API_KEY}'")
	f("thinks only", sim.Options{Reasoning: strings.Repeat("hm ", 2000)}, "", "", 0, "completion", levelWarn, "it only thought", "")
	f("asleep", sim.Options{Profile: sim.LMStudio, Timing: sim.Timing{Load: time.Millisecond}}, "", "", 0, "completion", levelSkip, "asking it would load it", "nearside doctor box/m")
}

// A provider's name may have dots, which are no steps of a path.
func TestDoctorWritesPathsThatLeadThere(t *testing.T) {
	_, url := simAt(t, sim.Options{Models: []string{"m"}, Key: "sk-right"})
	r := patientRoom{t: t}
	config := strings.Replace(box(url, "", ""), "box:", `"box.lan":`, 1)
	rep, _ := r.examine(config)
	fix := `nearside config set 'models.providers["box.lan"].apiKey' '${BOX_LAN_API_KEY}'`
	rep.has(t, "model list", levelFail, "asks for a key", fix)
	r.fixes = []string{strings.Replace(fix, "BOX_LAN_API_KEY", "BOX_API_KEY", 1)}
	rep, _ = r.examine(config)
	rep.has(t, "model list", levelPass, "", "")
}

// The way to a backend is told apart from the backend.
func TestDoctorTellsTheWayFromTheBackend(t *testing.T) {
	refused, err := sim.Refused()
	if err != nil {
		t.Fatal(err)
	}
	r := patientRoom{t: t}
	rep, code := r.examine(box(refused+"/v1", "", ""))
	rep.has(t, "connection", levelFail, "is not running, or listens elsewhere", "")
	rep.has(t, "completion", levelSkip, "", "")
	if code != ExitFailed {
		t.Errorf("exit %d", code)
	}
	r.dialer.Dial = func(context.Context, string, string) (net.Conn, error) {
		t.Error("a refused address was called")
		return nil, errors.New("no")
	}
	rep, _ = r.examine(box("http://192.168.1.20:8000/v1", "", ""))
	rep.has(t, "address policy", levelFail, "is private", "nearside config set models.providers.box.request.allowPrivateNetwork true")
	r.dialer = upstream.Dialer{}

	_, url := simAt(t, sim.Options{Models: []string{"other"}})
	rep, _ = r.examine(box(url, "", ""))
	rep.has(t, "exists", levelFail, `no model "m"; it has other`, "nearside config set 'models.providers.box.models[0].id' other")
	r.fixes = []string{"nearside config set 'models.providers.box.models[0].id' other"}
	rep, _ = r.examine(box(url, "", ""))
	rep.has(t, "exists", levelPass, "", "")
	r.fixes = nil
	rep, _ = r.examine(box(strings.TrimSuffix(url, "/v1"), "", ""))
	rep.has(t, "model list", levelFail, "", "nearside config set models.providers.box.baseUrl "+url)
	r.fixes = []string{"nearside config set models.providers.box.baseUrl " + url}
	rep, _ = r.examine(box(strings.TrimSuffix(url, "/v1"), "", ""))
	rep.has(t, "model list", levelPass, "", "")
	r.fixes = nil

	late := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		fmt.Fprint(w, `{"object":"list","data":[{"id":"m"}]}`)
	}))
	defer late.Close()
	rep, _ = r.examine(box(late.URL+"/v1", "", ""))
	rep.has(t, "clock", levelWarn, "apart", "sudo timedatectl set-ntp true")
}

// certificate makes one that signs itself.
func certificate(t *testing.T, name string, until time.Time) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: until.Add(-365 * 24 * time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true}
	if ip := net.ParseIP(name); ip != nil {
		tmpl.IPAddresses = []net.IP{ip}
	} else {
		tmpl.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}

// What is wrong with a certificate has a name: its end, its name, its signer.
func TestDoctorReadsCertificates(t *testing.T) {
	f := func(name string, until time.Duration, trusted bool, level, text string) {
		t.Helper()
		cert, ca := certificate(t, name, time.Now().Add(until))
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"object":"list","data":[{"id":"m"}]}`) }))
		s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		s.Config.ErrorLog = quietLog()
		s.StartTLS()
		defer s.Close()
		provider := ""
		if trusted {
			provider = fmt.Sprintf("request: { tls: { ca: %q } },", ca)
		}
		r := patientRoom{t: t}
		rep, _ := r.examine(box(s.URL+"/v1", provider, ""))
		rep.has(t, "TLS", level, text, "")
	}
	f("127.0.0.1", 90*24*time.Hour, true, levelPass, "good until")
	f("127.0.0.1", 5*24*time.Hour, true, levelWarn, "renew it")
	f("127.0.0.1", -time.Hour, true, levelFail, "ran out")
	f("box.example", 90*24*time.Hour, true, levelFail, "another name")
	f("127.0.0.1", 90*24*time.Hour, false, levelFail, "nobody that this machine trusts")
}

// What the machine itself lacks is found without being touched.
func TestDoctorLooksAtTheMachineAndChangesNothing(t *testing.T) {
	_, url := simAt(t, sim.Options{Models: []string{"m"}})
	r := patientRoom{t: t, home: t.TempDir()}
	data := filepath.Join(r.home, "state", "nearside")
	if err := os.MkdirAll(data, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{storeFile: "SQLite format 3\x00 and then nothing", sealKeyFile: "x"} {
		if err := os.WriteFile(filepath.Join(data, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	before := tree(t, data)
	rep, code := r.examine(strings.Replace(box(url, "", ""), "127.0.0.1:0", ln.Addr().String(), 1))
	if code != ExitFailed {
		t.Errorf("exit %d", code)
	}
	rep.has(t, "address", levelFail, "another program listens", "nearside config set proxy.listen 127.0.0.1:4142")
	rep.has(t, "folder", levelWarn, "mode 0755", "chmod 700 "+data)
	rep.has(t, storeFile, levelFail, "is damaged", "")
	rep.has(t, storeFile, levelWarn, "mode 0644", "chmod 600 "+filepath.Join(data, storeFile))
	rep.has(t, sealKeyFile, levelWarn, "mode 0644", "")
	if after := tree(t, data); after != before {
		t.Errorf("it changed\n%s\nto\n%s", before, after)
	}

	rep, code = r.examine(`{ proxy: { lisen: "127.0.0.1:1" } }`)
	if code != ExitUsage {
		t.Errorf("a bad configuration exits %d", code)
	}
	rep.has(t, "content", levelFail, `did you mean "listen"?`, "")
	rep, code = r.examine(`{ proxy: { listen: "127.0.0.1:0", discovery: { enabled: false } } }`)
	rep.has(t, "any", levelFail, "no model server", "nearside init --host 127.0.0.1:1234")
	if code != ExitFailed {
		t.Errorf("exit %d", code)
	}
}

// tree is what is in a folder: names, modes, sizes and times.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil {
			fmt.Fprintln(&b, path, info.Mode(), info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The names of models tell what the page on local models warns of.
func TestDoctorReadsNames(t *testing.T) {
	f := func(id string, quantised, small bool) {
		t.Helper()
		if q, s := fewBits.MatchString(id), few.MatchString(id); q != quantised || s != small {
			t.Errorf("%s: quantised %v, small %v", id, q, s)
		}
	}
	f("mlx-community/Qwen3-30B-A3B-6bit", false, false)
	f("mlx-community/Qwen3-4B-4bit", true, true)
	f("llama3.1:8b-instruct-q4_K_M", true, true)
	f("qwen2.5-coder-32b-iq3_xxs", true, false)
	f("gpt-oss-120b", false, false)
	f("qwen3:0.6b", false, true)
	f("deepseek-r1-awq", true, false)
}

func quietLog() *log.Logger { return log.New(&bytes.Buffer{}, "", 0) }
