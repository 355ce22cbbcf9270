package harness

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// PowerDir is where Linux tells what the machine's processors have used (RAPL).
const PowerDir = "/sys/class/powercap"

// Energy is what the machine that the harness runs on tells of its energy.
type Energy struct {
	Zones []string `json:"zones"` // what is counted: package-0, dram
	Error string   `json:"error,omitempty"`
}

// energyEvery is how often counters are read at the most beside the ends of steps, so
// that one which begins anew is noticed: the smallest hold some minutes.
const energyEvery = 10 * time.Second

// meter adds up what counters of energy say.
type meter struct {
	mu     sync.Mutex // guards all below
	zones  []zone
	joules float64
	read   time.Time
}

// zone is one counter, in µJ.
type zone struct {
	name, file string
	most, last uint64
}

// newMeter finds the counters below a folder: the packages and their memory, which
// nothing else counts again. It is nil where there are none that can be read.
func newMeter(dir string) (*meter, *Energy) {
	names, _ := filepath.Glob(filepath.Join(dir, "intel-rapl:*", "energy_uj"))
	var m meter
	var e Energy
	for _, file := range names {
		at := filepath.Dir(file)
		name := readWord(filepath.Join(at, "name"))
		if !strings.HasPrefix(name, "package") && name != "dram" {
			continue // psys and core are in or around what is counted
		}
		now, err := readNumber(file)
		if err != nil {
			if e.Error = err.Error(); os.IsPermission(err) {
				e.Error = file + " can be read by root alone"
			}
			continue
		}
		most, _ := readNumber(filepath.Join(at, "max_energy_range_uj"))
		m.zones = append(m.zones, zone{name, file, most, now})
		if !slices.Contains(e.Zones, name) {
			e.Zones = append(e.Zones, name)
		}
	}
	if len(m.zones) == 0 {
		if e.Error == "" {
			return nil, nil
		}
		return nil, &e
	}
	slices.Sort(e.Zones)
	return &m, &e
}

func readWord(file string) string {
	p, _ := os.ReadFile(file)
	return strings.TrimSpace(string(p))
}

func readNumber(file string) (uint64, error) {
	p, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(p)), 10, 64)
}

// used is all that was used since the meter was made, in J.
func (m *meter) used() float64 {
	if m == nil {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.read = time.Now()
	for i := range m.zones {
		z := &m.zones[i]
		now, err := readNumber(z.file)
		if err != nil {
			continue
		}
		more := now - z.last
		if now < z.last { // it began anew
			more = now + z.most - z.last
		}
		z.last = now
		m.joules += float64(more) / 1e6
	}
	return m.joules
}

// tick reads the counters if they were not read for long.
func (m *meter) tick() {
	if m == nil {
		return
	}
	m.mu.Lock()
	due := time.Since(m.read) > energyEvery
	m.mu.Unlock()
	if due {
		m.used()
	}
}
