package wire

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// stringEndSlowly is what stringEnd promises, a byte at a time.
func stringEndSlowly(p []byte, i int) (end, slack int) {
	for i < len(p) {
		switch {
		case p[i] == '"':
			return i + 1, slack
		case p[i] < ' ':
			return ^i, 0
		case p[i] != '\\':
			i++
			continue
		case i+1 >= len(p):
			return ^len(p), 0
		}
		switch escapes[p[i+1]] {
		case 0:
			return ^i, 0
		case 1:
			i += 2
			slack++
			continue
		}
		for k := i + 2; k < i+6; k++ {
			if k >= len(p) {
				return ^len(p), 0
			}
			if hexValue(p[k]) < 0 {
				return ^i, 0
			}
		}
		i += 6
		slack += 4
	}
	return ^len(p), 0
}

func checkStringEnd(t *testing.T, p []byte, i int) {
	t.Helper()
	end, slack := stringEnd(p, i)
	wantEnd, wantSlack := stringEndSlowly(p, i)
	if end < 0 {
		slack = wantSlack // says nothing of a malformed string
	}
	if end != wantEnd || slack != wantSlack {
		t.Fatalf("stringEnd(%q, %d) = %d, %d, want %d, %d", p, i, end, slack, wantEnd, wantSlack)
	}
}

// The vectors must see every byte as Go does.
func TestClassifyIsTheSameInGo(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for n := 1; n <= blocksMax; n++ {
		p := make([]byte, n<<6)
		for k := range p {
			p[k] = byte(k + n)
			if rnd.IntN(4) == 0 {
				p[k] = byte(rnd.Uint32())
			}
		}
		var got, want [blocksMax]block
		if !hasBlocks {
			t.Log("classify is not used on this machine")
			return
		}
		classifyGo(p, n, &want)
		if classify(p, n, &got); got != want {
			t.Fatalf("%d blocks of %q\n got %x\nwant %x", n, p, got, want)
		}
	}
}

// A long string is read in blocks: whatever stands at and across their edges
// must count as it does in a short one.
func TestLongStringsEndWhereShortOnesDo(t *testing.T) {
	eachWay(t, longStringsEndWhereShortOnesDo)
}

func longStringsEndWhereShortOnesDo(t *testing.T) {
	parts := []string{`\"`, `\\`, `\\\\\\`, `\n`, `\u00e9`, `\ud83d\ude00`, `\u12`, `\x`, `\`, `"`, "\x00", "\n", "\x1f", "\x7f", "é", "\xff", "/", "plain text ", strings.Repeat(`\\`, 40), strings.Repeat("a", 70)}
	for _, part := range parts {
		for at := range 200 {
			checkStringEnd(t, []byte(strings.Repeat("x", at)+part+strings.Repeat("y", 300)+`"`+strings.Repeat("z", 300)), 0)
			checkStringEnd(t, []byte(strings.Repeat(`\"`, at)+part+strings.Repeat("y", 300)), 0)
		}
	}
	for _, part := range []string{"", `\"`, `\\\`, "\n"} { // longer than is read in one go
		long := strings.Repeat(`words and \n`, stretchMax*64/12) + strings.Repeat("x", 40)
		for at := range 100 {
			checkStringEnd(t, []byte(long+strings.Repeat("y", at)+part+strings.Repeat("z", 300)+`"`), 0)
		}
	}
	rnd := rand.New(rand.NewPCG(2, 2))
	for range 20000 {
		var b []byte
		for n := rnd.IntN(60); n > 0; n-- {
			b = append(b, parts[rnd.IntN(len(parts))]...)
			if k := bytes.IndexByte(b, '"'); k >= 0 && rnd.IntN(3) > 0 {
				b[k] = 'q'
			}
		}
		b = append(b, strings.Repeat("t", rnd.IntN(400))...)
		checkStringEnd(t, b, rnd.IntN(len(b)+1))
	}
}

func FuzzStringEnd(f *testing.F) {
	f.Add([]byte(`plain\"\\\n\u00e9"`), uint16(70), uint16(300))
	f.Add([]byte("\\\x01"), uint16(63), uint16(300))
	f.Fuzz(func(t *testing.T, part []byte, before, behind uint16) {
		p := append(bytes.Repeat([]byte("x"), int(before%600)), part...)
		checkStringEnd(t, append(p, bytes.Repeat([]byte("y"), int(behind%600))...), 0)
	})
}
