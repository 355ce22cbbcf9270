//go:build clients

package report_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/goccy/go-json"

	"nearside/bench/report"
)

// chromium is a headless browser with one page, driven by its DevTools protocol.
type chromium struct {
	t     *testing.T
	ctx   context.Context
	c     *websocket.Conn
	id    int
	page  string // the session
	heard []string
	first bool
}

// browse starts a browser.
func browse(t *testing.T) *chromium {
	t.Helper()
	path := os.Getenv("CHROMIUM")
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil && path == "" {
			path = p
		}
	}
	if path == "" {
		t.Fatal("no Chromium: install it (as root: apt-get install chromium), or name it in $CHROMIUM")
	}
	home := t.TempDir()
	// As root, as in a container, Chromium has no sandbox of its own.
	cmd := exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--force-color-profile=srgb",
		"--remote-debugging-port=0", "--user-data-dir="+home, "about:blank")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	b := &chromium{t: t, ctx: ctx}
	t.Cleanup(func() {
		if b.c != nil {
			_, _ = b.call("", "Browser.close", nil)
			b.c.CloseNow()
		} else {
			_ = cmd.Process.Kill()
		}
		_ = cmd.Wait()
		cancel()
	})
	// It writes where it can be reached into its folder, when it can.
	var at []string
	for len(at) < 2 {
		if ctx.Err() != nil || cmd.ProcessState != nil {
			t.Fatal("the browser does not start")
		}
		text, _ := os.ReadFile(filepath.Join(home, "DevToolsActivePort"))
		at = strings.Fields(string(text))
		time.Sleep(20 * time.Millisecond)
	}
	c, _, err := websocket.Dial(ctx, "ws://127.0.0.1:"+at[0]+at[1], nil)
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(64 << 20)
	b.c = c
	var tab struct {
		TargetID string `json:"targetId"`
	}
	b.do("", "Target.createTarget", map[string]any{"url": "about:blank"}, &tab)
	var session struct {
		SessionID string `json:"sessionId"`
	}
	b.do("", "Target.attachToTarget", map[string]any{"targetId": tab.TargetID, "flatten": true}, &session)
	b.page = session.SessionID
	for _, what := range []string{"Page", "Runtime", "Log", "Network"} {
		b.do(b.page, what+".enable", nil, nil)
	}
	return b
}

// call sends an order and waits for what comes of it. What the page complains of and
// asks for meanwhile is kept.
func (b *chromium) call(session, method string, params any) (json.RawMessage, error) {
	b.id++
	order := map[string]any{"id": b.id, "method": method}
	if params != nil {
		order["params"] = params
	}
	if session != "" {
		order["sessionId"] = session
	}
	text, err := json.Marshal(order)
	if err == nil {
		err = b.c.Write(b.ctx, websocket.MessageText, text)
	}
	if err != nil {
		return nil, err
	}
	for {
		m, err := b.next()
		if err != nil {
			return nil, err
		}
		if m.ID == b.id {
			if m.Error != nil {
				return nil, fmt.Errorf("%s: %s", method, m.Error.Message)
			}
			return m.Result, nil
		}
	}
}

type message struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

func (b *chromium) next() (*message, error) {
	_, text, err := b.c.Read(b.ctx)
	if err != nil {
		return nil, err
	}
	var m message
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, err
	}
	switch m.Method {
	case "Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled", "Network.loadingFailed":
		b.heard = append(b.heard, m.Method+" "+string(m.Params))
	case "Network.requestWillBeSent":
		var p struct {
			Request struct{ URL string }
		}
		_ = json.Unmarshal(m.Params, &p)
		if u := p.Request.URL; !strings.HasPrefix(u, "file:") && !strings.HasPrefix(u, "data:") {
			b.heard = append(b.heard, "a request to "+u)
		}
	}
	return &m, nil
}

