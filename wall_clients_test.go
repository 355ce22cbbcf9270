package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"nearside/upstream/sim"
)

// A client that goes away, in every phase, dialect and way of going: the
// backend's connection is closed, the exchange is noted as the client's doing
// with its phase, the backend is not blamed and may be asked at once, also where
// the request was the one that a breaker let try.
func TestWallDepartures(t *testing.T) {
	t.Parallel()
	phases := []struct {
		name   string
		script sim.Script
		whole  bool
		await  bool // the client reads its first word before it goes
		phase  string
	}{
		{"before the headers", sim.Silent(), true, false, "headers"},
		{"before the headers of a stream", sim.Silent(), false, false, "headers"},
		{"before the content", sim.Stall("head"), false, false, "headers|content"},
		{"behind the role", sim.Stall("role"), false, false, "headers|content"},
		{"in the middle", sim.Stall("content"), false, true, "stream"},
		{"in the middle of a whole answer", sim.Stall("content"), true, false, "headers|content|answer"},
	}
	ways := []struct {
		name string
		go_  func(c *net.TCPConn)
	}{
		{"closes", func(c *net.TCPConn) { c.Close() }},
		{"resets", func(c *net.TCPConn) { c.SetLinger(0); c.Close() }},
		{"half-closes", func(c *net.TCPConn) { c.CloseWrite() }},
		{"asks again and closes", func(c *net.TCPConn) { // what was pipelined is not executed
			io.WriteString(c, request("/v1/chat/completions", `{"model":"near-chat/ok","messages":[{"role":"user","content":"never"}]}`))
			c.CloseWrite()
		}},
	}
	var cells []*faultCell
	for range len(phases) * len(ways) * len(wireDialects) * 2 {
		cells = append(cells, &faultCell{f: &fault{}, id: fmt.Sprintf("c%d", len(cells))})
	}
	i := 0
	each := func(f func(c *faultCell, phase, way int, trial bool)) {
		i = 0
		for p := range phases {
			for w := range ways {
				for _, d := range wireDialects {
					for _, trial := range []bool{false, true} {
						c := cells[i]
						c.client, c.backend, c.stream = d.name, d.name, !phases[p].whole
						f(c, p, w, trial)
						i++
					}
				}
			}
		}
	}
	each(func(*faultCell, int, int, bool) {})
	rig := startFaults(t, cells)
	base := rig.quietly(t)
	before := rig.sides["near-chat"].model("ok").count()
	var all sync.WaitGroup
	room := make(chan struct{}, 16)
	var mu sync.Mutex
	var slowest time.Duration
	each(func(c *faultCell, p, w int, trial bool) {
		all.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			took := c.depart(rig, phases[p].script, phases[p].await, phases[p].phase, ways[w].go_, trial)
			mu.Lock()
			slowest = max(slowest, took)
			mu.Unlock()
		})
	})
	all.Wait()
	rig.settled(t, base)
	lines := rig.exchangeLines()
	each(func(c *faultCell, p, w int, trial bool) {
		if n := lines[c.ref]; n != c.asked {
			c.wrong("%d lines for %d exchanges", n, c.asked)
		}
		if len(c.faults) > 0 {
			t.Errorf("%s, %s, %s, trial %v:\n  %s", phases[p].name, ways[w].name, c.client, trial, strings.Join(c.faults, "\n  "))
		}
	})
	if n := rig.sides["near-chat"].model("ok").count(); n != before {
		t.Errorf("%d pipelined requests of clients that had left were executed", n-before)
	}
	rig.keepsSecrets(t)
	t.Logf("%d departures; the slowest backend was told %v after its client had gone", len(cells), slowest)
}

