package command

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/goccy/go-json"

	"nearside/proxy/config"
)

// SupportBundle gathers what helps others to see what is wrong.
type SupportBundle struct {
	Health
	Key string `placeholder:"KEY" help:"An operator's key, where the proxy asks for keys. Without it $$NEARSIDE_KEY."`
	Out string `short:"o" placeholder:"FILE" help:"Where to write it. Without it nearside-support-<time>.tar.gz in this folder."`
	Log string `placeholder:"FILE" help:"A log of nearside's (JSON lines) whose last lines are to be in it; - for standard input."`
}

// Help teaches what support-bundle does.
func (SupportBundle) Help() string {
	return `Writes one .tar.gz (readable by you alone) with versions, facts of this machine, the
configuration without its secrets, and, where the proxy runs, the states of backends and
breakers, the last receipts and the metrics. It lists what is in it; look before you send
it. No prompt, no answer, no words of a backend, no key, no credential of an address is
among it: texts are taken by name, everything else is left out.

	nearside support-bundle
	nearside support-bundle --url http://127.0.0.1:4141 --out bundle.tar.gz
	journalctl -u nearside -o cat -n 2000 | nearside support-bundle --log -

Exit codes: 0 it was written; 1 it could not be; 2 bad flags.`
}

// bundle is what was gathered so far.
type bundle struct {
	files  []bundled
	hidden []string        // texts that must not be in any file
	known  map[string]bool // names of models and providers, which may
}

type bundled struct {
	name, what string
	data       []byte
}

const (
	bundleFileMax = 8 << 20 // of one file, cut there
	bundleLines   = 1000    // of a log
	hiddenLeast   = 6       // a shorter text cannot be told from others
)

// Run gathers and writes.
func (c *SupportBundle) Run(env *Env) error {
	ctx, stop := env.context()
	defer stop()
	b := &bundle{known: map[string]bool{}}
	b.versions(env)
	b.system(env)
	c.configuration(env, b)
	c.server(ctx, env, b)
	if err := c.log(env, b); err != nil {
		return err
	}
	path := c.Out
	if path == "" {
		path = "nearside-support-" + time.Now().UTC().Format("20060102-150405") + ".tar.gz"
	}
	if err := b.write(path); err != nil {
		return err
	}
	fmt.Fprintf(env.Stdout, "%s\n", path)
	for _, f := range b.files {
		fmt.Fprintf(env.Stdout, "  %-20s %9d  %s\n", f.name, len(f.data), f.what)
	}
	fmt.Fprintln(env.Stdout, "Please look into it before you send it to anybody.")
	return nil
}

func (b *bundle) add(name, what string, data []byte) {
	if len(data) > bundleFileMax {
		data = data[:bundleFileMax]
	}
	b.files = append(b.files, bundled{name, what, data})
}

func (b *bundle) addJSON(name, what string, v any) {
	data, err := json.MarshalIndentWithOption(v, "", "  ", json.DisableHTMLEscape())
	if err != nil {
		data = []byte(`"` + errorKind(err) + `"`)
	}
	b.add(name, what, append(data, '\n'))
}

// errorKind names an error by the system's word for it, or its type: other words may
// hold anything.
func errorKind(err error) string {
	if code := syscall.Errno(0); errors.As(err, &code) {
		return code.Error()
	}
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return fmt.Sprintf("%T", err)
		}
		err = next
	}
}

func (b *bundle) versions(env *Env) {
	v := map[string]any{"nearside": env.Version, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH, "at": time.Now().UTC().Format(time.RFC3339)}
	if info, ok := debug.ReadBuildInfo(); ok {
		modules := map[string]string{}
		for _, m := range info.Deps {
			modules[m.Path] = m.Version
		}
		v["modules"] = modules
		settings := map[string]string{}
		for _, s := range info.Settings {
			if strings.HasPrefix(s.Key, "vcs.") || s.Key == "CGO_ENABLED" || s.Key == "GOAMD64" {
				settings[s.Key] = s.Value
			}
		}
		v["build"] = settings
	}
	b.addJSON("versions.json", "this program and what it is built from", v)
}

// configuration adds what is configured, and what check would say.
func (c *SupportBundle) configuration(env *Env, b *bundle) {
	path, err := env.find(c.Config)
	if err != nil || path == "" {
		b.addJSON("check.json", "what is wrong with the configuration", map[string]any{"file": err == nil, "problems": []string{}})
		return
	}
	text, hidden := config.Redacted(path, env.configOptions())
	b.hidden = append(b.hidden, hidden...)
	b.add("config.json", "the configuration, without its secrets and texts", text)
	file, problems := config.Load(path, env.configOptions())
	type problem struct {
		File    string `json:"file"`
		Line    int    `json:"line"`
		Column  int    `json:"column"`
		Path    string `json:"path"`
		Text    string `json:"text"`
		Warning bool   `json:"warning"`
	}
	list := []problem{}
	for _, p := range problems {
		list = append(list, problem{filepath.Base(p.File), p.Line, p.Col, unquoted(p.Path), unquoted(p.Text), p.Warning})
	}
	b.addJSON("check.json", "what is wrong with the configuration", map[string]any{"file": true, "problems": list})
	if len(problems.Errors()) > 0 {
		return
	}
	for _, p := range file.Providers {
		b.known[p.ID] = true
		for _, m := range p.Models {
			b.known[m.Ref()] = true
		}
	}
	b.data(file.Proxy.DataDir)
}

