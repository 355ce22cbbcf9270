//go:build amd64 && !purego

package wire

import "golang.org/x/sys/cpu"

// hasBlocks says whether classify may be used.
var hasBlocks = cpu.X86.HasAVX2

// wideBlocks says that a block is looked at in one register: on machines that have the
// instructions and do not run slower for them, which is since the second of VBMI came.
var wideBlocks = cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VBMI2

// classify describes the first n blocks of p.
func classify(p []byte, n int, out *[blocksMax]block) {
	if wideBlocks {
		classifyAVX512(&p[:n<<6][0], n, &out[0])
		return
	}
	classifyAVX2(&p[:n<<6][0], n, &out[0])
}

//go:noescape
func classifyAVX512(p *byte, n int, out *block)

//go:noescape
func classifyAVX2(p *byte, n int, out *block)
