package proxy

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// Times in the log are as zerolog writes them.
func TestMillisAreAsDurHasThem(t *testing.T) {
	f := func(d time.Duration) {
		t.Helper()
		var want bytes.Buffer
		log := zerolog.New(&want)
		log.Log().Dur("d", d).Send()
		if got := `{"d":` + string(appendMillis(nil, d)) + "}\n"; got != want.String() {
			t.Errorf("%d ns: %s, and Dur has %s", d, got, want.String())
		}
	}
	for _, d := range []time.Duration{0, 1, -1, 10, 999_999, 1e6, 1_000_001, 1_500_000, -2_300_000, time.Hour, 1000 * time.Hour} {
		f(d)
	}
	for range 2000 {
		f(time.Duration(rand.Int64N(1 << (10 + rand.IntN(40)))))
	}
}