// depart plays a departure and says how long it took to reach the backend.
func (c *faultCell) depart(rig *faultRig, script sim.Script, await bool, phases string, leave func(*net.TCPConn), trial bool) time.Duration {
	bad := sim.Status(500, "out of memory")
	tick := time.NewTicker(again)
	defer tick.Stop()
	if trial { // the breaker is open: the departing request will be the one that it lets try
		c.near.does(bad, script)
		if _, _, ok := c.ask(rig, "none"); !ok {
			return 0
		}
	} else {
		c.near.does(script)
	}
	for len(c.near.asked) > 0 {
		<-c.near.asked
	}
	q := question{model: c.ref, user: "tell me about walls", stream: c.stream}.in(c.client)
	head := strings.Replace(request(pathOf(c.client), q), "Host: localhost\r\n", "Host: localhost\r\nX-Nearside-Fallback: none\r\n", 1)
	var conn net.Conn
	var lines chan string
	for end := time.Now().Add(patience); ; <-tick.C {
		var err error
		if conn, err = net.Dial("tcp", rig.addr); err != nil {
			c.wrong("%v", err)
			return 0
		}
		defer conn.Close()
		c.asked++
		io.WriteString(conn, head)
		lines = linesOf(conn)
		select {
		case <-c.near.asked:
		case line := <-lines: // while the breaker is open the answer is at once that nobody can be asked
			if trial && strings.Contains(line, " 503 ") && time.Now().Before(end) {
				continue
			}
			c.wrong("the client was told %q before the backend was asked", line)
			return 0
		case <-time.After(patience):
			c.wrong("the backend was not asked")
			return 0
		}
		break
	}
	for heard := !await; !heard; {
		select {
		case line, ok := <-lines:
			if heard = strings.Contains(line, "Mauern"); !ok {
				c.wrong("the stream ended")
				return 0
			}
		case <-time.After(patience):
			c.wrong("no word came")
			return 0
		}
	}
	left := time.Now()
	leave(conn.(*net.TCPConn))
	var took time.Duration
	select {
	case d := <-c.near.gone:
		took = d.At.Sub(left)
	case <-time.After(patience):
		c.wrong("the backend was not told")
		return 0
	}
	// The next one is asked at once: nobody was blamed, and no ticket is out.
	c.near.does(sim.Script{})
	for end := time.Now().Add(patience); ; <-tick.C {
		got, e, ok := c.ask(rig, "none")
		if !ok {
			return took
		}
		if e.kind == endWhole {
			break
		}
		if !trial || time.Now().After(end) { // else the breaker is still open, but not for longer
			c.wrong("the next request: %d %s", got.status, got.body)
			return took
		}
	}
	line := ""
	for end := time.Now().Add(patience); line == "" && time.Now().Before(end); {
		for l := range strings.Lines(rig.output()) {
			if strings.Contains(l, `"requested":"`+c.ref+`"`) && strings.Contains(l, `"outcome":"client_closed"`) {
				line = l
			}
		}
	}
	if !strings.Contains(line, `"status":499`) || !oneOfPhases(line, phases) {
		c.wrong("noted as %q, want 499 in phase %s", line, phases)
	}
	return took
}

// linesOf reads a connection to its end, which whoever has it brings about.
func linesOf(conn net.Conn) chan string {
	lines := make(chan string, 1024)
	go func() {
		defer close(lines)
		for br := bufio.NewReader(conn); ; {
			line, err := br.ReadString('\n')
			if err != nil {
				return
			}
			select {
			case lines <- line:
			default: // nobody listens any more
			}
		}
	}()
	return lines
}

// A client that does not read holds its backend back, not the proxy's memory,
// and for no longer than it may.
func TestWallClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	f := &fault{}
	cells := []*faultCell{}
	for _, d := range wireDialects {
		cells = append(cells, &faultCell{f: f, id: "c" + d.name, client: d.name, backend: d.name, stream: true})
	}
	rig := startFaults(t, cells, `client: {writeMs: 500}`)
	base := rig.quietly(t)
	for _, c := range cells {
		c.near.does(scripted(sim.Begin(), sim.UpTo("role"), sim.Flood(2_000_000), sim.Rest(), sim.End()))
		if c.backend == "responses" { // whose flood is of chat's
			delta := `{"type":"response.output_text.delta","sequence_number":9,"item_id":"x","output_index":0,"content_index":0,"delta":"` + strings.Repeat("x", 10000) + `","logprobs":[]}`
			steps := []sim.Step{sim.Begin(), sim.UpTo("role")}
			for range 20_000 {
				steps = append(steps, sim.Event("response.output_text.delta", delta))
			}
			c.near.does(scripted(append(steps, sim.Rest(), sim.End())...))
		}
		conn := rig.dial()
		c.asked++
		io.WriteString(conn, request(pathOf(c.client), question{model: c.ref, user: "much", stream: true}.in(c.client)))
		select {
		case <-c.near.gone:
		case <-time.After(patience):
			t.Fatalf("%s: the backend goes on", c.client)
		}
		line := rig.wait("client_closed", func(l string) bool {
			return strings.Contains(l, `"outcome":"client_closed"`) && strings.Contains(l, c.ref)
		})
		if !strings.Contains(line, `"status":499`) || !strings.Contains(line, `"phase":"stream"`) {
			t.Errorf("noted as %s", line)
		}
		conn.Close()
	}
	rig.settled(t, base)
}

// A client that reads slowly gets everything, at its own speed.
func TestWallSlowClient(t *testing.T) {
	t.Parallel()
	c := &faultCell{f: &fault{}, id: "slow", client: "chat", backend: "chat", stream: true}
	rig := startFaults(t, []*faultCell{c})
	c.near.does(scripted(sim.Begin(), sim.UpTo("role"), sim.Flood(20_000), sim.Rest(), sim.End()))
	conn := rig.dial()
	conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	io.WriteString(conn, request("/v1/chat/completions", question{model: c.ref, user: "much", stream: true}.in("chat")))
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 1<<10), nil)
	if err != nil {
		t.Fatal(err)
	}
	var body strings.Builder
	buf := make([]byte, 16<<10)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for range 50 {
		n, err := resp.Body.Read(buf)
		body.Write(buf[:n])
		if err != nil {
			break
		}
		<-tick.C
	}
	rest, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	body.Write(rest)
	got := reply{status: resp.StatusCode, header: resp.Header, body: body.String()}
	if e := got.ended("chat", true); e.kind != endWhole || len(e.text) != 20_000+len(matrixText) {
		t.Errorf("%s, %d bytes of text", e.kind, len(e.text))
	}
}
