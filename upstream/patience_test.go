package upstream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// prefill sends a prompt of so many tokens to a backend that answers with a head
// at once and then does what it is told, in virtual time. It returns how long the
// attempt took, and why it failed; nil where content came. heard is told what the
// backend wrote.
func prefill(t *testing.T, m *Model, d Deadlines, tokens int, does func(w io.Writer), heard func(a *Attempt, said string)) (took time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		b := &Backend{open: 1, fixed: [][]byte{nil}, cfg: Config{ID: "p", Near: true, Deadlines: d, Limits: DefaultLimits(true)}}
		kept := newConn(near, near)
		kept.used = time.Now()
		b.idle = []*conn{kept}
		over := make(chan struct{})
		defer func() { <-over }()
		go func() {
			defer close(over)
			defer far.Close()
			br := bufio.NewReader(far)
			for {
				if l, err := br.ReadString('\n'); err != nil || l == "\r\n" {
					break
				}
			}
			io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
			does(far)
			io.Copy(io.Discard, far) // until it is given up
		}()
		m.warm.Store(time.Now().UnixNano())
		began := time.Now()
		var a Attempt
		a.Start(b, Request{Path: "/x", Stream: true, Prompt: tokens, Model: m}, idleWaiter{})
		if err = a.ReadHead(); err == nil {
			var p [256]byte
			for {
				var n int
				if n, err = a.ReadBody(p[:]); err != nil {
					break
				}
				said := string(p[:n])
				if said == "content" {
					a.Progress(time.Now())
					a.Learn(time.Now(), true)
					break
				}
				if heard != nil {
					heard(&a, said)
				}
			}
		}
		took = time.Since(began)
		a.Close()
	})
	return took, err
}

// readAt is a model that reads prompts so fast.
func readAt(rate float64) *Model {
	m := new(Model)
	m.pace(rate, true)
	return m
}

// mlx takes in comments as mlx_lm writes them.
func mlx(a *Attempt, said string) {
	var done, total int
	if _, err := fmt.Sscanf(said, ": keepalive %d/%d", &done, &total); err == nil {
		a.Processed(time.Now(), done, total)
	}
}

// A long prompt is waited for as long as the model is known to need, and not
// longer because the connection is kept alive: a fixed limit ends healthy prefills
// and waits for dead ones.
func TestPatienceGrowsWithThePrompt(t *testing.T) {
	f := func(name string, rate float64, tokens int, does func(io.Writer), fails bool, least, most time.Duration) {
		t.Helper()
		took, err := prefill(t, readAt(rate), DefaultDeadlines(true), tokens, does, mlx)
		var e *Error
		if (err != nil) != fails || fails && (!errors.As(err, &e) || e.Kind != KindContentTimeout) || took < least || took > most {
			t.Errorf("%s: %v after %v, want a timeout %v between %v and %v", name, err, took, fails, least, most)
		}
	}
	after := func(d time.Duration) func(io.Writer) {
		return func(w io.Writer) {
			time.Sleep(d)
			io.WriteString(w, "content")
		}
	}
	silent := func(io.Writer) {}
	f("60k tokens in line with the rate", 600, 60_000, after(100*time.Second), false, 100*time.Second, 100*time.Second)
	f("60k tokens and nothing", 1000, 60_000, silent, true, 200*time.Second, 200*time.Second) // 20 s + 3 × 60 s
	f("a short prompt and nothing", 1000, 100, silent, true, 30*time.Second, 30*time.Second)
	f("60k tokens at a guessed rate", 0, 60_000, silent, true, 300*time.Second, 300*time.Second)
	alive := func(w io.Writer) {
		for {
			time.Sleep(5 * time.Second)
			if _, err := io.WriteString(w, ": keepalive\n\n"); err != nil {
				return
			}
		}
	}
	f("kept alive and dead", 1000, 10_000, alive, true, 50*time.Second, 50*time.Second)
}

