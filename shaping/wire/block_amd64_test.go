//go:build amd64 && !purego

package wire

import "golang.org/x/sys/cpu"

// classifiers are those that this machine can run.
func classifiers() map[string]func([]byte, int, *[blocksMax]block) {
	all := map[string]func([]byte, int, *[blocksMax]block){"the chosen one": classify}
	if cpu.X86.HasAVX2 {
		all["AVX2"] = func(p []byte, n int, out *[blocksMax]block) { classifyAVX2(&p[0], n, &out[0]) }
	}
	if cpu.X86.HasAVX512BW {
		all["AVX-512"] = func(p []byte, n int, out *[blocksMax]block) { classifyAVX512(&p[0], n, &out[0]) }
	}
	return all
}
