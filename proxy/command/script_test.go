package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"nearside/upstream/sim"
)

// The scripts run "nearside" as a process of this test binary, so that exit
// codes, standard streams and the race detector are the real ones.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"nearside": func() {
		os.Exit(Run(os.Args[1:], &Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Lookup: os.LookupEnv, Environ: os.Environ, Version: "test"}))
	}})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		// A home that is not there can be made by root, and what one script leaves in it
		// would be found by all others.
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, ".state"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"backend": backendCmd,
			"answer":  answerCmd,
			"refused": refusedCmd,
			"proxy":   proxyCmd,
			"expand":  expandCmd,

			"exec-code": execCodeCmd,
			"listen-at": listenAtCmd,
		},
	})
}

// backendCmd starts a simulated backend and puts its address into a variable:
// backend NAME [profile=…] [models=a,b] [context=n] [key=k] [reply=text] [reasoning=text] [images=yes].
func backendCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: backend NAME [key=value]...")
	}
	opt := sim.Options{Mark: true}
	for _, a := range args[1:] {
		k, v, _ := strings.Cut(a, "=")
		switch k {
		case "profile":
			opt.Profile = sim.Profile(v)
		case "models":
			opt.Models = strings.Split(v, ",")
		case "context":
			n, err := strconv.Atoi(v)
			ts.Check(err)
			opt.Context = n
		case "key":
			opt.Key = v
		case "reply":
			opt.Reply = v
		case "reasoning":
			opt.Reasoning = v
		case "images":
			opt.Images = v == "yes"
		default:
			ts.Fatalf("backend: no option %q", k)
		}
	}
	s := sim.New(opt)
	u, err := s.Start("")
	ts.Check(err)
	ts.Defer(func() { s.Close() })
	ts.Setenv(args[0], u)
}

// answerCmd starts a server that gives one answer to everything:
// answer NAME STATUS CONTENT-TYPE FILE [HEADER:VALUE]... ; "hang" as STATUS
// never answers.
func answerCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: answer NAME STATUS CONTENT-TYPE FILE [HEADER:VALUE]...")
	}
	var handler http.HandlerFunc
	if args[1] == "hang" {
		handler = func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}
	} else {
		status, err := strconv.Atoi(args[1])
		ts.Check(err)
		body := ts.ReadFile(args[3])
		handler = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", args[2])
			for _, h := range args[4:] {
				k, v, _ := strings.Cut(h, ":")
				w.Header().Set(k, v)
			}
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	s := httptest.NewServer(handler)
	ts.Defer(s.Close)
	ts.Setenv(args[0], s.URL)
}

// refusedCmd puts an address where nothing listens into a variable. The port is
// held to the end of the script, so that no other test gets it.
func refusedCmd(ts *testscript.TestScript, neg bool, args []string) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	ts.Check(err)
	ts.Defer(func() { unix.Close(fd) })
	ts.Check(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	at, err := unix.Getsockname(fd)
	ts.Check(err)
	ts.Setenv(args[0], fmt.Sprintf("http://127.0.0.1:%d", at.(*unix.SockaddrInet4).Port))
}

// proxyCmd runs "serve" within the test until its end and puts its address into
// a variable: proxy NAME CONFIG.
func proxyCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: proxy NAME CONFIG")
	}
	r, w := io.Pipe()
	stop, done := make(chan struct{}, 2), make(chan int, 1)
	lookup := func(k string) (string, bool) { return "", false }
	go func() {
		code := Run([]string{"serve", "--config", ts.MkAbs(args[1]), "--listen", "127.0.0.1:0"}, &Env{Stdin: strings.NewReader(""), Stdout: w, Stderr: io.Discard,
			Getenv: func(string) string { return "" }, Lookup: lookup, Stop: stop, Version: "test"})
		w.Close()
		done <- code
	}()
	ts.Defer(func() {
		stop <- struct{}{}
		if code := <-done; code != 0 {
			ts.Logf("serve exited with %d", code)
		}
	})
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		if _, rest, ok := strings.Cut(sc.Text(), "nearside listens on "); ok {
			u, _, _ := strings.Cut(rest, "/v1")
			ts.Setenv(args[0], u)
			go io.Copy(io.Discard, r)
			return
		}
	}
	ts.Fatalf("serve did not start")
}

// execCodeCmd runs a command that must exit with a code: exec-code CODE COMMAND...
func execCodeCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exec-code CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	var exit *exec.ExitError
	switch err := ts.Exec(args[1], args[2:]...); {
	case errors.As(err, &exit):
		if got := exit.ExitCode(); got != want {
			ts.Fatalf("%s exits with %d, want %d", strings.Join(args[1:], " "), got, want)
		}
	case err != nil:
		ts.Fatalf("%v", err)
	case want != 0:
		ts.Fatalf("%s exits with 0, want %d", strings.Join(args[1:], " "), want)
	}
}

