package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"nearside/upstream/sim"
)

// cellsFor are cells without a fault, one for each dialect, streamed and whole.
func cellsFor() []*faultCell {
	var cells []*faultCell
	for _, d := range wireDialects {
		for _, stream := range []bool{true, false} {
			cells = append(cells, &faultCell{f: &fault{}, id: fmt.Sprintf("c%d", len(cells)), client: d.name, backend: d.name, stream: stream})
		}
	}
	return cells
}

// What runs when the proxy is told twice to stop ends with one error each, in
// its dialect; the exit code says that it was not the whole.
func TestWallSecondSignalEndsWhatRuns(t *testing.T) {
	t.Parallel()
	cells := cellsFor()
	rig := startFaults(t, cells)
	var all sync.WaitGroup
	ends := make([]ending, len(cells))
	for i, c := range cells {
		c.near.does(sim.Stall("content"))
		all.Go(func() {
			q := question{model: c.ref, user: "hi", stream: c.stream}
			got, err := rig.tries(pathOf(c.client), q.in(c.client), patience, "X-Nearside-Fallback", "none")
			if ends[i] = got.ended(c.client, c.stream); err != nil {
				t.Errorf("%s, stream %v: %v", c.client, c.stream, err)
			}
		})
		<-c.near.asked
	}
	rig.waitInFlight(len(cells))
	rig.cmd.Process.Signal(syscall.SIGTERM)
	rig.wait("stopping", func(l string) bool { return strings.Contains(l, "stopping") })
	rig.cmd.Process.Signal(syscall.SIGTERM)
	all.Wait()
	for i, c := range cells {
		want := endStatus
		if c.stream {
			want = endError
		}
		if e := ends[i]; e.ends != 1 || e.kind != want || c.client != "messages" && e.code != "server_shutting_down" {
			t.Errorf("%s, stream %v: %+v", c.client, c.stream, e)
		}
	}
	<-rig.exited
	if n := strings.Count(rig.output(), `"outcome":"shutdown"`); rig.code != 1 || n != len(cells) {
		t.Errorf("exit %d, %d exchanges noted as ended\n%s", rig.code, n, rig.output())
	}
}

// A signal while it starts ends it, whenever it comes.
func TestWallSignalDuringStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "config.json5")
	if err := os.WriteFile(path, []byte(configOf(`providers: {}`, provider("near", refusingAddress(t), "openai-completions"))), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		cmd := exec.Command(binary, "serve", "--config", path, "--listen", "127.0.0.1:0")
		cmd.Env = append(cleanEnv(), "NEARSIDE_DATA="+filepath.Join(dir, "data"), "GORACE=atexit_sleep_ms=20")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { cmd.Wait(); close(done) }()
		select {
		case <-time.After(time.Duration(i) * 30 * time.Millisecond): // at a place of its start that is not known
		case <-done:
		}
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(patience):
			cmd.Process.Kill()
			<-done
			t.Fatal("it runs on")
		}
		// Before it listens to signals the system ends it.
		if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() && ws.Signal() != syscall.SIGTERM || !ws.Signaled() && ws.ExitStatus() > 1 {
			t.Errorf("ended with %v", cmd.ProcessState)
		}
	}
}

