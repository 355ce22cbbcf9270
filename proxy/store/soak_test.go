package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
)

const (
	// soakChild names the file on which a copy of this test binary puts until it
	// is killed.
	soakChild = "NEARSIDE_STORE_SOAK_CHILD"
	// soakBytes is the child's MaxBytes.
	soakBytes = "NEARSIDE_STORE_SOAK_BYTES"
	// soakRounds is how often it is killed; a few times when not set.
	soakRounds = "NEARSIDE_STORE_SOAK_ROUNDS"
)

// putUntilKilled prints the id of each response that Put says is stored.
func putUntilKilled(path string) {
	most, err := strconv.ParseInt(os.Getenv(soakBytes), 10, 64)
	if err != nil {
		panic("BUG: " + soakBytes + ": " + err.Error())
	}
	s, err := Open(Options{Path: path, MaxBytes: most, MaxAge: -1})
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	for g := range 4 {
		go func() {
			before := ""
			for i := 0; ; i++ {
				r := turn("", fmt.Sprintf("%d_%d_%d", os.Getpid(), g, i), before)
				r.Resource = fmt.Appendf(nil, `{"id":%q,"pad":"%s"}`, r.ID, bytes.Repeat([]byte("x"), i%50*100))
				if err := s.Put(context.Background(), r); err != nil {
					fmt.Println("put:", err)
					os.Exit(1)
				}
				before = r.ID
				if i%20 == 19 {
					before = ""
				}
				mu.Lock()
				fmt.Println(r.ID)
				mu.Unlock()
			}
		}()
	}
	select {}
}

// kill -9 at any moment loses no response whose Put has returned, and never the
// file; nor while a sweep is removing the oldest all the time.
func TestKillLosesNothing(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no SIGKILL")
	}
	rounds := 3
	if n, err := strconv.Atoi(os.Getenv(soakRounds)); err == nil {
		rounds = n
	}
	t.Run("kept", func(t *testing.T) { soak(t, rounds, 1<<30, 400) })
	t.Run("swept", func(t *testing.T) { soak(t, rounds, bytesMin, 1500) })
}

func soak(t *testing.T, rounds int, most int64, linesMax int) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "responses.db")
	var stored []string
	for range rounds {
		child := exec.Command(self)
		child.Env = append(os.Environ(), soakChild+"="+path, fmt.Sprint(soakBytes, "=", most))
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		// The moment is random in what the child has done and in time: in the
		// middle of a batch, of a sweep, of bringing the log home.
		after, delay := rand.IntN(linesMax), time.Duration(rand.IntN(5000))*time.Microsecond
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			stored = append(stored, lines.Text())
			if n == after {
				time.AfterFunc(delay, func() { _ = child.Process.Kill() })
			}
		}
		var exit *exec.ExitError
		if err := child.Wait(); !errors.As(err, &exit) || exit.Exited() {
			t.Fatalf("the child was not killed: %v, it had said %q", err, stored[max(0, len(stored)-3):])
		}

		s := mustOpen(t, Options{Path: path, MaxAge: -1})
		inside(t, s, func(w *writer) error {
			var verdict string
			if err := w.row(`PRAGMA integrity_check`).Scan(&verdict); err != nil || verdict != "ok" {
				return fmt.Errorf("integrity_check: %q, %w", verdict, err)
			}
			return nil
		})
		if most == bytesMin {
			stored = stored[len(stored)-1:] // of the others, the oldest are gone
		}
		for _, id := range stored {
			if _, err := s.Get("", id); err != nil {
				t.Fatalf("%s was stored: %v", id, err)
			}
			if _, err := s.History("", id); err != nil {
				t.Fatalf("history of %s: %v", id, err)
			}
		}
		wantSound(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills, %d responses checked", rounds, len(stored))
}