// A prefill that says how far it is is waited for as long as it gets ahead, far
// beyond what the rate makes of it, and ended soon after it stands still.
func TestProgressExtendsThePatience(t *testing.T) {
	const tokens, step = 60_000, 2_000
	progress := func(every time.Duration, until int, end string) func(io.Writer) {
		return func(w io.Writer) {
			for done := step; done <= until; done += step {
				time.Sleep(every)
				fmt.Fprintf(w, ": keepalive %d/%d\n\n", done, tokens)
			}
			for end == "stuck" { // the same again and again
				time.Sleep(every)
				if _, err := fmt.Fprintf(w, ": keepalive %d/%d\n\n", until, tokens); err != nil {
					return
				}
			}
			time.Sleep(every)
			io.WriteString(w, end)
		}
	}
	d := DefaultDeadlines(true)
	m := readAt(10_000) // as it was before the machine got slow
	took, err := prefill(t, m, d, tokens, progress(20*time.Second, tokens, "content"), mlx)
	if err != nil || took != 31*20*time.Second {
		t.Errorf("while it gets ahead: %v after %v", err, took)
	}
	// The last report of half the prompt came after 300 s; a step took 20 s.
	took, err = prefill(t, readAt(10_000), d, tokens, progress(20*time.Second, tokens/2, "stuck"), mlx)
	if err == nil || took != 300*time.Second+80*time.Second {
		t.Errorf("stuck: %v after %v, want 20 s and three steps after the last one that was ahead", err, took)
	}
	// Whoever sets a number gets that number.
	d.FirstContent = 100 * time.Second
	took, err = prefill(t, readAt(10_000), d, tokens, progress(20*time.Second, tokens, "content"), mlx)
	if err == nil || took != 100*time.Second {
		t.Errorf("a fixed deadline: %v after %v", err, took)
	}
}

// A rate that a cache made look fast would have the next long prompt given up.
func TestPrefillRateIsOfWhatWasRead(t *testing.T) {
	at := func(a *Attempt, first time.Duration) *Attempt {
		a.first = first
		return a
	}
	f := func(name string, tokens, cached int64, said bool, first time.Duration, least, most float64) {
		t.Helper()
		m := readAt(1000)
		a := at(&Attempt{b: &Backend{}, req: Request{Model: m}}, first)
		a.LearnPrompt(tokens, cached, said)
		if got := m.PrefillRate(); got < least || got > most {
			t.Errorf("%s: the rate is %.0f, want %.0f to %.0f", name, got, least, most)
		}
	}
	f("a short prompt", 200, 0, true, time.Millisecond, 1000, 1000)
	f("nearly all from the cache", 60_000, 59_900, true, 100*time.Millisecond, 1000, 1000)
	f("half from the cache", 60_000, 30_000, true, 30*time.Second, 1000, 1000)
	f("a cache that nobody told of", 60_000, 0, true, 6*time.Second, 1001, 1500) // looks like 10000
	f("slower", 60_000, 0, true, 120*time.Second, 700, 800)
	f("slower without usage", 60_000, 0, false, 120*time.Second, 700, 800)
	f("no first token was seen", 60_000, 0, true, 0, 1000, 1000)

	// What was loaded meanwhile is no rate, where one is known.
	m := readAt(1000)
	a := at(&Attempt{b: &Backend{}, req: Request{Model: m}, cold: true}, 2*time.Minute)
	a.LearnPrompt(60_000, 0, true)
	if m.PrefillRate() != 1000 {
		t.Errorf("a load counted as prefill: %.0f", m.PrefillRate())
	}
	// The server's own reports hold neither load nor cache.
	a.read = promptRead{from: 20_000, done: 60_000, total: 60_000, begun: time.Unix(0, 0), moved: time.Unix(20, 0)}
	a.LearnPrompt(60_000, 0, true)
	if got := m.PrefillRate(); got <= 1000 || got > 2000 {
		t.Errorf("the reports show 2000 tokens a second: %.0f", got)
	}
}