// A hundred changes of the configuration under load: requests are answered, a
// stream that runs on a provider that is gone finishes, a provider that did not
// change keeps what its breaker knows, and nothing is left behind.
func TestWallReloadsUnderLoad(t *testing.T) {
	t.Parallel()
	slow := make(chan struct{})
	gone := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		fmt.Fprint(c, sseHead+chunked(chatRole, said("begun ")))
		<-slow
		fmt.Fprint(c, chunked(said("and finished"), chunk(`{}`, "stop"), chatDone)+lastChunk)
		return true
	})
	dead, far := newBackend(t, whole(500, `{"error":{"message":"broken"}}`)), newBackend(t, chat("far"))
	const settings = `exchangesKept: %d, providers: {dead: {breaker: {consecutive: 1, openForSeconds: 600, openMaxSeconds: 600}}, far: {limits: {idleMs: 200}}}`
	always := []string{provider("dead", dead.url, "openai-completions"), provider("far", far.url, "openai-completions")}
	p := start(t, configOf(fmt.Sprintf(settings, 300), append(always, provider("gone", gone.url, "openai-completions"))...))
	rig := &faultRig{running: p}
	got := p.post("/v1/chat/completions", hello)
	if got.text() != "far" || dead.count() != 1 {
		t.Fatalf("%d %s, asked %d times", got.status, got.body, dead.count())
	}
	var base load
	p.until("nothing is open", func() bool { client.CloseIdleConnections(); base = rig.holds(); return base.descriptors > 0 })
	stream := make(chan reply, 1)
	go func() {
		stream <- p.post("/v1/chat/completions", `{"model":"gone/m","stream":true,"messages":[]}`, "X-Nearside-Fallback", "none")
	}()
	gone.next()
	stop := make(chan struct{})
	var asked atomic.Int64
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			body := hello
			if w%2 == 0 {
				body = helloStream
			}
			for {
				select {
				case <-stop:
					return
				default:
				}
				asked.Add(1)
				got, err := p.tries("/v1/chat/completions", body, patience)
				if err != nil || got.text() != "far" || got.header.Get("X-Nearside-Attempts") != "dead/m=breaker_open, far/m=ok" {
					t.Errorf("%v %d %q %s", err, got.status, got.header.Get("X-Nearside-Attempts"), got.body)
					return
				}
			}
		})
	}
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	for i := range 100 {
		p.swap(configOf(fmt.Sprintf(settings, 301+i), always...))
		p.cmd.Process.Signal(syscall.SIGHUP)
		<-pace.C
	}
	p.swap(configOf(fmt.Sprintf(settings, 100), append(always, strings.Replace(provider("new", far.url, "openai-completions"), `"m"`, `"last"`, 1))...))
	p.until("the last configuration is in force", func() bool { return strings.Contains(p.get("/v1/models").body, "new/last") })
	close(stop)
	all.Wait()
	if got := p.post("/v1/chat/completions", `{"model":"gone/m","messages":[]}`, "X-Nearside-Fallback", "none"); got.status != 404 {
		t.Errorf("the provider that is gone: %d %s", got.status, got.body)
	}
	close(slow)
	if got := <-stream; got.text() != "begun and finished" || got.failure() != nil {
		t.Errorf("the stream that ran: %q %s", got.text(), got.body)
	}
	if dead.count() != 1 {
		t.Errorf("the breaker forgot: the dead backend was asked %d times", dead.count())
	}
	rig.settled(t, base)
	t.Logf("%d requests, %d configurations taken over", asked.Load(), strings.Count(p.output(), `"message":"configuration reloaded"`))
}

