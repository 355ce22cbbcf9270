package command

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"nearside/proxy/config"
)

// gatedLog takes nothing until it is let, like a pipe that nobody reads.
type gatedLog struct {
	began chan struct{}
	let   chan struct{}
	once  sync.Once
	got   bytes.Buffer
}

func (g *gatedLog) Write(p []byte) (int, error) {
	g.once.Do(func() { close(g.began) })
	<-g.let
	return g.got.Write(p)
}

// A log that takes nothing must hold up nobody, and what is lost must be counted.
func TestSlowLogHoldsUpNobody(t *testing.T) {
	to := &gatedLog{began: make(chan struct{}), let: make(chan struct{})}
	w := newLogWriter(to, config.Log{Format: "json", BufferBytes: 4096})
	log := zerolog.New(w)
	log.Warn().Msg("first")
	<-to.began // the goroutine is stuck in it
	const lines = 1000
	for i := range lines {
		log.Info().Int("n", i).Msg("exchange")
	}
	dropped := w.Dropped()
	if dropped == 0 || dropped >= lines {
		t.Fatalf("%d of %d lines were dropped by a buffer of 4 KiB", dropped, lines)
	}
	close(to.let)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := int64(bytes.Count(to.got.Bytes(), []byte("\n"))); got+w.Dropped() != lines+1 || w.Dropped() != dropped {
		t.Errorf("%d lines were written and %d dropped, of %d", got, w.Dropped(), lines+1)
	}
	if !bytes.HasSuffix(to.got.Bytes(), []byte("}\n")) || !bytes.Contains(to.got.Bytes(), []byte(`{"level":"info","n":0,`)) {
		t.Errorf("the oldest lines are to be kept whole, got %s", to.got.Bytes())
	}
}

type fullLog struct{ room int }

func (f *fullLog) Write(p []byte) (int, error) {
	n := min(len(p), f.room)
	f.room -= n
	if n < len(p) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

// What a full disk did not take is counted, and the log goes on.
func TestFullLogIsCounted(t *testing.T) {
	for _, format := range []string{"json", "console"} {
		w := newLogWriter(&fullLog{room: 10}, config.Log{Format: format, BufferBytes: 1 << 20})
		for i := range 7 {
			fmt.Fprintf(w, `{"level":"info","message":"line %d"}`+"\n", i)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got := w.Dropped(); got != 7 {
			t.Errorf("%s: %d lines count as dropped, want 7", format, got)
		}
	}
}