// A cold model is waited for as long as it is known to load, not for a fixed time.
func TestColdModelsGetTheirLoadTime(t *testing.T) {
	f := func(load time.Duration, tune func(*Deadlines), want time.Duration) {
		t.Helper()
		m := readAt(1000)
		m.loaded(load)
		d := DefaultDeadlines(true)
		tune(&d)
		a := &Attempt{b: &Backend{cfg: Config{Near: true, Deadlines: d}}, req: Request{Prompt: 10_000, Model: m}}
		if got, _ := a.patience(time.Now()); got != want {
			t.Errorf("a load of %v: %v, want %v", load, got, want)
		}
	}
	plain := func(*Deadlines) {}
	f(0, plain, 50*time.Second+180*time.Second)
	f(40*time.Second, plain, 50*time.Second+80*time.Second)
	f(200*time.Second, plain, 50*time.Second+400*time.Second)
	f(40*time.Second, func(d *Deadlines) {
		d.FirstContentCold, d.Explicit = 7*time.Second, map[string]string{"firstContentCold": "proxy.providers.p"}
	}, 57*time.Second)
	f(40*time.Second, func(d *Deadlines) { d.FirstContent = 60 * time.Second }, 60*time.Second)

	// A first answer that took long, where the prompt does not say why.
	m := new(Model)
	a := &Attempt{b: &Backend{cfg: Config{Near: true}}, req: Request{Prompt: 100, Model: m}, cold: true, sent: time.Unix(100, 0)}
	a.Learn(time.Unix(130, 0), true)
	if m.LoadTime() != 30*time.Second {
		t.Errorf("learned %v of a cold start of 30 s", m.LoadTime())
	}
	a.Learn(time.Unix(130, 0), false)
	if m.LoadTime() != 30*time.Second {
		t.Errorf("a whole answer tells nothing of a load: %v", m.LoadTime())
	}
}

// A model that loaded fast once may load slowly the next time, from a cold disk:
// the wait for it is never as short as that, where there is nobody else to ask.
func TestLoadsAreWaitedForAWhileInAnyCase(t *testing.T) {
	f := func(load, setting, want time.Duration, explicit bool) {
		t.Helper()
		b, m := &Backend{cfg: Config{Near: true, Deadlines: Deadlines{FirstContentCold: setting}}}, &Model{}
		if explicit {
			b.cfg.Deadlines.Explicit = map[string]string{"firstContentCold": "proxy.providers.p.deadlines.firstContentColdSeconds"}
		}
		m.load.Store(int64(load))
		if got := b.LoadingWait(m); got != want {
			t.Errorf("a load of %v, at most %v: waits %v, want %v", load, setting, got, want)
		}
	}
	f(0, 180*time.Second, 180*time.Second, false)
	f(time.Second, 180*time.Second, 22*time.Second, false)
	f(30*time.Second, 180*time.Second, 80*time.Second, false)
	f(120*time.Second, 180*time.Second, 180*time.Second, false)
	f(time.Second, 60*time.Second, 60*time.Second, true)
	f(time.Second, 0, 0, false)
}

// Reports that arrive at once, behind a proxy that gathers them, show no speed: one
// of a thousand million tokens a second would have every later prompt given up.
func TestReportsAtOnceShowNoSpeed(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	b := &Backend{cfg: Config{Near: true, Deadlines: DefaultDeadlines(true)}}
	a := &Attempt{b: b, phase: PhaseContent, sent: at.Add(-time.Second - time.Nanosecond)}
	m := readAt(500)
	a.req.Model = m
	a.Processed(at, 2_000, 60_000)
	a.Processed(at.Add(time.Microsecond), 4_000, 60_000)
	if a.read.rate() != 0 || a.limit%time.Millisecond != 0 || a.limit < 30*time.Second {
		t.Errorf("a rate of %v, and %v to wait", a.read.rate(), a.limit)
	}
	a.LearnPrompt(60_000, 0, true)
	if m.PrefillRate() != 500 {
		t.Errorf("learned a rate of %v", m.PrefillRate())
	}
	a.Processed(at.Add(4*time.Second), 6_000, 60_000)
	if a.read.rate() != 1_000 {
		t.Errorf("4000 tokens in 4 s are %v a second", a.read.rate())
	}
}

// Content is noted by steps, whichever side of what was noted it is on: a mark that is
// ahead, of a clock that was set, does not stay.
func TestContentIsNotedBySteps(t *testing.T) {
	now := time.Now()
	var m Model
	for _, c := range []struct{ was, at, want time.Duration }{
		{0, warmStep / 2, 0}, {0, 2 * warmStep, 2 * warmStep}, {time.Hour, 0, 0}, {warmStep / 2, 0, warmStep / 2},
	} {
		m.warm.Store(nanos(now.Add(c.was)))
		if m.served(now.Add(c.at)); m.warm.Load() != nanos(now.Add(c.want)) {
			t.Errorf("noted at %v, content at %v: it says %v", c.was, c.at, time.Duration(m.warm.Load()-nanos(now)))
		}
	}
}
