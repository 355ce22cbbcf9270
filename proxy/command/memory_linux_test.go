package command

import (
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// Only what is the program's file to the byte is given back.
func TestProgramPages(t *testing.T) {
	const smaps = `00400000-01403000 r-xp 00000000 fe:00 10789628                           /opt/near side
Rss:               12284 kB
Anonymous:             0 kB
00400000-01403000 r-xp 00000000 fe:00 10789628                           /opt/nearside
Size:              16396 kB
Anonymous:             0 kB
01403000-022b0000 r--p 01003000 fe:00 10789628                           /opt/nearside
Anonymous:             4 kB
022b0000-02300000 r--p 01eb0000 fe:00 10789628                           /opt/nearside
Anonymous:             0 kB
02300000-023bb000 rw-p 01eb0000 fe:00 10789628                           /opt/nearside
Anonymous:             0 kB
7f4134000000-7f4134190000 r--p 00000000 00:00 0
Anonymous:             0 kB
7f417ce54000-7f417cfaa000 r-xp 00026000 fe:00 326269                     /lib/libc.so.6
Anonymous:             0 kB
`
	want := []pages{{0x400000, 0x1003000}, {0x22b0000, 0x50000}}
	if got := programPages([]byte(smaps), "/opt/nearside"); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// The process has less in memory afterwards, and goes on.
func TestTrim(t *testing.T) {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	if len(programPages(maps, exe)) == 0 {
		t.Skip("this program's pages are its own")
	}
	before := ofFiles(t)
	trim()
	if after := ofFiles(t); after >= before {
		t.Errorf("%d kB of files are in memory, %d before", after, before)
	}
}

// ofFiles is RssFile of this process, in kB.
func ofFiles(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "RssFile:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