// data adds the names and sizes of what is in the data folder.
func (b *bundle) data(dir string) {
	type entry struct {
		Name  string `json:"name"`
		Bytes int64  `json:"bytes"`
		Mode  string `json:"mode"`
	}
	list := []entry{}
	entries, err := os.ReadDir(dir)
	for i, e := range entries {
		info, err := e.Info()
		if err != nil || i >= 100 {
			continue
		}
		name := e.Name()
		if !slices.Contains([]string{storeFile, storeFile + "-wal", storeFile + "-shm", ledgerFile, ledgerFile + "-wal", ledgerFile + "-shm", sealKeyFile, usedFile, "keys", tlsFolder, captureDir}, name) {
			name = "<another>"
		}
		list = append(list, entry{name, info.Size(), info.Mode().String()})
	}
	out := map[string]any{"files": list}
	if err != nil {
		out["error"] = errorKind(err)
	}
	b.addJSON("data.json", "names and sizes in the data folder", out)
}

// server adds what a running proxy tells of itself.
func (c *SupportBundle) server(ctx context.Context, env *Env, b *bundle) {
	type answer struct {
		Path   string `json:"path"`
		Status int    `json:"status,omitempty"`
		Error  string `json:"error,omitempty"`
	}
	var answers []answer
	c.operator = true
	base, insecure, err := c.base(env)
	if err != nil {
		b.addJSON("server.json", "whether a proxy runs", []answer{{Path: "/", Error: "the address is not known: " + errorKind(err)}})
		return
	}
	client := directClient(insecure, c.pair)
	defer client.CloseIdleConnections()
	get := func(path string) []byte {
		a := answer{Path: path}
		defer func() { answers = append(answers, a) }()
		ctx, cancel := context.WithTimeout(ctx, c.Timeout)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
		if err != nil {
			a.Error = errorKind(err)
			return nil
		}
		env.authorize(req, c.Key)
		resp, err := client.Do(req)
		if err != nil {
			a.Error = errorKind(err)
			return nil
		}
		defer resp.Body.Close()
		a.Status = resp.StatusCode
		text, err := io.ReadAll(io.LimitReader(resp.Body, bundleFileMax))
		if err != nil {
			a.Error = errorKind(err)
			return nil
		}
		return text
	}
	for _, name := range []string{c.Key, env.Getenv("NEARSIDE_KEY")} {
		if name != "" {
			b.hidden = append(b.hidden, name)
		}
	}
	if models := get("/v1/models"); models != nil {
		b.learn(models)
	}
	for _, f := range []struct{ path, name, what string }{
		{"/readyz", "ready.json", "whether it takes requests, breakers"},
		{"/proxy/status", "status.json", "states of backends, targets, queues and keys; failures"},
		{"/proxy/exchanges?limit=100", "exchanges.json", "the last receipts: outcomes, times, counts"},
		{"/proxy/learned", "learned.json", "what backends taught by refusing"},
	} {
		text := get(f.path)
		if text == nil {
			continue
		}
		var v any
		if err := json.Unmarshal(text, &v); err == nil {
			b.addJSON(f.name, f.what, b.shown(v, ""))
		}
	}
	if text := get("/metrics"); text != nil && answers[len(answers)-1].Status == http.StatusOK {
		b.add("metrics.txt", "the metrics", b.metrics(text))
	}
	b.addJSON("server.json", "whether a proxy runs, and what it answered", answers)
}

// log adds the last lines of a log, reduced to what is known to be harmless.
func (c *SupportBundle) log(env *Env, b *bundle) error {
	if c.Log == "" {
		return nil
	}
	in := env.Stdin
	if c.Log != "-" {
		f, err := os.Open(c.Log)
		if err != nil {
			return fmt.Errorf("--log: %w", err)
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.Size() > bundleFileMax {
			if _, err := f.Seek(-bundleFileMax, io.SeekEnd); err != nil {
				return fmt.Errorf("--log: %w", err)
			}
		}
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, 8*bundleFileMax))
	if err != nil {
		return fmt.Errorf("--log: %w", err)
	}
	var lines []map[string]any
	other := 0
	for line := range bytes.Lines(text) {
		var v map[string]any
		if json.Unmarshal(line, &v) != nil {
			other++
			continue
		}
		lines = append(lines, v)
	}
	lines = lines[max(0, len(lines)-bundleLines):]
	var out bytes.Buffer
	for _, v := range lines {
		d, err := json.MarshalWithOption(b.shown(v, ""), json.DisableHTMLEscape())
		if err == nil {
			out.Write(append(d, '\n'))
		}
	}
	fmt.Fprintf(&out, "{\"lines_left_out\":%d}\n", other)
	b.add("log.jsonl", "the last lines of the log, without their texts", out.Bytes())
	return nil
}

// write writes what was gathered, with a list of it.
func (b *bundle) write(path string) error {
	var readme strings.Builder
	readme.WriteString("Gathered by nearside support-bundle. Texts are left out unless they are known to be names of ours:\n<text: N> stands for one of N bytes, <redacted> for one that stands in the configuration.\n\n")
	for i := range b.files {
		f := &b.files[i]
		f.data = b.clean(f.data)
		fmt.Fprintf(&readme, "%-20s %s\n", f.name, f.what)
	}
	b.files = append(b.files, bundled{"README.txt", "this list", []byte(readme.String())})
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	err = b.pack(out)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(path)
		return fmt.Errorf("write the bundle: %w", err)
	}
	return nil
}

func (b *bundle) pack(w io.Writer) error {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	now := time.Now()
	for _, f := range b.files {
		if err := t.WriteHeader(&tar.Header{Name: "nearside-support/" + f.name, Mode: 0o600, Size: int64(len(f.data)), ModTime: now, Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		if _, err := t.Write(f.data); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}
