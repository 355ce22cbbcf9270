package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/goccy/go-json"
)

// ChildSim and ChildBare are the roles that the binary takes on with
// "nearside bench --child=ROLE"; see ServeSim and ServeBare.
const (
	ChildSim  = "sim"
	ChildBare = "bare"
)

const (
	readyWithin = 20 * time.Second // for a process to say where it listens
	endWithin   = 5 * time.Second  // for a process to end once the run was stopped
	tailBytes   = 4 << 10          // of a process's log, for the error when it fails
	lineBytes   = 64 << 10         // of a process's output
)

// process is one started process.
type process struct {
	name string
	cmd  *exec.Cmd
	out  *bufio.Scanner
	log  *tail
	pipe io.Closer
	read sync.WaitGroup // readers of out
}

// spawn starts the binary. Its log is read all the time and thrown away but for
// the end; the caller reads out.
func spawn(ctx context.Context, name, binary string, env []string, args ...string) (*process, error) {
	p := &process{name: name, cmd: exec.CommandContext(ctx, binary, args...), log: &tail{}}
	p.cmd.Stderr = p.log
	p.cmd.Env = append(append(os.Environ(), "NEARSIDE_CONFIG=", "NO_COLOR=1"), env...)
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = endWithin
	endWithParent(p.cmd)
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.pipe = stdout
	p.out = bufio.NewScanner(stdout)
	p.out.Buffer(make([]byte, 4<<10), lineBytes)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// line returns the next line of output.
func (p *process) line() (string, error) {
	timer := time.AfterFunc(readyWithin, func() { p.pipe.Close() })
	defer timer.Stop()
	if p.out.Scan() {
		return p.out.Text(), nil
	}
	return "", errors.New("it ended or was silent before it said where it listens")
}

// failed ends a process that did not start well and returns why, with the end of
// its log.
func (p *process) failed(err error) error {
	p.kill()
	return fmt.Errorf("start %s: %w: %s", p.name, err, p.log)
}

// kill ends the process at once, and waits for it and the reader of its output.
// Streams may hang in it, and nothing of it is kept.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	p.read.Wait() // os/exec wants its pipe read to the end before Wait
	_ = p.cmd.Wait()
}

// drain reads the rest of the output, so that the process never waits for us.
func (p *process) drain(each func(line []byte)) {
	p.read.Go(func() {
		for p.out.Scan() {
			if each != nil {
				each(p.out.Bytes())
			}
		}
	})
}

// addresses reads notes up to the empty one: host:port by the backend's name.
func (p *process) addresses() (map[string]string, error) {
	all := map[string]string{}
	for range 100 {
		l, err := p.line()
		if err != nil {
			return nil, err
		}
		var n note
		if err := json.Unmarshal([]byte(l), &n); err != nil {
			return nil, fmt.Errorf("it said %q: %w", l, err)
		}
		if n.Backend == "" {
			return all, nil
		}
		all[n.Backend] = strings.TrimPrefix(n.URL, "http://")
	}
	return nil, errors.New("it named too many backends")
}

// tail keeps the end of what is written.
type tail struct {
	mu sync.Mutex // guards all below
	p  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(p) >= tailBytes {
		t.p = append(t.p[:0], p[len(p)-tailBytes:]...)
		return len(p), nil
	}
	if over := len(t.p) + len(p) - tailBytes; over > 0 {
		t.p = t.p[:copy(t.p, t.p[over:])]
	}
	t.p = append(t.p, p...)
	return len(p), nil
}

// String returns what is kept, on one line.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.p) == 0 {
		return "it logged nothing"
	}
	return string(bytes.ReplaceAll(bytes.TrimSpace(t.p), []byte("\n"), []byte(" | ")))
}

// startSim starts the backends.
func startSim(ctx context.Context, binary, listen string, each func(note)) (*process, map[string]string, error) {
	p, err := spawn(ctx, "the simulated backend", binary, nil, "bench", "--child="+ChildSim, "--backend-listen="+listen)
	if err != nil {
		return nil, nil, err
	}
	addrs, err := p.addresses()
	if err != nil {
		return nil, nil, p.failed(err)
	}
	p.drain(func(line []byte) {
		var n note
		if json.Unmarshal(line, &n) == nil {
			each(n)
		}
	})
	return p, addrs, nil
}

// startBare starts the relay before the given backends.
func startBare(ctx context.Context, binary string, backends map[string]string) (*process, map[string]string, error) {
	args := []string{"bench", "--child=" + ChildBare}
	for name, addr := range backends {
		args = append(args, "--upstream="+name+"="+addr)
	}
	p, err := spawn(ctx, "the bare relay", binary, nil, args...)
	if err != nil {
		return nil, nil, err
	}
	addrs, err := p.addresses()
	if err != nil {
		return nil, nil, p.failed(err)
	}
	p.drain(nil)
	return p, addrs, nil
}

// includeRoots names further folders that a configuration may include files of.
const includeRoots = "OPENCLAW_INCLUDE_ROOTS"

// startProxy starts the proxy as users run it, each backend a provider. Only
// the search for servers that happen to run on this machine is off. beneath is a
// configuration that ours stands above; empty for none.
func startProxy(ctx context.Context, binary, dir, beneath string, backends map[string]string) (*process, map[string]string, error) {
	type model struct {
		ID            string `json:"id"`
		ContextWindow int    `json:"contextWindow"`
	}
	type provider struct {
		BaseURL string  `json:"baseUrl"`
		API     string  `json:"api"`
		Models  []model `json:"models"`
	}
	const window = 10_000_000 // the 1 MB prompt must fit
	providers := map[string]provider{}
	for name, addr := range backends {
		models := []model{{"m", window}}
		if name == backendAll {
			models = nil
			for _, m := range sharedModels() {
				models = append(models, model{m, window})
			}
		}
		providers[name] = provider{"http://" + addr + "/v1", "openai-completions", models}
	}
	all := map[string]any{
		"models": map[string]any{"mode": "replace", "providers": providers},
		"proxy":  map[string]any{"discovery": map[string]any{"enabled": false}, "dataDir": filepath.Join(dir, "data")},
	}
	var env []string
	if beneath != "" {
		at, err := filepath.Abs(beneath)
		if err != nil {
			return nil, nil, err
		}
		all["$include"] = at
		roots := filepath.Dir(at)
		if more := os.Getenv(includeRoots); more != "" {
			roots += string(filepath.ListSeparator) + more
		}
		env = append(env, includeRoots+"="+roots)
	}
	cfg, err := json.Marshal(all)
	if err != nil {
		return nil, nil, err
	}
	path := filepath.Join(dir, "config.json5")
	if err := os.WriteFile(path, cfg, 0o600); err != nil {
		return nil, nil, err
	}
	p, err := spawn(ctx, "the proxy", binary, env, "serve", "--config", path, "--listen", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	for range 100 {
		l, err := p.line()
		if err != nil {
			return nil, nil, p.failed(err)
		}
		if strings.Contains(l, "listens on https://") {
			return nil, nil, p.failed(errors.New("its configuration has TLS, which would be measured too: leave proxy.tls out"))
		}
		_, rest, ok := strings.Cut(l, "listens on http://")
		if !ok {
			continue
		}
		addr, _, _ := strings.Cut(rest, "/")
		addrs := map[string]string{}
		for name := range backends {
			addrs[name] = addr
		}
		p.drain(nil)
		return p, addrs, nil
	}
	return nil, nil, p.failed(errors.New("it did not say where it listens"))
}