// listenAtCmd writes a configuration that listens on every address, at the port
// of a URL: listen-at FILE URL.
func listenAtCmd(ts *testscript.TestScript, neg bool, args []string) {
	u, err := url.Parse(args[1])
	ts.Check(err)
	ts.Setenv("GATE_ADDRESS", u.Host)
	text := fmt.Sprintf("{proxy: {listen: %q}}", "0.0.0.0:"+u.Port())
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// expandCmd replaces $VARIABLES in files.
func expandCmd(ts *testscript.TestScript, neg bool, args []string) {
	for _, f := range args {
		text := os.Expand(ts.ReadFile(f), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(f), []byte(text), 0o600))
	}
}

// A simulated server that kept running, or that could not be told from a real
// one, would be worse than none.
func TestSimAnswersUntilStopped(t *testing.T) {
	r, w := io.Pipe()
	stop, done := make(chan struct{}, 1), make(chan int, 1)
	go func() {
		done <- Run([]string{"sim", "--profile", "lmstudio", "--models", "a,b"}, &Env{Stdin: strings.NewReader(""), Stdout: w, Stderr: io.Discard,
			Getenv: func(string) string { return "" }, Lookup: func(string) (string, bool) { return "", false }, Stop: stop, Version: "test"})
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(line, "SIMULATED lmstudio at http://127.0.0.1:") || !strings.Contains(line, "(a, b)") {
		t.Fatalf("sim says %q", line)
	}
	u := strings.Fields(line)[3]
	resp, err := http.Get(u + "/models")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.Header.Get("X-Nearside-Simulated") != "1" || !strings.Contains(string(body), `"a"`) {
		t.Fatalf("GET %s/models\n%v\n%s", u, resp.Header, body)
	}
	stop <- struct{}{}
	select {
	case code := <-done:
		if code != ExitOK {
			t.Fatalf("sim exits with %d, want %d", code, ExitOK)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("sim goes on after it was stopped")
	}
	if _, err := http.Get(u + "/models"); err == nil {
		t.Fatal("the server still answers after sim has ended")
	}
}

// A fault that does not happen would teach a client's author that all is well.
func TestSimFaultsAreFaults(t *testing.T) {
	for _, f := range append(faults(), fault{name: "none"}) {
		s := sim.New(sim.Options{Models: []string{"m"}, Mark: true, Keep: -1})
		if f.name != "none" {
			s.Push(sim.Script{Name: f.name, Steps: f.steps, Times: -1})
		}
		u, err := s.Start("")
		if err != nil {
			t.Fatal(err)
		}
		got := ask(t, u)
		s.Close()
		want := map[string]string{"none": "whole", "loading": "status 503", "busy": "status 429", "locked": "status 401", "broken": "status 500",
			"page": "no finish", "silent": "nothing", "stall": "stopped", "cut": "cut", "reset": "no answer", "error": "no finish", "unfinished": "no finish"}[f.name]
		if got != want {
			t.Errorf("fault %s\n got %q\nwant %q", f.name, got, want)
		}
	}
}

// ask sends a streamed request and says how it ended. Whoever never answers is
// given a moment.
func ask(t *testing.T, u string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u+"/v1/chat/completions",
		strings.NewReader(`{"model":"m","stream":true,"messages":[{"role":"user","content":"one two three"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	client := directClient(false)
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "nothing"
	case err != nil:
		return "no answer"
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case resp.StatusCode != http.StatusOK:
		return "status " + strconv.Itoa(resp.StatusCode)
	case errors.Is(err, context.DeadlineExceeded):
		return "stopped"
	case err != nil:
		return "cut"
	case !strings.Contains(string(body), `"finish_reason":"stop"`):
		return "no finish"
	}
	return "whole"
}

// Ctrl-C must end a command that waits for a slow backend, or a person kills
// the terminal.
func TestStopEndsProbe(t *testing.T) {
	asked := make(chan struct{}, 8)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	defer s.Close()
	path := filepath.Join(t.TempDir(), "config.json5")
	text := fmt.Sprintf(`{models: {providers: {slow: {baseUrl: %q, models: [{id: "m", name: "m"}]}}}, proxy: {discovery: {enabled: false}}}`, s.URL+"/v1")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"probe", "slow/m", "-c", path}, {"probe", "slow/m", "--gateway", s.URL}} {
		stop := make(chan struct{}, 1)
		var stderr strings.Builder
		done := make(chan int, 1)
		go func() {
			done <- Run(args, &Env{Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: &stderr,
				Getenv: func(string) string { return "" }, Lookup: func(string) (string, bool) { return "", false }, Stop: stop, Version: "test"})
		}()
		select {
		case <-asked:
		case code := <-done:
			t.Fatalf("%v exits with %d before the backend was asked: %s", args, code, stderr.String())
		}
		stop <- struct{}{}
		if code := <-done; code != ExitFailed || !strings.Contains(stderr.String(), "stopped") {
			t.Fatalf("%v after a stop: exit %d, %q; want %d and \"stopped\"", args, code, stderr.String(), ExitFailed)
		}
	}
}
