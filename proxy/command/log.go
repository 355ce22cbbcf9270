package command

import (
	"bytes"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"

	"nearside/proxy/config"
)

// logWriter gathers log lines and has a goroutine write them: at least ten times a
// second, and at once when one is worse than information. A line costs an exchange
// no system call, and a log that is full, gone or slow holds up nobody: what finds no
// room is dropped and counted. Close writes what is left.
type logWriter struct {
	to      io.Writer
	wake    chan struct{} // holds one
	stop    chan struct{}
	done    chan struct{}
	once    sync.Once
	dropped atomic.Int64 // lines

	mu      sync.Mutex // guards the four below
	console bool
	most    int // bytes
	buf     []byte
	spare   []byte
}

const (
	logFlushEvery = 100 * time.Millisecond
	logWakeAt     = 64 << 10
	logCloseWait  = 2 * time.Second // for a log that takes nothing, when the process ends
)

func newLogWriter(w io.Writer, cfg config.Log) *logWriter {
	l := &logWriter{to: w, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	l.format(cfg)
	go func() {
		defer close(l.done)
		tick := time.NewTicker(logFlushEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-l.wake:
			case <-l.stop:
				l.flush()
				return
			}
			l.flush()
		}
	}()
	return l
}

// format sets how lines look from now on, and how much may wait.
func (l *logWriter) format(cfg config.Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most = cfg.BufferBytes
	l.console = cfg.Format == "console"
	if f, ok := l.to.(*os.File); ok && cfg.Format != "json" && isatty.IsTerminal(f.Fd()) {
		l.console = true
	}
}

// consoleTime is local time with its offset, whole enough to be found in a
// model server's own log, or in UTC.
const consoleTime = "2006-01-02T15:04:05Z07:00"

// Write keeps one line.
func (l *logWriter) Write(p []byte) (int, error) { return l.WriteLevel(zerolog.InfoLevel, p) }

// WriteLevel keeps one line, and has all written when it is a warning or worse.
func (l *logWriter) WriteLevel(level zerolog.Level, p []byte) (int, error) {
	l.mu.Lock()
	if len(l.buf)+len(p) > l.most {
		l.mu.Unlock()
		l.dropped.Add(1)
		return len(p), nil
	}
	l.buf = append(l.buf, p...)
	wake := level >= zerolog.WarnLevel || l.console || len(l.buf) >= logWakeAt
	l.mu.Unlock()
	if wake {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return len(p), nil
}

// Dropped is how many lines were not written.
func (l *logWriter) Dropped() int64 { return l.dropped.Load() }

// flush writes what is kept. Only the goroutine calls it.
func (l *logWriter) flush() {
	l.mu.Lock()
	lines, console := l.buf, l.console
	l.buf = l.spare[:0]
	l.mu.Unlock()
	if len(lines) > 0 {
		l.write(lines, console)
	}
	l.mu.Lock()
	if l.spare = lines[:0]; cap(lines) > 4*logWakeAt { // a log that was slow for a while
		l.spare = nil
	}
	l.mu.Unlock()
}

// write writes whole lines. What cannot be written is counted: a log must not stop
// the service.
func (l *logWriter) write(lines []byte, console bool) {
	if !console {
		if n, err := l.to.Write(lines); err != nil {
			l.dropped.Add(int64(bytes.Count(lines[max(0, min(n, len(lines))):], []byte{'\n'})))
		}
		return
	}
	w := zerolog.ConsoleWriter{Out: l.to, TimeFormat: consoleTime} // it takes one line at a time
	for line := range bytes.Lines(lines) {
		if _, err := w.Write(line); err != nil {
			l.dropped.Add(1)
		}
	}
}

// Close writes what is left and stops, or leaves a log alone that takes nothing. It
// may be called twice.
func (l *logWriter) Close() error {
	l.once.Do(func() { close(l.stop) })
	late := time.NewTimer(logCloseWait)
	defer late.Stop()
	select {
	case <-l.done:
	case <-late.C:
	}
	return nil
}

var _ zerolog.LevelWriter = (*logWriter)(nil)

// levelOf is zerolog's level of a checked name; "off" disables.
func levelOf(name string) zerolog.Level {
	if name == "off" {
		return zerolog.Disabled
	}
	level, err := zerolog.ParseLevel(name)
	if err != nil || name == "" {
		return zerolog.InfoLevel
	}
	return level
}