// While a breaker lets one request try, the herd goes elsewhere; a trial that
// hangs is given up by its lease, so that another may try; reloads change nothing
// of it. Once it is well, all come back.
func TestWallTrials(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	near := newBackend(t, whole(500, `{"error":{"message":"broken"}}`), func(b *backend, c net.Conn, a asked) bool {
		<-hold
		return chat("near")(b, c, a)
	}, func(b *backend, c net.Conn, a asked) bool {
		<-hold
		return chat("near")(b, c, a)
	}, chat("near"))
	far := newBackend(t, chat("far"))
	settings := `exchangesKept: %d, providers: {near: {breaker: {consecutive: 1, openForMs: 20, openMaxMs: 20, leaseMs: 1500}, deadlines: {headersSeconds: 60, firstContentSeconds: 60}}}`
	providers := []string{provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")}
	p := start(t, configOf(fmt.Sprintf(settings, 300), providers...))
	if got := p.post("/v1/chat/completions", hello); got.text() != "far" {
		t.Fatalf("%d %s", got.status, got.body)
	}
	var all sync.WaitGroup
	herd := func(n int) {
		for range n {
			all.Go(func() {
				got, err := p.tries("/v1/chat/completions", helloStream, 2*patience)
				if err != nil || got.text() != "far" && got.text() != "near" {
					t.Errorf("%v %d %s", err, got.status, got.body)
				}
			})
		}
	}
	for near.count() < 2 { // until one of them is let through
		herd(1)
		<-time.After(again)
	}
	began := time.Now()
	herd(30)
	p.swap(configOf(fmt.Sprintf(settings, 301), providers...))
	p.cmd.Process.Signal(syscall.SIGHUP)
	herd(30)
	if n := near.count(); n != 2 && time.Since(began) < time.Second { // one failed, one is on trial
		t.Errorf("%d requests at a backend that is on trial", n)
	}
	for end := time.Now().Add(patience); near.count() < 3; { // the lease is over
		if time.Now().After(end) {
			t.Fatal("no second trial: the first one's ticket is lost")
		}
		herd(1)
		<-time.After(20 * again)
	}
	close(hold)
	all.Wait()
	p.until("all are back", func() bool { return p.post("/v1/chat/completions", hello).text() == "near" })
	for range 10 {
		if got := p.post("/v1/chat/completions", hello); got.text() != "near" {
			t.Errorf("after its recovery: %q", got.header.Get("X-Nearside-Attempts"))
		}
	}
}

// A backend that is up and down in turns is asked less and less while it is
// down, and no request of a client fails for it.
func TestWallFlapping(t *testing.T) {
	t.Parallel()
	began := time.Now()
	const half = 400 * time.Millisecond
	var failed atomic.Int64
	near := newBackend(t, func(b *backend, c net.Conn, a asked) bool {
		if time.Since(began)/half%2 == 1 {
			failed.Add(1)
			return whole(500, `{"error":{"message":"broken"}}`)(b, c, a)
		}
		return chat("near")(b, c, a)
	})
	far := newBackend(t, chat("far"))
	p := start(t, configOf(`providers: {near: {breaker: {openForMs: 100, openMaxMs: 2000}}}`, provider("near", near.url, "openai-completions"), provider("far", far.url, "openai-completions")))
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	asked := 0
	for began = time.Now(); time.Since(began) < 10*half; <-tick.C {
		asked++
		if got := p.post("/v1/chat/completions", hello); got.text() != "near" && got.text() != "far" {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	if n := failed.Load(); n == 0 || n > 20 {
		t.Errorf("%d of %d requests were spent on finding it down", n, asked)
	}
}

// When all are left alone the answer comes at once, names each and says when to
// come again.
func TestWallAllOpen(t *testing.T) {
	t.Parallel()
	b := newBackend(t, whole(500, `{"error":{"message":"broken"}}`))
	p := start(t, configOf(`providers: {one: {breaker: {consecutive: 1, openForSeconds: 60}}, two: {breaker: {consecutive: 1, openForSeconds: 90}}}`,
		provider("one", b.url, "openai-completions"), provider("two", b.url, "openai-completions")))
	p.post("/v1/chat/completions", hello)
	asked := b.count()
	for _, c := range cellsFor() {
		got := p.post(pathOf(c.client), question{model: "default", user: "hi", stream: c.stream}.in(c.client))
		e := got.ended(c.client, c.stream)
		if got.status != 503 || e.kind != endStatus || got.header.Get("Retry-After") == "" || !strings.Contains(e.message, "one/m") || !strings.Contains(e.message, "two/m") {
			t.Errorf("%s, stream %v: %d, Retry-After %q, %s", c.client, c.stream, got.status, got.header.Get("Retry-After"), got.body)
		}
	}
	if b.count() != asked {
		t.Errorf("asked %d times more", b.count()-asked)
	}
}
