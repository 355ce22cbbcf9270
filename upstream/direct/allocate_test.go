//go:build !race

package direct

import (
	"net"
	"testing"
)

func TestCallsAllocateNothing(t *testing.T) {
	ours, theirs := pair(t)
	p, q := make([]byte, 100), make([]byte, 100)
	vec := net.Buffers{q[:50], q[50:]}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := ours.Write(q); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ours.WriteNow(vec); err != nil {
			t.Fatal(err)
		}
		if _, err := theirs.Write(q); err != nil {
			t.Fatal(err)
		}
		if _, err := ours.Read(p); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