func (b *chromium) do(session, method string, params, v any) {
	b.t.Helper()
	got, err := b.call(session, method, params)
	if err == nil && v != nil {
		err = json.Unmarshal(got, v)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// open opens a file and waits until it is loaded.
func (b *chromium) open(path string) {
	b.t.Helper()
	b.do(b.page, "Page.navigate", map[string]any{"url": "file://" + path}, nil)
	for {
		m, err := b.next()
		if err != nil {
			b.t.Fatal(err)
		}
		if m.Method == "Page.loadEventFired" {
			return
		}
	}
}

// look sets the width of the window and the theme of the system.
func (b *chromium) look(width int, theme string) {
	b.t.Helper()
	b.do(b.page, "Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}, nil)
	b.do(b.page, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": theme}}}, nil)
}

// says is what an expression comes to on the page.
func (b *chromium) says(js string, v any) {
	b.t.Helper()
	var got struct {
		Result struct {
			Value json.RawMessage
		}
		ExceptionDetails json.RawMessage
	}
	b.do(b.page, "Runtime.evaluate", map[string]any{"expression": js, "returnByValue": true}, &got)
	if got.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", js, got.ExceptionDetails)
	}
	if err := json.Unmarshal(got.Result.Value, v); err != nil {
		b.t.Fatal(err)
	}
}

// shot keeps a picture of the whole page under bin/, for people.
func (b *chromium) shot(name string) {
	b.t.Helper()
	var got struct{ Data string }
	b.do(b.page, "Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}, &got)
	p, err := base64.StdEncoding.DecodeString(got.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(shots(b.t), name+".png"), p, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// shots is where pages and their pictures are kept.
func shots(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "..", "bin", "report"))
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// In a real browser the page has no complaint, asks for nothing, is no wider than a
// phone, and its pictures have their colours in both themes.
func TestPageInABrowser(t *testing.T) {
	b := browse(t)
	for name, r := range map[string]*report.Report{
		"usual": fixed(),
		"one":   report.Of(result(5, 20, 3, 0.02, []string{"c=1"}, made{name: "vllm/qwen3-8b", factor: 1}, made{name: "mlx/qwen3-8b", factor: 1.2}, made{name: "lmstudio/qwen3-8b", factor: 2.1})),
		"many": report.Of(result(3, 60, 5, 0.03, []string{"rate=1", "rate=2", "rate=4", "rate=8", "rate=16"}, made{name: "vllm/qwen3-8b", factor: 1}, made{name: "via:vllm/qwen3-8b", factor: 1.02},
			made{name: "mlx/qwen3-8b-4bit", factor: 1.9, simulated: true}, made{name: "far/hosted-large", factor: 4, failing: 7}, made{name: "http://192.168.1.20:11434/v1#gemma3:27b", factor: 6})),
	} {
		path := filepath.Join(shots(t), name+".html")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.WriteHTML(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
		colours := map[string]bool{}
		for _, theme := range []string{"light", "dark"} {
			for _, width := range []int{1280, 360} {
				b.look(width, theme)
				b.open(path)
				var wide, pictures, small int
				b.says("document.documentElement.scrollWidth", &wide)
				b.says("[...document.querySelectorAll('figure svg')].filter((s) => s.getBoundingClientRect().height > 100).length", &pictures)
				b.says("[...document.querySelectorAll('figure:not(.wide) svg')].filter((s) => s.getBoundingClientRect().width < 280).length", &small)
				if wide > width {
					t.Errorf("%s, %s: %d wide in a window of %d", name, theme, wide, width)
				}
				if pictures < 6 || small > 0 {
					t.Errorf("%s, %s, %d: %d pictures, %d too small", name, theme, width, pictures, small)
				}
				var paint string
				b.says("(() => { const s = getComputedStyle(document.querySelector('.s1 .line')); return s.stroke + getComputedStyle(document.body).backgroundColor })()", &paint)
				colours[paint] = true
				b.shot(fmt.Sprintf("%s-%s-%d", name, theme, width))
			}
		}
		if len(colours) != 2 {
			t.Errorf("%s: the two themes have the colours %v", name, colours)
		}
	}
	for _, h := range b.heard {
		t.Errorf("the page complains or asks: %s", h)
	}
}
