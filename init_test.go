package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"nearside/upstream/sim"
)

// terminal is a command that a person runs: what it shows, and a keyboard.
type terminal struct {
	t    *testing.T
	keys *os.File
	mu   sync.Mutex
	all  bytes.Buffer
	seen int
	more chan struct{}
	done chan error
}

func onTerminal(t *testing.T, env []string, args ...string) *terminal {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(append(cleanEnv(), "GORACE=atexit_sleep_ms=20"), env...)
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 200})
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, keys: f, more: make(chan struct{}, 1), done: make(chan error, 1)}
	t.Cleanup(func() { f.Close() })
	go func() {
		p := make([]byte, 4096)
		for {
			n, err := f.Read(p) // ends with an error when the command has ended
			x.mu.Lock()
			x.all.Write(p[:n])
			x.mu.Unlock()
			select {
			case x.more <- struct{}{}:
			default:
			}
			if err != nil {
				x.done <- cmd.Wait()
				return
			}
		}
	}()
	return x
}

// answer waits for a question that was not answered yet and types a line.
func (x *terminal) answer(question, line string) {
	x.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		x.mu.Lock()
		rest := x.all.String()[x.seen:]
		at := strings.Index(rest, question)
		if at >= 0 {
			x.seen += at + len(question)
		}
		x.mu.Unlock()
		if at >= 0 {
			break
		}
		select {
		case <-x.more:
		case <-timeout.C:
			x.t.Fatalf("nobody asked %q:\n%s", question, x.text())
		}
	}
	if _, err := x.keys.WriteString(line); err != nil {
		x.t.Fatal(err)
	}
}

func (x *terminal) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.all.String()
}

// end waits for the command's end.
func (x *terminal) end() error {
	x.t.Helper()
	select {
	case err := <-x.done:
		return err
	case <-time.After(patience):
		x.t.Fatalf("it does not end:\n%s", x.text())
		return nil
	}
}

// A person without a configuration answers a few questions and has one that
// loads, with what they said in it.
func TestInitAsksOnATerminal(t *testing.T) {
	t.Parallel()
	serve := func(opt sim.Options) string {
		s := sim.New(opt)
		u, err := s.Start("")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return u
	}
	lm := serve(sim.Options{Profile: sim.LMStudio, Models: []string{"qwen3-4b", "gemma-3"}})
	other := serve(sim.Options{Profile: sim.VLLM, Models: []string{"mystery"}, Key: "sk-secret-1"})
	out := filepath.Join(t.TempDir(), "new", "config.json5")
	x := onTerminal(t, []string{"GPU_KEY=sk-secret-1"}, "init", "--no-discovery", "--output", out)
	x.answer("Other machines of yours", strings.TrimPrefix(lm, "http://")+"\n")
	x.answer("Use it? [Y/n]", "maybe\n") // neither yes nor no is asked again
	x.answer("Use it? [Y/n]", "\n")
	x.answer("Base URL of another", other+"\n")
	x.answer("Environment variable that holds its key", "GPU_KEY\n")
	x.answer("Models, as its server names them", "\n")
	x.answer("Does mystery read images? [y/N]", "y\n")
	x.answer("Base URL of another", "ftp://nowhere\n")
	x.answer("Environment variable", "\n")
	x.answer("Models, as", "\n")
	x.answer("the address must be", "")
	x.answer("Base URL of another", "\n")
	x.answer("Which model is to answer", "2\n")
	x.answer("go on to", "\n")
	if err := x.end(); err != nil {
		t.Fatalf("%v\n%s", err, x.text())
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`primary: "lmstudio/gemma-3"`, `fallbacks: ["custom-127-0-0-1-`, `input: ["text", "image"], // as you say`, `apiKey: "${GPU_KEY}"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the file has no %s\n%s", want, text)
		}
	}
	if info, _ := os.Stat(out); info.Mode().Perm() != 0o600 {
		t.Errorf("the file has the mode %v", info.Mode())
	}
	cmd := exec.Command(binary, "check", "--config", out)
	cmd.Env = append(cleanEnv(), "GPU_KEY=sk-secret-1")
	if shown, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("check: %v\n%s", err, shown)
	}
}

// Ctrl-C at a question ends the command, and no half of a file stays.
func TestInitStopsAtAQuestion(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "config.json5")
	x := onTerminal(t, nil, "init", "--no-discovery", "--output", out)
	x.answer("Other machines of yours", "\x03")
	if err := x.end(); err == nil || !strings.Contains(x.text(), "stopped") {
		t.Errorf("it ends with %v\n%s", err, x.text())
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a file was written")
	}
}
