package bench

import (
	"os"
	"testing"
	"time"
)

// All ratios rest on the first number; the others are waiting time and a count.
func TestSchedstatGivesTimeOnAProcessor(t *testing.T) {
	good := func(in string, want time.Duration) {
		t.Helper()
		got, err := parseSchedstat([]byte(in))
		if err != nil || got != want {
			t.Fatalf("parseSchedstat(%q)\n got %v, %v\nwant %v", in, got, err, want)
		}
	}
	bad := func(in string) {
		t.Helper()
		if got, err := parseSchedstat([]byte(in)); err == nil {
			t.Fatalf("parseSchedstat(%q) = %v, want an error", in, got)
		}
	}
	good("1234567890 42 7\n", 1234567890*time.Nanosecond)
	good("0 0 0\n", 0) // a thread that never ran, or a kernel that does not count
	bad("")
	bad("12 13\n")
	bad("12 13 14 15\n")
	bad("12 x 14\n")
	bad("-1 0 0\n")
	bad("99999999999999999999 0 0\n")
}

func TestResidentIsBytes(t *testing.T) {
	got, err := parseResident([]byte("Name:\tnearside\nVmHWM:\t   99999 kB\nVmRSS:\t   19952 kB\nRssAnon:\t 8000 kB\n"))
	if want := int64(19952 << 10); err != nil || got != want {
		t.Fatalf("got %d, %v, want %d", got, err, want)
	}
	for _, in := range []string{"", "VmRSS:\n", "VmRSS:\t12 MB\n", "VmRSS:\tx kB\n"} {
		if got, err := parseResident([]byte(in)); err == nil {
			t.Errorf("parseResident(%q) = %d, want an error", in, got)
		}
	}
}

// A process whose threads are summed wrongly would look cheap: what this test
// burns on a second thread must be in the sum.
func TestCPUCountsAllThreads(t *testing.T) {
	if !canCount() {
		t.Log("no schedstat here: Overhead says so instead of measuring")
		return
	}
	before, err := cpu(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan uint64)
	for range 2 {
		go func() {
			x := uint64(1)
			for range 50_000_000 {
				x = x*6364136223846793005 + 1
			}
			done <- x
		}()
	}
	<-done
	<-done
	after, err := cpu(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if after <= before {
		t.Fatalf("cpu went from %v to %v while two goroutines worked", before, after)
	}
}
