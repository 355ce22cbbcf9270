package workload

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/goccy/go-json"
)

// Trace are the lengths of requests that were really sent, in their order.
type Trace struct{ pairs [][2]int32 }

const (
	traceMax     = 1_000_000
	traceLineMax = 64 << 10
)

// What files of traces call the two.
var (
	inputNames  = []string{"input", "input_tokens", "input_length", "prompt_tokens", "prompt_len", "contexttokens", "request tokens"}
	outputNames = []string{"output", "output_tokens", "output_length", "completion_tokens", "output_len", "generatedtokens", "response tokens"}
)

// ReadTrace reads a file of pairs: a line each, as "512 128", "512,128" or
// {"input":512,"output":128}. A first line may name the columns as the published traces
// do (ContextTokens,GeneratedTokens).
func ReadTrace(path string) (*Trace, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("lengths: %w", err)
	}
	defer f.Close()
	t, err := readTrace(f)
	if err != nil {
		return nil, fmt.Errorf("lengths: %s:%w", path, err)
	}
	return t, nil
}

func readTrace(r io.Reader) (*Trace, error) {
	t := &Trace{}
	scan := bufio.NewScanner(r)
	scan.Buffer(nil, traceLineMax)
	in, out := 0, 1
	first := true
	for n := 1; scan.Scan(); n++ {
		line := strings.TrimSpace(scan.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if len(t.pairs) == traceMax {
			return nil, fmt.Errorf("%d: more than %d pairs", n, traceMax)
		}
		head := first
		first = false
		if line[0] == '{' {
			a, b, err := pairOfObject(line)
			if err != nil {
				return nil, fmt.Errorf("%d: %w", n, err)
			}
			t.pairs = append(t.pairs, [2]int32{a, b})
			continue
		}
		fields := columns(line)
		if head {
			if i, o := column(fields, inputNames), column(fields, outputNames); i >= 0 && o >= 0 {
				in, out = i, o
				continue
			}
		}
		if len(fields) <= max(in, out) {
			return nil, fmt.Errorf("%d: %q has no two numbers: input and output tokens", n, line)
		}
		a, okA := tokens(fields[in])
		b, okB := tokens(fields[out])
		if !okA || !okB {
			return nil, fmt.Errorf("%d: %q is no pair of input and output tokens (1 to %d)", n, line, lengthMax)
		}
		t.pairs = append(t.pairs, [2]int32{a, b})
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf(" %w", err)
	}
	if len(t.pairs) == 0 {
		return nil, fmt.Errorf(" no pairs in it")
	}
	return t, nil
}

func columns(line string) []string {
	if strings.ContainsAny(line, ",;\t") {
		all := strings.FieldsFunc(line, func(r rune) bool { return r == ',' || r == ';' || r == '\t' })
		for i := range all {
			all[i] = strings.Trim(strings.TrimSpace(all[i]), `"`)
		}
		return all
	}
	return strings.Fields(line)
}

func column(fields, names []string) int {
	for i, f := range fields {
		for _, n := range names {
			if strings.EqualFold(f, n) {
				return i
			}
		}
	}
	return -1
}

func tokens(s string) (int32, bool) {
	n, err := strconv.Atoi(s)
	return int32(n), err == nil && n >= 1 && n <= lengthMax
}

func pairOfObject(line string) (in, out int32, err error) {
	var o map[string]any
	if err := json.Unmarshal([]byte(line), &o); err != nil {
		return 0, 0, err
	}
	find := func(names []string) int32 {
		for k, v := range o {
			if f, ok := v.(float64); ok && column([]string{k}, names) == 0 && f >= 1 && f <= lengthMax {
				return int32(f)
			}
		}
		return 0
	}
	if in, out = find(inputNames), find(outputNames); in == 0 || out == 0 {
		return 0, 0, fmt.Errorf("no input and output tokens in %.120s", line)
	}
	return in, out, nil
}

// Len is how many pairs there are.
func (t *Trace) Len() int { return len(t.pairs) }

// at is the n-th pair; after the last comes the first.
func (t *Trace) at(n int) (in, out int) {
	p := t.pairs[n%len(t.pairs)]
	return int(p[0]), int(p[1])
}

// mean is the mean pair.
func (t *Trace) mean() (in, out int) {
	var a, b int64
	for _, p := range t.pairs {
		a, b = a+int64(p[0]), b+int64(p[1])
	}
	n := int64(len(t.pairs))
	return int(a / n), int(b / n)
}
