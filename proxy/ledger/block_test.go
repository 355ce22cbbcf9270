package ledger

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// random returns a row with anything in it.
func random(rng *rand.Rand) Row {
	text := func() string {
		return []string{"", "a", "lmstudio/q", strings.Repeat("x", textBytes), "ä\x00\n"}[rng.IntN(5)]
	}
	few := func() int64 { return []int64{0, 0, 1, 127, 128, math.MaxInt64}[rng.IntN(6)] }
	span := func() time.Duration { return time.Duration(few()%1e15) / 1000 * 1000 }
	r := Row{ID: text(), At: time.UnixMilli(rng.Int64N(4e12) - 1e12), Key: text(), Requested: text(), Ref: text(), Provider: text(), Route: text(), Dialect: text(), Outcome: text(),
		Code: text(), Trail: text(), Stream: rng.IntN(2) == 0, Status: rng.IntN(600), Input: few(), Output: few(), Cached: few(), CacheWrite: few(), Reasoning: few(),
		Reported: rng.IntN(2) == 0, Estimated: rng.IntN(2) == 0, Queued: span(), First: span(), Took: span(), GapP50: span(), GapP95: span(), Attempts: rng.IntN(5)}
	if rng.IntN(2) == 0 {
		id := [12]byte{byte(rng.Int()), 0xff, 0, byte(rng.Int())}
		r.ID = idPrefix + hexOf(id[:])
	}
	if rng.IntN(2) == 0 {
		r.Cost, r.Saved = rng.Float64(), rng.ExpFloat64()
	}
	return r
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

func encoded(rows []Row) []byte {
	var e encoder
	e.reset()
	for i := range rows {
		e.add(&rows[i])
	}
	return e.bytes()
}

// TestBlocksHoldAnyRow, and whatever is changed in one is noticed.
func TestBlocksHoldAnyRow(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 40 {
		rows := make([]Row, n)
		for i := range rows {
			rows[i] = random(rng)
		}
		block := encoded(rows)
		got, err := rowsOf(block)
		if err != nil {
			t.Fatalf("%d rows: %v", n, err)
		}
		if diff := cmp.Diff(rows, got); diff != "" {
			t.Fatalf("%d rows:\n%s", n, diff)
		}
		for range 20 {
			bad := append([]byte(nil), block...)
			bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
			if _, err := rowsOf(bad); err == nil {
				t.Fatalf("%d rows: a changed bit is not noticed", n)
			}
			if _, err := rowsOf(block[:rng.IntN(len(block))]); err == nil {
				t.Fatalf("%d rows: a block that is cut off is read", n)
			}
		}
	}
}

// FuzzRowsOf: no block, whatever it is, takes more than it is worth or panics.
func FuzzRowsOf(f *testing.F) {
	f.Add(encoded(nil))
	f.Add(encoded([]Row{sample(1, noon), sample(2, noon)}))
	f.Fuzz(func(t *testing.T, data []byte) {
		rows, err := rowsOf(sealed(data))
		if err == nil && len(rows) > len(data) {
			t.Errorf("%d rows of %d bytes", len(rows), len(data))
		}
	})
}

// sealed gives a block the sum that fits it, so that the fuzzer gets behind it.
func sealed(block []byte) []byte {
	if len(block) < 5 {
		return block
	}
	return seal(append([]byte(nil), block[:len(block)-4]...))
}
