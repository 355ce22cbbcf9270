package command

import (
	"os"
	"path/filepath"
	"testing"
)

// A container's memory bounds Go's, wherever up the tree the bound stands.
func TestMemoryOfACgroup(t *testing.T) {
	f := func(self string, files map[string]string, want int64) {
		t.Helper()
		root := t.TempDir()
		for name, text := range files {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		at := filepath.Join(t.TempDir(), "cgroup")
		if err := os.WriteFile(at, []byte(self), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := cgroupBytes(at, root); got != want {
			t.Errorf("%q %v\n got %d\nwant %d", self, files, got, want)
		}
	}
	f("0::/\n", map[string]string{"memory.max": "268435456\n"}, 256<<20)
	f("0::/system.slice/nearside.service\n", map[string]string{"system.slice/nearside.service/memory.max": "max\n", "system.slice/memory.max": "1073741824\n"}, 1<<30)
	f("0::/a/b\n", map[string]string{"a/b/memory.max": "2000\n", "a/memory.max": "1000\n"}, 1000)
	f("0::/a\n", map[string]string{"a/memory.max": "max\n"}, 0)
	f("12:cpu:/x\n9:memory:/docker/1\n0::/x\n", map[string]string{"memory/memory.limit_in_bytes": "5000\n"}, 5000)
	f("9:memory:/x\n", map[string]string{"memory/x/memory.limit_in_bytes": "9223372036854771712\n"}, 0)
	f("", nil, 0)
	if got := cgroupBytes(filepath.Join(t.TempDir(), "none"), "/"); got != 0 {
		t.Errorf("without cgroups: %d", got)
	}
}
